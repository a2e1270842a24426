"""How soon a formation knows of a crash, and whether it takes anybody for gone who is not. serf beside it, where it is installed.

Thirty memberships in virtual time, and five nodes as processes on loopback, of which one is ended by `kill -9`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.figures import Asked, Figure, beside, figure
from benchmarks.nodes import LocalNode, node
from benchmarks.plan import Plan
from benchmarks.ports import free_port
from skerry.client.mesh import connect
from skerry.discovery.moves import State
from skerry.node.verbs import NodeList, Nothing
from skerry.sim.crowd import Crowd

MANY, FEW = 30, 5
KNOWN = Asked(at_most=5)
SETTLED_S = 10.0  # virtual
MINUTES_S, SHORT_S = 600.0, 60.0  # virtual
POLL_S = 0.05
PATIENCE_S = 60.0
VICTIM = 2


async def measure(plan: Plan) -> list[Figure]:
    is_short = plan.starts <= 2
    killed = [_ended(seed, Crowd.kill) for seed in range(plan.rounds)]
    lost = [_ended(seed, Crowd.crash) for seed in range(plan.rounds)]
    return [
        figure(f"kill -9 of one of {MANY} known to all (virtual)", "s", killed, asked=KNOWN),
        figure(f"power loss of one of {MANY} known to all (virtual)", "s", lost, asked=KNOWN),
        _wrongly_gone(SHORT_S if is_short else MINUTES_S),
        await _real(plan, rounds=1 if is_short else 3),
    ]


def _ended(seed: int, end: Callable[[Crowd, int], None]) -> float:
    crowd = Crowd(MANY, seed=f"bench/{seed}")
    crowd.run(SETTLED_S + crowd.random.random())
    began_s = crowd.now_s
    end(crowd, VICTIM)
    crowd.run(SETTLED_S)
    return crowd.known_s(VICTIM, State.GONE, since_s=began_s)


def _wrongly_gone(seconds: float) -> Figure:
    """One of them gets a processor for a twentieth of the time, another one stops for 2 s again and again."""
    crowd = Crowd(MANY, seed="bench")
    crowd.run(SETTLED_S)
    crowd.stall_again(3, seconds=2.0, every_s=6.3)
    crowd.stall_again(11, seconds=0.95, every_s=1.0)
    crowd.run(seconds)
    wrong = sum(seen.state is State.GONE for seen in crowd.seen)
    name = f"wrongly gone of {MANY} in {seconds / 60:g} min, one starved, one stopping (virtual)"
    return figure(name, "", [wrong], asked=Asked(at_most=0))


async def _real(plan: Plan, *, rounds: int) -> Figure:
    name = f"kill -9 of one of {FEW} known to all"
    has_serf = plan.peers and shutil.which("serf") is not None
    if plan.peers and not has_serf:
        print("serf is not measured: there is no serf on the path", file=sys.stderr)
    ours, theirs = [], []
    for number in range(rounds):
        ours.append(await _killed_node(plan, number))
        if has_serf:
            theirs.append(await _killed_serf())
    return beside(name, "s", ours, peer="serf", peer_rounds=theirs, asked=KNOWN) if has_serf else figure(name, "s", ours, asked=KNOWN)


async def _killed_node(plan: Plan, number: int) -> float:
    folder = plan.folder / f"round-{number}"
    folder.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(node(folder / "node-0"))]
        ticket = await _ticket(nodes[0])
        nodes += [await stack.enter_async_context(node(folder / f"node-{n}", ticket=ticket)) for n in range(1, FEW)]
        await _until(lambda: _all_say(nodes, nodes, "alive"))
        began = time.perf_counter()
        nodes[VICTIM].process.kill()
        others = [one for one in nodes if one is not nodes[VICTIM]]
        await _until(lambda: _all_say(others, [nodes[VICTIM]], "gone"))
        return time.perf_counter() - began


async def _ticket(founder: LocalNode) -> str:
    from skerry.node.verbs import InviteReply, InviteRequest

    async with connect(founder.home) as mesh:
        return (await mesh.ask("node.invite", InviteRequest(uses=FEW), InviteReply)).ticket


async def _all_say(by: list[LocalNode], of: list[LocalNode], state: str) -> bool:
    wanted = {one.ready["node_id"] for one in of}
    for one in by:
        async with connect(one.home) as mesh:
            listed = await mesh.ask("node.list", Nothing(), NodeList)
        if not wanted <= {info.id for info in listed.nodes if info.presence == state}:
            return False
    return True


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(POLL_S)


# --- serf -------------------------------------------------------------------------------------------------------------------------


async def _killed_serf() -> float:
    async with _serfs() as (agents, doors):
        await _until(lambda: _serfs_say(doors, "alive", FEW))
        began = time.perf_counter()
        agents[VICTIM].kill()
        await agents[VICTIM].wait()
        del doors[VICTIM]
        await _until(lambda: _serfs_say(doors, "failed", 1))
        return time.perf_counter() - began


@contextlib.asynccontextmanager
async def _serfs() -> AsyncIterator[tuple[list[asyncio.subprocess.Process], list[str]]]:
    """Agents of one cluster, and where each is asked."""
    places, doors = [[f"127.0.0.1:{free_port()}" for _ in range(FEW)] for _ in range(2)]
    agents: list[asyncio.subprocess.Process] = []
    try:
        for number, (place, door) in enumerate(zip(places, doors, strict=True)):
            options = [f"-node=n{number}", f"-bind={place}", f"-rpc-addr={door}", "-profile=lan", f"-retry-join={places[0]}"]
            silent = asyncio.subprocess.DEVNULL
            agents.append(await asyncio.create_subprocess_exec("serf", "agent", *options, stdout=silent, stderr=silent))
        yield agents, doors
    finally:
        for agent in agents:
            with contextlib.suppress(ProcessLookupError):
                agent.kill()
            await agent.wait()


async def _serfs_say(doors: list[str], status: str, count: int) -> bool:
    for door in doors:
        options = ["members", f"-rpc-addr={door}", f"-status={status}", "-format=json"]
        asked = await asyncio.create_subprocess_exec("serf", *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
        said, _ = await asked.communicate()
        if asked.returncode or len(json.loads(said).get("members") or []) != count:
            return False
    return True
