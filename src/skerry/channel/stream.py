"""A transport as frames: the asyncio edge of the channel, and the only place that reads and writes bytes.

A frame that comes alone leaves at once. Where several were sent within one turn of the event loop, those of the next turns wait for its
end and leave in one write, small control frames first. Many leave in several writes: the peer then works on the first ones while we
still work on the last. A peer that does not read makes our buffer grow only so far, then the connection ends.

The rule: whatever arrives, the worst that happens is that this one connection ends with a reason.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable

from skerry.channel.address import VIA
from skerry.channel.framing import CREDIT, GRANT, PING, PONG, Frame, FrameReader, encode_frame
from skerry.channel.pace import Pace
from skerry.errors import Code, ProtocolError, SkerryError, Unreachable

BUFFER_BYTES_MAX = 32 * 1024 * 1024  # written and not taken by the peer; 600 full frames
HIGH_WATER_BYTES = 256 * 1024  # above it large transfers wait
READ_BYTES = 256 * 1024  # taken from a transport at once: four full frames
FRAMES_PER_TURN = 64  # taken of one connection, or of all that are behind together, before the others have a turn: 256 KiB hold 37,000
OWN_FRAMES_PER_TURN = 64  # of a worker of ours: all that the agent says to everybody comes over this one
FRAMES_PER_WRITE = 16  # of those that wait for the end of a turn: with 64 calls in flight both sides work at once, 1.9 times as many
HELD_FRAMES_MAX = 1024  # between two users of a connection: more than a peer has to say in that time
_CONTROL = frozenset({CREDIT, GRANT, PING, PONG})  # may overtake: they name nothing that comes later

OnFrame = Callable[[Frame], None]
OnLost = Callable[[SkerryError], None]


def _nobody(_: Frame) -> None:
    raise ProtocolError("a frame came before anybody waited for one")


class _ReadBuffer(threading.local):
    """Where bytes arrive, one for all connections of a thread: what is read is copied out before anybody else reads.

    Without it asyncio makes room for the most that may come, for every read: three system calls and a page fault each time.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))


_arriving = _ReadBuffer()


class _Shared:
    """What the connections of one loop share."""

    def __init__(self) -> None:
        self.behind = 0  # how many of them have more frames than they had turns
        self.pace = Pace()


_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = weakref.WeakKeyDictionary()


class FrameStream(asyncio.BufferedProtocol, asyncio.Protocol):
    """One connection. Whoever uses it sets `on_frame` and `on_lost`, and may change them between frames.

    Transports of the real network fill the buffer, simulated ones hand bytes over; to its user that is the same.

    `on_lost` is called exactly once, with the reason: what the peer did, what we said in `close`, or what the system reports.
    Whoever hands a connection on calls `hold()`; frames then wait for the next user's `attach`, and none is lost between the two.
    """

    def __init__(self, *, on_made: Callable[[FrameStream], None] | None = None, own: bool = False) -> None:
        """`own`: between a node and its worker; it does not take turns with peers."""
        self._own = own
        self.on_frame: OnFrame = _nobody
        self.on_lost: OnLost | None = None
        self.transport: asyncio.Transport | None = None
        self.last_heard = 0.0  # loop time of the last bytes
        self.stirred = True  # something was said, either way, since whoever watches it said that it was not
        self._on_made = on_made
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self._out_control: list[bytes] = []
        self._sent_in_turn = 0  # frames, in this turn of the loop
        self._crowded = False  # the last turn had several: it pays to wait for the others
        self._writable: asyncio.Future[None] | None = None
        self._reason: SkerryError | None = None
        self._lost = False
        self._told = False  # that it is lost
        self._held: list[Frame] = []
        self._unsent_bytes_max = BUFFER_BYTES_MAX
        self._frames_left: int | None = None  # that may still come; None: as many as there are
        self._is_behind = False  # frames that are here wait for the next turn
        self._stuck_at = 0.0  # since when the transport takes no more
        self._loop = asyncio.get_running_loop()
        self._shared = _shared.setdefault(self._loop, _Shared())
        self._is_bulk = False
        self.path = ""  # the address that was dialled; `via:` also where we were, over that relay

    def carry_bulk(self) -> Pace:
        """This connection is for large values; returns what they share with the calls of this loop."""
        self._is_bulk = True
        return self._shared.pace

    def limit(self, *, frames: int | None, unsent_bytes: int = BUFFER_BYTES_MAX) -> None:
        """How much this peer may say from now on, and how much of what it asked for may wait until it reads."""
        self._frames_left, self._unsent_bytes_max = frames, unsent_bytes

    @property
    def address(self) -> str:
        """Where the peer is, as far as the transport says: its host; "" on this machine's own socket."""
        place = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(place[0]) if isinstance(place, tuple) and place else ""

    @property
    def is_relayed(self) -> bool:
        """Whether somebody between forwards it."""
        return self.path.startswith(VIA)

    @property
    def unsent_bytes(self) -> int:
        """What was written and the peer has not taken."""
        return self.transport.get_write_buffer_size() if self.transport is not None and not self._lost else 0

    @property
    def stuck_s(self) -> float:
        """For how long the peer has not taken enough of it that more could be written."""
        return self._loop.time() - self._stuck_at if self._writable is not None else 0.0

    def hold(self) -> None:
        """Keep what comes until somebody attaches."""
        self._held = []
        self.on_frame = self._hold
        self.on_lost = None

    def _hold(self, frame: Frame) -> None:
        if len(self._held) >= HELD_FRAMES_MAX:
            raise ProtocolError("the peer says more than may wait here")
        self._held.append(frame)

    def attach(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        """Take the connection over: what was held comes first, in the next turn of the loop."""
        self.on_lost = on_lost
        if not self._held and not self._lost:
            self.on_frame = on_frame
            return
        self._loop.call_soon(self._replay, on_frame, on_lost)

    def _replay(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        held, self._held = self._held, []
        self.on_frame = on_frame
        try:
            for frame in held:
                self.on_frame(frame)
        except ProtocolError as error:
            self.close(error)
        if self._lost and not self._told:
            self._tell()

    def detach(self) -> asyncio.Transport:
        """Give the connection away, for bytes that are no frames: whoever gets it sets its protocol in the same turn. Raises ProtocolError
        where the peer has said something already."""
        if self.closed or self.transport is None:
            raise self._reason or Unreachable("the connection is closed", code=Code.CONNECTION_LOST)
        if self._held or self._reader.held_bytes:
            error = ProtocolError("the peer said something before the pipe was open")
            self.abort(error)
            raise error
        self._flush()
        transport, self.transport = self.transport, None
        self.on_frame, self.on_lost = _nobody, None
        self._lost = True
        return transport

    @property
    def closed(self) -> bool:
        return self._lost or self._reason is not None

    @property
    def ended(self) -> bool:
        """Whether the transport is done with it too: nothing of it is under way any more."""
        return self._lost or self.transport is None

    def send(self, frame: Frame) -> None:
        """Send a frame, at the latest at the end of this turn. After the end of the connection it goes nowhere, as bytes on a cut wire."""
        if self.closed:
            return
        data = encode_frame(frame)
        (self._out_control if frame[0] in _CONTROL else self._out).append(data)
        self._sent_in_turn += 1
        if self._sent_in_turn == 1:
            self._loop.call_soon(self._end_turn)
            if not self._crowded:
                self._flush()
        elif not self._sent_in_turn % FRAMES_PER_WRITE:
            self._flush()

    async def writable(self) -> None:
        """Wait until the transport takes more. Raises Unreachable where the connection ended."""
        if self._writable is not None:
            await asyncio.shield(self._writable)
        if self.closed:
            raise self._reason or Unreachable("the connection is closed", code=Code.CONNECTION_LOST, outcome_unknown=True)

    def close(self, reason: SkerryError) -> None:
        """End it for `reason`, after what was sent so far has left."""
        if self._reason is None:
            self._reason = reason
        if self.transport is not None and not self._lost and not self.transport.is_closing():
            self._flush()
            self.transport.close()

    def abort(self, reason: SkerryError) -> None:
        """End it at once: the peer does not listen anyway."""
        if self._reason is None:
            self._reason = reason
        if self.transport is not None and not self._lost:
            self.transport.abort()

    # --- asyncio calls these --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.last_heard = self._loop.time()
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        if self._reason is not None:
            transport.abort()
        elif self._on_made is not None:
            self._on_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _arriving.view

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_arriving.view[:nbytes]))

    def data_received(self, data: bytes) -> None:
        self.last_heard = now = self._loop.time()
        if not self._is_bulk:
            self._shared.pace.heard(now)
        self._take(data)

    def _take(self, data: bytes = b"") -> None:
        """So many frames; what is left of them waits for the next turn, and the transport with it."""
        self.stirred = True
        if self._reason is not None or self._lost:
            self._catch_up()
            return
        many = self._shared.behind + (not self._is_behind)
        most = OWN_FRAMES_PER_TURN if self._own else max(FRAMES_PER_TURN // many, 1)
        try:
            frames = self._reader.feed(data, most=most)
            if self._frames_left is not None:
                self._frames_left -= len(frames)
                if self._frames_left < 0:
                    raise ProtocolError("the peer says more than it may", code=Code.BUSY)
            for frame in frames:
                self.on_frame(frame)
        except ProtocolError as error:
            self._catch_up()
            self.close(error)
            return
        if self._reader.has_more:
            if not self._is_behind and self.transport is not None:
                self._is_behind = True
                self._shared.behind += 1
                self.transport.pause_reading()
            self._loop.call_soon(self._take)
        elif self._is_behind and self.transport is not None:
            self._catch_up()
            self.transport.resume_reading()

    def _catch_up(self) -> None:
        if self._is_behind:
            self._is_behind = False
            self._shared.behind -= 1

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()
            self._stuck_at = self._loop.time()

    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if waiting is not None:
            waiting.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.resume_writing()
        if self._reason is None:
            said = f" ({exc.strerror or exc})" if isinstance(exc, OSError) else ""
            self._reason = Unreachable(f"the connection was lost{said}", code=Code.CONNECTION_LOST, outcome_unknown=True)
        self._tell()

    def _tell(self) -> None:
        if self.on_lost is not None and self._reason is not None:
            self._told = True
            self.on_lost(self._reason)

    def _end_turn(self) -> None:
        self._crowded, self._sent_in_turn = self._sent_in_turn > 1, 0
        self._flush()

    def _flush(self) -> None:
        if self.transport is None or self.transport.is_closing() or not (self._out or self._out_control):
            return
        pieces = self._out_control + self._out if self._out_control else self._out
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._out, self._out_control = [], []
        self.stirred = True
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > self._unsent_bytes_max:
            self.abort(Unreachable("the peer does not read what it asked for", code=Code.CONNECTION_LOST, outcome_unknown=True))
