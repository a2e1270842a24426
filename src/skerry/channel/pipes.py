"""The pipes that this node forwards for others: two connections, proved each by itself, joined so that bytes of one leave by the other.

    dialler                      relay                        called
      relay.open {called}  -->     relay.come {token}    -->
                           <--  token
      HELLO .. purpose pipe -->                           <--  HELLO .. purpose pipe
                           <--  WELCOME      WELCOME     -->
                                                          <--  READY
      TLS, and in it everything else: end to end, of which the relay sees ciphertext

A token is good for one connection, of one node, for five seconds. The dialler's bytes wait in the kernel until the other end is there.

The rule: a pipe is opened by somebody who may, to somebody who is linked with us, and is bounded in all that it takes (`pipe_quota.py`).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from skerry.channel.framing import READY, Frame
from skerry.channel.greeting import Greeting
from skerry.channel.handshake import LINK_BYTES, Peer
from skerry.channel.pipe_quota import COME_S, HELD_BYTES, IDLE_S, LEAVE_S, PipeQuota
from skerry.channel.stream import FrameStream
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.ports import Network, Random

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """Who may come with a token, and to which end of which pipe."""

    pipe: Pipe
    node: bytes
    is_called: bool


class Pipes:
    """All pipes of one relay."""

    def __init__(self, network: Network, random: Random) -> None:
        self._network = network
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._quota = PipeQuota(now=self._loop.time())
        self._tickets: dict[bytes, _Ticket] = {}
        self._open: dict[int, Pipe] = {}

    def __len__(self) -> int:
        return len(self._quota)

    @property
    def bytes_passed(self) -> int:
        return self._quota.bytes_passed

    def prepare(self, dialler: bytes, called: bytes, *, contact: bytes = b"") -> tuple[Pipe, bytes, bytes]:
        """A pipe that waits for its ends, and the tokens of the dialler and the called. `contact`: whose they are, where not ours. Raises
        Refused(busy)."""
        number = self._quota.open(dialler, called, contact=contact, now=self._loop.time())
        pipe = self._open[number] = Pipe(self, number)
        tokens = self._random.token(LINK_BYTES), self._random.token(LINK_BYTES)
        self._tickets[tokens[0]] = _Ticket(pipe, dialler, is_called=False)
        self._tickets[tokens[1]] = _Ticket(pipe, called, is_called=True)
        pipe.tokens = tokens
        return pipe, *tokens

    def came(self, greeting: Greeting, peer: Peer) -> None:
        """Somebody proved who it is, and shows a token."""
        ticket = self._tickets.get(peer.link)
        if ticket is None or ticket.node != peer.id:
            greeting.refuse(Refused("nobody is waited for with this token", code=Code.NOT_FOUND, hint="ask for another pipe"))
            return
        del self._tickets[peer.link]
        greeting.welcome(link=b"")
        if ticket.is_called:
            ticket.pipe.expect_ready(greeting.stream)
        else:
            ticket.pipe.take(greeting.stream)

    def bare(self, stream: FrameStream) -> asyncio.Transport:
        """The connection under it, without TLS of its own: what passes from now on is encrypted between the two ends."""
        return self._network.bare(stream.detach())

    def passed(self, pipe: Pipe, size_bytes: int) -> float:
        return self._quota.passed(pipe.number, size_bytes, now=self._loop.time())

    def ended(self, pipe: Pipe) -> None:
        self._quota.close(pipe.number)
        self._open.pop(pipe.number, None)
        for token in pipe.tokens:
            self._tickets.pop(token, None)

    def close(self) -> None:
        for pipe in list(self._open.values()):
            pipe.end("the relay shuts down")


class Pipe:
    """One pipe, from the moment that it was asked for."""

    def __init__(self, pipes: Pipes, number: int) -> None:
        self.number = number
        self.tokens: tuple[bytes, ...] = ()
        self._pipes = pipes
        self._ends: list[_End] = []
        self._waiting: FrameStream | None = None  # the called, which has not said that it is ready
        self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(COME_S, self._look)

    def expect_ready(self, stream: FrameStream) -> None:
        """The called is here; when it says so, its connection carries bytes."""
        self._waiting = stream

        def said(frame: Frame) -> None:
            if frame[0] != READY:
                raise ProtocolError(f"a frame of type {frame[0]} where a pipe begins")
            self._waiting = None
            self.take(stream)

        stream.attach(said, lambda _: self.end("the called went before it began"))

    def take(self, stream: FrameStream) -> None:
        """One end's connection: from now on its bytes are the other's."""
        try:
            transport = self._pipes.bare(stream)
        except SkerryError as error:
            self.end(error.message)
            return
        end = _End(self, transport)
        if self._is_over:
            transport.abort()
            return
        self._ends.append(end)
        if len(self._ends) == 1:
            end.pause("alone", paused=True)
            return
        first, second = self._ends
        first.other, second.other = second, first
        first.pause("alone", paused=False)
        log.debug("pipe %d is open", self.number)

    def passed(self, size_bytes: int) -> float:
        self._heard_at = self._loop.time()
        return self._pipes.passed(self, size_bytes)

    def end(self, why: str) -> None:
        """Both connections end, after what was written to them has left."""
        if self._is_over:
            return
        self._is_over = True
        self._timer.cancel()
        self._pipes.ended(self)
        if self._waiting is not None:
            self._waiting.close(Unreachable(why, code=Code.CONNECTION_LOST))
        for end in self._ends:
            end.finish()
        log.debug("pipe %d is closed: %s", self.number, why)

    def _look(self) -> None:
        idle_s = self._loop.time() - self._heard_at
        if len(self._ends) < 2:
            self.end(f"its ends were not both there within {COME_S:g} s")
        elif idle_s >= IDLE_S:
            self.end(f"nothing passed for {IDLE_S:g} s")
        else:
            self._timer = self._loop.call_later(IDLE_S - idle_s, self._look)


class _End(asyncio.Protocol):
    """One connection of a pipe. It is read while nothing keeps it: a missing or slow other end, or a debt of bytes."""

    def __init__(self, pipe: Pipe, transport: asyncio.Transport) -> None:
        self.other: _End | None = None
        self._pipe = pipe
        self._transport = transport
        self._kept_by: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=HELD_BYTES)

    def pause(self, reason: str, *, paused: bool) -> None:
        was_kept = bool(self._kept_by)
        (self._kept_by.add if paused else self._kept_by.discard)(reason)
        if self._transport.is_closing() or was_kept == bool(self._kept_by):
            return
        if self._kept_by:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def finish(self) -> None:
        self.other = None
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()
        self._timer = asyncio.get_running_loop().call_later(LEAVE_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            return  # it is over
        self.other._transport.write(data)
        pause_s = self._pipe.passed(len(data))
        if pause_s:
            self.pause("debt", paused=True)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._paid)

    def _paid(self) -> None:
        self.pause("debt", paused=False)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause("full", paused=True)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.pause("full", paused=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.other = None
        self._pipe.end("one of its ends went")
        if self._timer is not None:
            self._timer.cancel()
