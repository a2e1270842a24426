"""An hour of hostile hosts that come and go: the node holds no more at its end than at its beginning."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from skerry.channel.framing import CALL, CREDIT, HELLO, PING, encode_frame
from skerry.channel.handshake import NONCE_BYTES
from skerry.channel.link import Link
from skerry.channel.links import LINKS_EACH_MAX, UNPROVEN_MAX, Links
from skerry.channel.messages import pack_message
from skerry.channel.stream import FrameStream
from skerry.errors import Refused, SkerryError
from skerry.identity.codec import pack
from skerry.identity.grants import Role
from skerry.identity.keys import KeyPair
from skerry.node.strangers import LINKS_MAX as STRANGERS_MAX
from skerry.node.verbs import JoinRequest
from skerry.sim.clock import SimClock, SimRandom
from skerry.sim.machine import PORT, Machine
from skerry.sim.world import World
from tests.support.formation import key
from tests.support.links import Household, simulated

HOUR_S = 3600.0
HOSTS = 10
COME_EVERY_S = 15.0  # each host, on the average
GIVES_UP_S = 20.0  # where the node did not end it
REST_S = 120.0  # strangers are ended after a minute, and what silence leaves is known
BURST = 40


class Shown(Household):
    """Shows a grant, and answers nothing."""

    def __init__(self, grant: bytes) -> None:
        super().__init__()
        self._grant = grant

    def credentials(self) -> Any:
        return type(super().credentials())(self._grant)


class Hostile:
    """One host: a member whose key was stolen, and that also comes as a stranger."""

    def __init__(self, world: World, target: Machine, number: int, stolen: tuple[KeyPair, bytes]) -> None:
        self._world = world
        self._random = SimRandom(f"{world.seed}/hostile-{number}")
        self._host = world.network.host(f"hostile-{number}", public_key=stolen[0].public)
        self._address = f"tcp://{target.name}:{PORT}"
        self._stolen = stolen
        self.acts: Counter[str] = Counter()

    async def keep_coming(self, ends: float) -> None:
        acts = (self._garbage, self._half, self._stranger, self._guess, self._flood, self._false_credit, self._unread, self._twice)
        while self._world.now_s < ends:
            await asyncio.sleep(self._random.uniform(0, 2 * COME_EVERY_S))
            act: Callable[[], Awaitable[None]] = self._random.choice(acts)
            with contextlib.suppress(SkerryError, OSError):
                await act()
            self.acts[act.__name__] += 1

    # --- what it does ---------------------------------------------------------------------------------------------------------

    async def _garbage(self) -> None:
        await self._say(self._random.randbytes(self._random.randrange(1, 3000)))

    async def _half(self) -> None:
        hello = [HELLO, 1, 1, self._random.token(32), self._random.token(NONCE_BYTES), "call", b"", 0]
        await self._say(encode_frame(hello)[: self._random.randrange(1, 200)])

    async def _say(self, data: bytes) -> None:
        stream = await self._host.dial(self._address, FrameStream, timeout_s=5.0)
        assert isinstance(stream, FrameStream)
        assert stream.transport is not None
        stream.attach(lambda _: None, lambda _: None)
        stream.transport.write(data)
        await self._wait(lambda: stream.closed)
        stream.abort(Refused("bored", code="cancelled"))

    async def _stranger(self) -> None:
        link = await self._link(KeyPair.from_seed(self._random.token(32)), b"")
        for _ in range(BURST):
            with contextlib.suppress(SkerryError):
                await link.call("ping", b"\xa0", timeout_s=2.0)
        await self._leave(link)

    async def _guess(self) -> None:
        link = await self._link(KeyPair.from_seed(self._random.token(32)), b"")
        for _ in range(BURST):
            with contextlib.suppress(SkerryError):
                await link.call("node.join", pack_message(JoinRequest(self._random.token(16), "guess")), timeout_s=2.0)
        await self._leave(link)

    async def _flood(self) -> None:
        link = await self._link(*self._stolen)
        calls = [link.call("task.call", pack(["custom:echo", pack("x")]), timeout_s=5.0) for _ in range(BURST)]
        await asyncio.gather(*calls, return_exceptions=True)
        for _ in range(20 * BURST):
            link.connection.send([PING, 1])
        await self._leave(link)

    async def _false_credit(self) -> None:
        link = await self._link(*self._stolen)
        link.connection.send([CALL, 1, "task.call", 60_000, 32, pack(["custom:count", pack(1000)])])
        link.connection.send([CREDIT, 1, 1_000_000])
        await self._leave(link)

    async def _unread(self) -> None:
        """Streams of which nothing is taken."""
        link = await self._link(*self._stolen)
        body = pack(["custom:count", pack(1000)])
        streams = [await link.stream("task.call", body, timeout_s=600.0) for _ in range(5)]
        await self._leave(link)
        assert len(streams) == 5

    async def _twice(self) -> None:
        link = await self._link(*self._stolen)
        for _ in range(2):
            link.connection.send([CALL, 7, "ping", 1000, 0, b"\xa0"])
        await self._leave(link)

    async def _link(self, own: KeyPair, grant: bytes) -> Link:
        clock = SimClock(self._world.loop, start_ms=next(iter(self._world.machines.values())).clock.now_ms())
        links = Links(own, network=self._host, clock=clock, random=self._random, household=Shown(grant))
        link = await links.dial(self._address, expected=None)
        links._watch.stop()
        return link

    async def _leave(self, link: Link) -> None:
        """As it is: in the middle of everything, mostly without a word."""
        await self._wait(lambda: link.closed)
        link.abort(Refused("bored", code="cancelled"))

    async def _wait(self, ended: Callable[[], bool]) -> None:
        until = self._world.now_s + self._random.uniform(0, GIVES_UP_S)
        while not ended() and self._world.now_s < until:
            await asyncio.sleep(0.5)


def _stolen(target: Machine, number: int) -> tuple[KeyPair, bytes]:
    """A key that the formation has let in, as an operator whom nobody knows to be careless did it."""
    own = key(0x5000 + number)
    return own, target.node.trust.grant(own.public, Role.CLIENT).statement.signed


def _held(world: World, target: Machine) -> dict[str, int]:
    node = target.node
    return {
        "links": len(node.links.all()),
        "unproven": node.links.unproven,
        "strangers": len(node.strangers),
        "connections": len(world.network.open_from(target.name)),
        "asked": len(node.links._watch._asked),
        "calls": sum(link._session.served_calls + len(link._running) for link in node.links.all()),
        "callers waiting": len(node.links._turns._waiting),
        "queued": sum(resident.load for resident in node.host.all()),
        "tasks": len([task for task in asyncio.all_tasks() if not task.done()]),
        "records": sum(1 for kind in ("node", "agent", "grant", "revocation") for _ in node.ports.store.of_kind(kind)),
    }


@simulated
async def test_an_hour_of_hostile_hosts_leaves_nothing_behind() -> None:
    world = World("an hour")
    target, other = await world.formation(2)
    await target.run_agent("Echo")
    await target.run_agent("Count")
    await world.until(lambda: other.knows_agent("echo"), what="the other knows the agent")
    stolen = [_stolen(target, number) for number in range(HOSTS)]
    assert await other.call("custom:echo", 1) == 1
    gc.collect()
    before = _held(world, target)
    hosts = [Hostile(world, target, number, pair) for number, pair in enumerate(stolen)]
    ends = world.now_s + HOUR_S
    siege = [asyncio.create_task(host.keep_coming(ends)) for host in hosts]
    most: Counter[str] = Counter()
    honest = 0
    while world.now_s < ends:
        await asyncio.sleep(10.0)
        assert await other.call("custom:echo", honest) == honest
        honest += 1
        most |= Counter({name: count for name, count in _held(world, target).items() if name != "tasks"})
    await asyncio.gather(*siege)
    await asyncio.sleep(REST_S)
    gc.collect()
    after = _held(world, target)
    assert honest >= HOUR_S / 10.0 / 2
    acts = sum((host.acts for host in hosts), Counter[str]())
    assert len(acts) == 8, acts
    assert min(acts.values()) > 50, acts
    assert most["unproven"] <= UNPROVEN_MAX
    assert most["strangers"] <= STRANGERS_MAX
    assert most["links"] <= STRANGERS_MAX + HOSTS * LINKS_EACH_MAX
    assert {name: (before[name], count) for name, count in after.items() if count > before[name]} == {}
    await world.close()
