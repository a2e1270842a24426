"""An agent that is killed while it works: how long until another one has done its task."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from benchmarks.echo_agent import HANG
from benchmarks.figures import Asked, Figure, figure
from benchmarks.nodes import AGENTS, POLL_S, READY_S, LocalNode, answers, run, two_nodes
from benchmarks.plan import Plan
from skerry.agents.verbs import AgentInfo, AgentName
from skerry.client.mesh import Mesh
from skerry.routing.verbs import ForgiveRequest, Score

VICTIM = "victim"


async def measure(plan: Plan) -> list[Figure]:
    """The victim is alpha's own, so that it is asked first; beta's does the task then."""
    async with two_nodes(plan.folder, "Hang") as (alpha, _, mesh):
        await answers(mesh, HANG, "nobody")
        await run("agent", "run", f"{AGENTS}:Hang", "--name", VICTIM, "--home", str(alpha.home))
        took_ms = [await _killed(alpha, mesh, f"round-{number}") * 1000 for number in range(plan.rounds)]
    return [figure("an agent is killed, another one answered", "ms", took_ms, asked=Asked(at_most=200))]


async def _killed(alpha: LocalNode, mesh: Mesh, what: str) -> float:
    log = alpha.home / "logs" / f"{VICTIM}.log"
    async with asyncio.timeout(READY_S):
        while (info := await mesh.ask("agent.show", AgentName(VICTIM), AgentInfo)).status != "available":  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)
        call = asyncio.create_task(mesh.call(HANG, f"{VICTIM} {what}"))
        while not (log.exists() and f"hangs for {what}\n" in log.read_text()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)
        began = time.perf_counter()
        os.kill(info.pid, signal.SIGKILL)
        await call
        took_s = time.perf_counter() - began
        await mesh.ask("reputation.forgive", ForgiveRequest(VICTIM), Score)  # or it is not asked again
        return took_s
