"""How this node uses a relay: to reach a node that can't be dialled, or, being one, to be reached.

Whoever dials asks the relay for a pipe to the node that it wants, over the link to the relay, and dials the relay anew with the token that
it gets. The node that is wanted is told by the relay, and does the same. Over the two connections, which the relay joins, the two then
speak TLS and do the handshake, as over a connection that one of them had dialled: the pin is checked, and the relay sees ciphertext.

The rule: a relay is believed nothing. What comes through a pipe proves itself as if it came from the street.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from skerry.channel.address import relay_of, via
from skerry.channel.framing import READY
from skerry.channel.stream import FrameStream
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.keys import short
from skerry.ports import Network

OPEN_TIMEOUT_S = 4.0  # to ask for a pipe and to have both ends of it: two handshakes, and a second of leeway
SECURE_TIMEOUT_S = 4.0  # for TLS through it
VIA_AFTER_S = 0.5  # how long a straight dial is waited for before a relay is tried beside it: two round trips round the planet
ADDRESSES_OF_RELAY_MAX = 4  # tried for one pipe: the first, as a rule, is where its link was dialled
LOST_MAX = 4096  # nodes of which it is known which way was lost
T = TypeVar("T")


class Relays(Protocol):
    """What the node knows of those that relay."""

    async def ask(self, relay: bytes, node: bytes) -> bytes:
        """Ask a relay for a pipe to a node; returns the token. Raises Refused or Unreachable with the relay's reason."""
        ...

    def addresses_of(self, relay: bytes) -> Sequence[str]:
        """Where the relay can be dialled."""
        ...

    def ways(self) -> Sequence[str]:
        """The addresses over relays at which we ourselves are reached."""
        ...


OpenPipe = Callable[[str, bytes, bytes], Awaitable[FrameStream]]  # address, relay, token -> a proven connection


class Via:
    """One node's ways over relays. `relays` is None for clients and whoever only joins: they go over none."""

    def __init__(self, network: Network, open_pipe: OpenPipe, accept: Callable[[FrameStream], None]) -> None:
        self.relays: Relays | None = None
        self._network = network
        self._open_pipe = open_pipe
        self._accept = accept
        self._lost: dict[bytes, str] = {}  # node -> the way over a relay by which it was last lost

    def in_order(self, node: bytes, said: Sequence[str]) -> list[str]:
        """The ways to a node over relays: those that it said, then those over our own relays, with which it may be linked too and could
        not tell us. The one that was lost last comes last: a relay may let everything through but what matters, and nobody sees that but
        the two ends."""
        own = self.relays.ways() if self.relays is not None else ()
        ways = [way for way in dict.fromkeys((*said, *own)) if relay_of(way) != node]
        return sorted(ways, key=lambda way: way == self._lost.get(node))

    def lost(self, node: bytes, way: str) -> None:
        """A link to a node ended without its two ends' doing."""
        if len(self._lost) >= LOST_MAX:
            self._lost.clear()
        self._lost[node] = way

    async def connect(self, address: str, node: bytes | None, *, timeout_s: float) -> FrameStream:
        """A connection to that address, secured end to end; nothing is proved yet. `node` is who is meant, where that is known. Raises
        Refused or Unreachable."""
        relay = relay_of(address)
        if relay is None:
            stream = await self._network.dial(address, FrameStream, timeout_s=timeout_s)
        elif node is not None:
            stream = await self._dial(relay, node, timeout_s=timeout_s)
        else:
            raise Refused(f"whom to reach over {short(relay)} is not said", code=Code.BAD_INPUT, hint="name the node instead")
        assert isinstance(stream, FrameStream)
        stream.path = address
        return stream

    async def _dial(self, relay: bytes, node: bytes, *, timeout_s: float) -> asyncio.Protocol:
        if self.relays is None:
            raise Unreachable(f"{short(node)} can be reached over a relay alone", hint="ask a node of its formation")
        try:
            async with asyncio.timeout(min(timeout_s, OPEN_TIMEOUT_S)):
                token = await self.relays.ask(relay, node)
                outer = await self._to_relay(relay, token)
        except SkerryError as error:
            kind = Unreachable if isinstance(error, Unreachable) else Refused
            raise kind(f"{over_relay(relay)}{error.message}", code=error.code, hint=error.hint) from error
        except TimeoutError:
            raise Unreachable(f"the relay {short(relay)} opened no pipe within {OPEN_TIMEOUT_S:g} s", hint="is it up?") from None
        return await self._network.secure(self._network.bare(outer.detach()), FrameStream, listener=False, timeout_s=SECURE_TIMEOUT_S)

    async def come(self, relay: bytes, token: bytes, *, on_dialled: Callable[[bool], None] = lambda met: None) -> None:
        """The relay has somebody for us: be the listener at the other end of its pipe. `on_dialled`: told whether the relay was there."""
        outer = None
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                outer = await self._to_relay(relay, token)
        finally:
            on_dialled(outer is not None)
        outer.send([READY])

        def made(stream: FrameStream) -> None:
            stream.path = via(relay)
            self._accept(stream)

        await self._network.secure(
            self._network.bare(outer.detach()), lambda: FrameStream(on_made=made), listener=True, timeout_s=SECURE_TIMEOUT_S
        )

    async def _to_relay(self, relay: bytes, token: bytes) -> FrameStream:
        error: SkerryError = Unreachable(f"no address of the relay {short(relay)} is known")
        if self.relays is not None:
            for address in self.relays.addresses_of(relay)[:ADDRESSES_OF_RELAY_MAX]:
                try:
                    return await self._open_pipe(address, relay, token)
                except SkerryError as failed:
                    error = failed
        raise error


def over_relay(relay: bytes) -> str:
    """How an error begins that is about the way over a relay: else it reads as if the node itself were not there."""
    return f"over {short(relay)}: "


async def straight_or_over(straight: Coroutine[Any, Any, T], otherwise: Callable[[], Coroutine[Any, Any, T]], *, is_said: bool = True) -> T:
    """What `straight` brings where it is quick; where it is slow or fails, what `otherwise` brings, and what is left of `straight` then.
    `is_said`: that there is a way over relays; else why there is none is no news."""
    direct = asyncio.get_running_loop().create_task(straight)
    try:
        await asyncio.wait({direct}, timeout=VIA_AFTER_S)
        if direct.done() and direct.exception() is None:
            return direct.result()
        try:
            return await otherwise()
        except SkerryError:
            if is_said and direct.done() and direct.exception() is not None:
                raise
            return await direct
    finally:
        direct.cancel()
        direct.add_done_callback(_look_away)


def _look_away(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # the other way was quicker: why this one failed is no news
