"""The second connection of a link, for values that do not fit a frame: chunks in turn with everything else.

The rule: after every chunk others get their turn, and a chunk leaves only when it was granted and the transport takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skerry.channel.framing import Frame
from skerry.channel.stream import FrameStream
from skerry.channel.transfer import Aborted, MaySend, SendFrames, Sent, Transfers
from skerry.errors import SkerryError


class Bulk:
    """Both directions of one bulk connection, over `transfer.Transfers`."""

    def __init__(self, stream: FrameStream, *, on_lost: Callable[[Bulk], None] | None = None) -> None:
        self._stream = stream
        self._transfers = Transfers()
        self._waiting: dict[int, asyncio.Future[bool]] = {}  # outgoing: resolved to True once it is sent, False to look again
        self._on_lost = on_lost
        stream.attach(self._on_frame, self._on_stream_lost)

    @property
    def closed(self) -> bool:
        return self._stream.closed

    @property
    def held_bytes(self) -> int:
        return self._transfers.held_bytes

    async def send(self, data: bytes | bytearray) -> int:
        """Send a value; returns its transfer number once the peer has it whole. Raises Refused or Unreachable."""
        offer = self._transfers.offer(data)
        number: int = offer[1]
        self._stream.send(offer)
        try:
            while True:
                await self._stream.writable()
                frame = self._transfers.next_chunk(number)
                if frame is not None:
                    self._stream.send(frame)
                    await asyncio.sleep(0)
                    continue
                waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
                if await waiting:
                    return number
        finally:
            self._waiting.pop(number, None)
            abort = self._transfers.give_up(number)
            if abort is not None:
                self._stream.send(abort)

    def take(self, number: int) -> bytearray:
        """A value that landed, once. Raises ProtocolError where the peer names one that did not."""
        return self._transfers.take(number)

    def close(self, reason: SkerryError) -> None:
        self._stream.close(reason)

    def _on_frame(self, frame: Frame) -> None:
        match self._transfers.receive(frame):
            case SendFrames(frames):
                for answer in frames:
                    self._stream.send(answer)
            case MaySend(number):
                self._wake(number, sent=False)
            case Sent(number):
                self._wake(number, sent=True)
            case Aborted(number, error):
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.done():
                    waiting.set_exception(error)
            case None:
                pass

    def _wake(self, number: int, *, sent: bool) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(sent)

    def _on_stream_lost(self, reason: SkerryError) -> None:
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(reason)
        if self._on_lost is not None:
            self._on_lost(self)
