"""One side of the way over a relay, as a process of its own: the relay, or whoever is called through it. Links alone, without a node."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from skerry.channel.calls import Body, Served
from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.links import Credentials, Links
from skerry.channel.transports import RealNetwork
from skerry.client.here import SystemClock, SystemRandom
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.keys import KeyPair
from skerry.identity.pieces import joined

ASK_S = 5.0


class Side:
    """Links that let everybody in and answer three verbs: `echo`, `open` (a pipe to the named node), `come` (to a pipe of the caller's)."""

    def __init__(self) -> None:
        self.key = KeyPair.from_seed(os.urandom(32))
        self.links = Links(self.key, network=RealNetwork(self.key), clock=SystemClock(), random=SystemRandom(), household=self)
        self.links.via.relays = self
        self.address = ""
        self._addresses: dict[bytes, str] = {}
        self._coming: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        self.address = (await self.links.listen("tcp://127.0.0.1:0")).address

    async def meet(self, relay: bytes, address: str) -> None:
        self._addresses[relay] = address
        await self.links.dial(address, expected=relay)

    async def ask(self, relay: bytes, node: bytes) -> bytes:
        link = self.links.get(relay)
        assert link is not None
        return bytes(joined(await link.call("open", node, timeout_s=ASK_S)))

    def addresses_of(self, relay: bytes) -> Sequence[str]:
        return [self._addresses[relay]]

    def ways(self) -> Sequence[str]:
        return ()

    def credentials(self) -> Credentials:
        return Credentials()

    def judge(self, peer: Peer, *, dialled: bool) -> None:
        """All of them are this benchmark's."""

    def is_node(self, peer: Peer) -> bool:
        return True

    async def serve(self, served: Served) -> Body:
        match served.verb:
            case "echo":
                return served.body
            case "open":
                link = self.links.get(bytes(joined(served.body)))
                assert link is not None
                _, token, called = self.links.pipes.prepare(served.link.id, link.id)
                await link.call("come", called, timeout_s=ASK_S)
                return token
            case "come":
                task = asyncio.create_task(self.links.via.come(served.link.id, bytes(joined(served.body))))
                self._coming.add(task)
                task.add_done_callback(self._coming.discard)
                return b""
        raise Refused("that is no verb of this benchmark", code=Code.UNKNOWN_VERB)

    def link_up(self, link: Link) -> None:
        """Nothing follows."""

    def link_down(self, link: Link, reason: SkerryError) -> None:
        """Nothing follows."""


async def _main(arguments: list[str]) -> None:
    side = Side()
    await side.listen()
    if arguments:
        await side.meet(bytes.fromhex(arguments[0]), arguments[1])
    print(side.key.public.hex(), side.address, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
