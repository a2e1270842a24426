"""The second connection of a link, for values that do not fit a frame: chunks in turn with everything else.

The rule: after every chunk others get their turn, and a chunk leaves only when it was granted and the transport takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from skerry.channel.admission import Room
from skerry.channel.framing import CHUNK, INLINE_BYTES_MAX, Frame
from skerry.channel.stream import FrameStream
from skerry.channel.transfer import Aborted, MaySend, SendFrames, Sent, Transfers
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.pieces import Body

TAKING = 3.0  # what a chunk costs, over what it costs to hash and keep: it was read, decrypted and unpacked before


class Bulk:
    """Both directions of one bulk connection, over `transfer.Transfers`."""

    def __init__(self, stream: FrameStream, *, on_lost: Callable[[Bulk], None] | None = None, room: Room | None = None) -> None:
        """`room`: what the large values of all connections together may take."""
        self._stream = stream
        self._transfers = Transfers(room)
        self._sending: set[int] = set()
        self._outcomes: dict[int, SkerryError | None] = {}  # of those, what the receiver said: None where it has landed
        self._waiting: dict[int, asyncio.Future[None]] = {}  # of those, who waits for the receiver
        self._on_lost = on_lost
        self._pace = stream.carry_bulk()
        self._loop = asyncio.get_running_loop()
        stream.attach(self._on_frame, self._on_stream_lost)

    @property
    def closed(self) -> bool:
        return self._stream.closed

    @property
    def ended(self) -> bool:
        return self._stream.ended

    @property
    def held_bytes(self) -> int:
        return self._transfers.held_bytes

    async def send(self, data: Body) -> int:
        """Send a value; returns its transfer number once the peer has it whole. Raises Refused or Unreachable."""
        offer = self._transfers.offer(data)
        number: int = offer[1]
        self._stream.send(offer)
        self._sending.add(number)
        handed_over = False
        try:
            await self._send_chunks(number)
            error = self._outcomes[number]
            if error is not None:
                raise error
            handed_over = True
            return number
        finally:
            self._sending.discard(number)
            if self._outcomes.pop(number, None) is None and not handed_over:
                self.withdraw(number)

    async def _send_chunks(self, number: int) -> None:
        """Until the receiver has said how it ended."""
        while number not in self._outcomes:
            await self._stream.writable()
            began = self._loop.time()
            frame = self._transfers.next_chunk(number)
            if frame is not None:
                self._stream.send(frame)
                now = self._loop.time()
                await asyncio.sleep(self._pace.spent(now - began, now=now))
            elif number not in self._outcomes:
                waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
                try:
                    await waiting
                finally:
                    del self._waiting[number]

    def withdraw(self, number: int) -> None:
        """A value that was sent, perhaps whole, will not be named: the peer may drop it."""
        self._stream.send(self._transfers.withdraw(number))

    def take(self, number: int) -> bytearray:
        """A value that landed, once. Raises ProtocolError where the peer names one that did not."""
        return self._transfers.take(number)

    def drop(self, number: int) -> None:
        """Forget a value that landed for a call which is over."""
        self._transfers.drop(number)

    def close(self, reason: SkerryError) -> None:
        self._stream.close(reason)

    def _on_frame(self, frame: Frame) -> None:
        began = self._loop.time()
        event = self._transfers.receive(frame)
        if frame[0] == CHUNK:
            now = self._loop.time()
            pause = self._pace.spent((now - began) * TAKING, now=now)
            if pause and isinstance(event, SendFrames):
                self._loop.call_later(pause, self._answer, event.frames)
                return
        match event:
            case SendFrames(frames):
                self._answer(frames)
            case MaySend(number):
                self._wake(number)
            case Sent(number):
                self._ended(number, None)
            case Aborted(number, error):
                self._ended(number, error)
            case None:
                pass

    def _answer(self, frames: list[Frame]) -> None:
        for answer in frames:
            self._stream.send(answer)

    def _ended(self, number: int, error: SkerryError | None) -> None:
        """Noted also where the sender does not wait just now: it waits for the transport, or for its turn."""
        if number in self._sending:
            self._outcomes[number] = error
            self._wake(number)

    def _wake(self, number: int) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _on_stream_lost(self, reason: SkerryError) -> None:
        self._transfers.drop_all()
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(reason)
        if self._on_lost is not None:
            self._on_lost(self)


def refuse(size_bytes: int) -> NoReturn:
    """A large value for a peer that gets no second connection. Raises Refused(too_large)."""
    raise Refused(
        f"{size_bytes:,} bytes are too much between strangers, who may send each other {INLINE_BYTES_MAX:,} at once",
        code=Code.TOO_LARGE,
        hint="send less at once; contacts may send each other more: skerry contact invite",
    )
