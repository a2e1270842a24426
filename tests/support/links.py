"""Links between simulated hosts, or over real sockets, with a household that lets everybody in and answers a few verbs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.errors import Refused, SkerryError
from skerry.identity.keys import KeyPair
from skerry.identity.pieces import joined
from skerry.ports import Network
from skerry.sim.clock import SimClock, SimRandom
from skerry.sim.link import Link as Wire
from skerry.sim.loop import run
from skerry.sim.network import SimNetwork
from tests.support.formation import key


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an `async def test_*` in virtual time."""

    @functools.wraps(test)
    def whole(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return whole


class Household:
    """What `Links` asks of a node. `refused` are the peers that it turns away; what happened is written down.

    Verbs: `echo`; `fail` (refuses); `crash` (a bug); `never` (until it is cancelled); `count` (its body says how many parts of
    1 byte it streams); `big` (its body says how many bytes it answers).
    """

    def __init__(self) -> None:
        self.refused: set[bytes] = set()
        self.clients: set[bytes] = set()  # peers that are no nodes
        self.ups: list[Link] = []
        self.downs: list[tuple[Link, SkerryError]] = []
        self.served: list[str] = []
        self.cancelled: list[str] = []
        self.parts_sent = 0

    def credentials(self) -> Credentials:
        return Credentials()

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        if peer.id in self.refused:
            raise Refused("not wanted here", code="not_granted", hint="go away")

    def is_node(self, peer: Peer) -> bool:
        return peer.id not in self.clients

    async def serve(self, served: Served) -> Body:
        self.served.append(served.verb)
        try:
            return await self._answer(served)
        except asyncio.CancelledError:
            self.cancelled.append(served.verb)
            raise

    async def _answer(self, served: Served) -> Body:
        match served.verb:
            case "echo":
                return served.body
            case "fail":
                raise Refused("no, because", code="a_new_code", hint="ask somebody else")
            case "never":
                await asyncio.Event().wait()
            case "count":
                for number in range(int(joined(served.body))):
                    await served.part(bytes([number % 256]))
                    self.parts_sent += 1
                return b"end"
            case "big":
                return bytes(int(joined(served.body)))
        raise LookupError(served.verb)  # as a bug in a handler would

    def link_up(self, link: Link) -> None:
        self.ups.append(link)

    def link_down(self, link: Link, reason: SkerryError) -> None:
        self.downs.append((link, reason))


class Side:
    """One node's links, and how to reach them."""

    def __init__(self, own: KeyPair, network: Network, *, name: str = "", seed: str = "") -> None:
        self.key = own
        self.name = name
        self.household = Household()
        self.address = ""
        self.links = Links(
            own,
            network=network,
            clock=SimClock(asyncio.get_running_loop()),
            random=SimRandom(seed or own.public.hex()),
            household=self.household,
        )

    @property
    def id(self) -> bytes:
        return self.key.public

    async def listen(self, address: str) -> None:
        self.address = (await self.links.listen(address)).address

    async def to(self, other: Side, *, timeout_s: float = 5.0) -> Link:
        return await self.links.to(other.id, [other.address], timeout_s=timeout_s)


class World:
    """Simulated hosts `alpha`, `beta`, ... that all listen. `alpha` has the lowest id, and so on."""

    def __init__(self, count: int = 2, *, wire: Wire | None = None, seed: int = 1) -> None:
        self.network = SimNetwork(SimRandom(seed), link=wire or Wire())
        keys = sorted((key(0x1000 + number) for number in range(count)), key=lambda pair: pair.public)
        names = ("alpha", "beta", "gamma", "delta", "epsilon")[:count]
        self.sides = [
            Side(pair, self.network.host(name, public_key=pair.public), name=name, seed=f"{seed}/{name}")
            for pair, name in zip(keys, names, strict=True)
        ]

    async def open(self) -> list[Side]:
        for side in self.sides:
            await side.listen(f"tcp://{side.name}:7420")
        return self.sides

    async def close(self) -> None:
        for side in self.sides:
            await side.links.close()
