"""Values larger than a frame, over the bulk connection: offered, granted, sent in chunks, hashed, landed.

The receiver grants bytes as it takes them, so at most a window is under way; the sender hashes as it goes; a value is handed on only
when its size and its BLAKE3 hash fit. A call then names the landed value by its number.

The rule: a peer can make us hold at most `BYTES_MAX` in landing and landed values together, and no byte of them before it was granted.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from skerry.channel.admission import Room
from skerry.channel.framing import ABORT, CHUNK, CHUNK_BYTES, DONE, GRANT, LANDED, OFFER, WITHDRAW, Frame
from skerry.errors import Code, ProtocolError, Refused, SkerryError
from skerry.identity.codec import PAYLOAD_BYTES_MAX
from skerry.identity.pieces import Body, Pieces

BYTES_MAX = PAYLOAD_BYTES_MAX + 64 * 1024 * 1024  # one task's largest value, and some smaller ones beside it
TRANSFERS_MAX = 64  # landing or landed, per connection
_OURS = frozenset({OFFER, GRANT, CHUNK, DONE, LANDED, ABORT, WITHDRAW})
WINDOW_BYTES = 256 * 1024  # under way at once: a few chunks, so that small calls get their turn between them


@dataclass(slots=True)
class _Outgoing:
    data: Pieces
    sent: int
    granted: int
    hasher: blake3


@dataclass(slots=True)
class _Landing:
    data: bytearray  # grows as bytes come: to find room for all of them at once holds up everything else
    size: int
    granted: int
    hasher: blake3


@dataclass(slots=True)
class SendFrames:
    frames: list[Frame]


@dataclass(slots=True)
class MaySend:
    """More of an outgoing transfer was granted."""

    transfer: int


@dataclass(slots=True)
class Sent:
    """The receiver has it, whole."""

    transfer: int


@dataclass(slots=True)
class Aborted:
    """The receiver will not take it, or lost it."""

    transfer: int
    error: SkerryError


class Transfers:
    """Both directions of one bulk connection."""

    def __init__(self, room: Room | None = None) -> None:
        self._room = room or Room(BYTES_MAX)  # shared with other connections, and taken as bytes come: who only offers takes none
        self._next = 1
        self._outgoing: dict[int, _Outgoing] = {}
        self._landing: dict[int, _Landing] = {}
        self._landed: dict[int, bytearray] = {}
        self._held = 0
        self._last_offered = 0

    @property
    def held_bytes(self) -> int:
        """What the peer makes us hold now."""
        return self._held

    # --- sending --------------------------------------------------------------------------------------------------------------

    def offer(self, data: Body) -> Frame:
        """Begin to send; the transfer's number is `frame[1]`."""
        number = self._next
        self._next += 1
        self._outgoing[number] = _Outgoing(Pieces(data), 0, 0, blake3())
        return [OFFER, number, len(data)]

    def next_chunk(self, transfer: int) -> Frame | None:
        """The next chunk, or DONE after the last; None where nothing more is granted or the transfer is over."""
        outgoing = self._outgoing.get(transfer)
        if outgoing is None:
            return None
        left = len(outgoing.data) - outgoing.sent
        if left == 0:
            if outgoing.granted < 0:
                return None
            outgoing.granted = -1  # DONE goes once
            return [DONE, transfer, outgoing.hasher.digest()]
        size = min(left, CHUNK_BYTES, outgoing.granted)
        if size <= 0:
            return None
        piece = outgoing.data.read(outgoing.sent, size)
        outgoing.hasher.update(piece)
        outgoing.sent += size
        outgoing.granted -= size
        return [CHUNK, transfer, piece]

    def withdraw(self, transfer: int) -> Frame:
        """Nobody waits for it any more: stop sending, and let the receiver drop it, also where it has landed there."""
        self._outgoing.pop(transfer, None)
        return [WITHDRAW, transfer]

    # --- receiving ------------------------------------------------------------------------------------------------------------

    def take(self, transfer: int) -> bytearray:
        """A landed value, once. Raises ProtocolError where none of that number has landed."""
        data = self._landed.pop(transfer, None)
        if data is None:
            raise ProtocolError(f"a call names the transfer {transfer}, which has not landed")
        self._held -= len(data)
        self._room.give(len(data))
        return data

    def drop(self, transfer: int) -> None:
        """Forget a value that is landing or has landed: what named it came too late."""
        landing, landed = self._landing.pop(transfer, None), self._landed.pop(transfer, None)
        self._held -= landing.size if landing is not None else len(landed or b"")
        self._room.give(len(landing.data) if landing is not None else len(landed or b""))

    def drop_all(self) -> None:
        """The connection is gone."""
        for transfer in [*self._landing, *self._landed]:
            self.drop(transfer)

    def receive(self, frame: Frame) -> SendFrames | MaySend | Sent | Aborted | None:
        """What a frame on the bulk connection means. Raises ProtocolError where it may not be said."""
        kind = frame[0]
        if kind not in _OURS:
            raise ProtocolError(f"a frame of type {kind} has no place on a bulk connection")
        number = frame[1]
        if kind == OFFER:
            return SendFrames([self._offered(number, frame[2])])
        if kind == CHUNK:
            return self._chunk(number, frame[2])
        if kind == DONE:
            return SendFrames([self._done(number, frame[2])])
        if kind == GRANT:
            return self._granted(number, frame[2])
        if kind == LANDED:
            return Sent(number) if self._outgoing.pop(number, None) is not None else None
        if kind == ABORT:
            error = Refused(frame[3][:500], code=frame[2][:500], hint=_HINTS.get(frame[2], ""))
            return Aborted(number, error) if self._outgoing.pop(number, None) is not None else None
        self.drop(number)  # WITHDRAW
        return None

    def _offered(self, number: int, size: int) -> Frame:
        if number <= self._last_offered:
            raise ProtocolError(f"the transfer number {number} was used before")
        self._last_offered = number
        if size > PAYLOAD_BYTES_MAX:
            return [ABORT, number, Code.TOO_LARGE.value, f"a value of {size} bytes, at most {PAYLOAD_BYTES_MAX} are taken"]
        if self._held + size > BYTES_MAX or len(self._landing) + len(self._landed) >= TRANSFERS_MAX:
            return [ABORT, number, Code.BUSY.value, "too many large values are under way on this connection"]
        window = min(size, WINDOW_BYTES)
        self._landing[number] = _Landing(bytearray(), size, window, blake3())
        self._held += size
        return [GRANT, number, window]

    def _chunk(self, number: int, piece: bytes) -> SendFrames | None:
        landing = self._landing.get(number)
        if landing is None:
            if 0 < number <= self._last_offered:
                return None  # of a transfer that we aborted
            raise ProtocolError(f"a chunk of the transfer {number}, which was never offered")
        if len(piece) > landing.granted:
            raise ProtocolError("a chunk came that was not granted")
        if not self._room.take(len(piece)):
            self.drop(number)
            return SendFrames([[ABORT, number, Code.BUSY.value, "the large values of all peers together take too much here"]])
        landing.data += piece
        landing.hasher.update(piece)
        landing.granted -= len(piece)
        more = min(landing.size - len(landing.data), WINDOW_BYTES) - landing.granted
        if more <= 0 or landing.granted > WINDOW_BYTES // 2:
            return None
        landing.granted += more
        return SendFrames([[GRANT, number, more]])

    def _done(self, number: int, digest: bytes) -> Frame:
        landing = self._landing.pop(number, None)
        if landing is None:
            return [ABORT, number, Code.CANCELLED.value, "the transfer is not under way"]
        if len(landing.data) != landing.size or landing.hasher.digest() != digest:
            self._held -= landing.size
            self._room.give(len(landing.data))
            return [ABORT, number, Code.DECODE.value, "the value arrived damaged: its size or hash does not fit"]
        self._landed[number] = landing.data
        return [LANDED, number]

    def _granted(self, number: int, size: int) -> MaySend | None:
        outgoing = self._outgoing.get(number)
        if outgoing is None or outgoing.granted < 0:
            return None
        outgoing.granted += size
        return MaySend(number)


_HINTS = {
    Code.TOO_LARGE.value: "send it in several pieces, or say where it lies",
    Code.BUSY.value: "try again in a moment",
}
