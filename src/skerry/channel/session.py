"""Multiplexed calls and streams over one connection, as a machine: both sides ask, many calls at once.

It knows which calls are open, how much credit each stream has, and what a peer may say next; it knows no sockets and no clock.
`receive(frame)` says what a frame means; the other methods say what to send. A stream's callee may send as many parts as the caller
gave it credit for, so a slow reader holds back a fast writer and nobody buffers without bound.

The rule: a peer can make us hold at most `CALLS_MAX` calls and `CREDIT_MAX` parts per stream; what it may not say ends the connection
(ProtocolError), what comes late for a call that we gave up is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.channel.framing import AWAY, CALL, CANCEL, CREDIT, FAIL, NUMBER_MAX, PART, PING, PONG, REPLY, WANT_BULK, Frame
from skerry.errors import Code, ProtocolError
from skerry.identity.pieces import Body

CALLS_MAX = 2048  # that one peer may have open with us at once; above it the peer hears `busy`
CREDIT_MAX = 1024  # parts; a reader gives 32 at a time
CREDIT_FIRST = 32  # enough for a token stream over a slow link, little enough to hold
VERB_CHARACTERS_MAX = 64
IDLE_WEIGHT = 100  # of a frame that nobody has a reason to say often; one that comes too late for its call weighs 1
_IDLE = frozenset({PING, PONG, AWAY, WANT_BULK})
TEXT_CHARACTERS_MAX = 4000  # of a message or hint that a peer sends

Sent = Body | int  # a body, or the number of a transfer that has landed at the peer


@dataclass(slots=True)
class CallOpened:
    """The peer asks. `credit` 0: one reply is wanted; else a stream of parts. `body`: bytes, or a landed transfer's number."""

    id: int
    verb: str
    timeout_ms: int
    credit: int
    body: bytes | int


@dataclass(slots=True)
class CallCancelled:
    """The peer gave up a call it made."""

    id: int


@dataclass(slots=True)
class CreditGiven:
    """The peer can take more parts of a stream it asked for."""

    id: int


@dataclass(slots=True)
class Replied:
    """A call of ours ended well."""

    id: int
    body: bytes | int


@dataclass(slots=True)
class Failed:
    """A call of ours ended with a no."""

    id: int
    code: str
    message: str
    hint: str
    outcome_unknown: bool


@dataclass(slots=True)
class PartArrived:
    """One part of a stream that we asked for."""

    id: int
    body: bytes | int


@dataclass(slots=True)
class Answer:
    """Send this frame back; nothing else happened."""

    frame: Frame


@dataclass(slots=True)
class PeerAway:
    """The peer takes no new calls on this connection."""

    reason: str


@dataclass(slots=True)
class PongArrived:
    number: int


@dataclass(slots=True)
class BulkWanted:
    """The peer has a large value for us and can't dial: open a bulk connection."""


Event = CallOpened | CallCancelled | CreditGiven | Replied | Failed | PartArrived | Answer | PeerAway | PongArrived | BulkWanted


class Session:
    """The state of one connection's calls."""

    __slots__ = ("_calls", "_last_heard", "_next_id", "_served", "idle")

    def __init__(self) -> None:
        self._next_id = 1
        self._calls: dict[int, int] = {}  # ours: id -> credit that the callee has left; -1 where one reply is wanted
        self._served: dict[int, int] = {}  # theirs: id -> credit that we have left; -1 where one reply is wanted
        self._last_heard = 0
        self.idle = 0  # what the peer said that leads to nothing, by weight; whoever watches it sets it back

    @property
    def open_calls(self) -> int:
        return len(self._calls)

    @property
    def served_calls(self) -> int:
        return len(self._served)

    # --- we ask ---------------------------------------------------------------------------------------------------------------

    def call(self, verb: str, body: Sent, *, timeout_ms: int, credit: int = 0) -> Frame:
        """The frame that opens a call; its id is `frame[1]`."""
        number = self._next_id
        self._next_id = number + 1
        self._calls[number] = credit or -1
        return [CALL, number, verb, timeout_ms, credit, body]

    def cancel(self, number: int) -> Frame | None:
        """Give a call up; None where it has ended already."""
        return [CANCEL, number] if self._calls.pop(number, None) is not None else None

    def give_credit(self, number: int, parts: int) -> Frame | None:
        left = self._calls.get(number)
        if left is None:
            return None
        self._calls[number] = left + parts
        return [CREDIT, number, parts]

    # --- we answer ------------------------------------------------------------------------------------------------------------

    def is_served(self, number: int) -> bool:
        return number in self._served

    def credit_of(self, number: int) -> int:
        """How many parts we may send now; 0 where the call is gone or no stream."""
        return max(self._served.get(number, 0), 0)

    def part(self, number: int, body: Sent) -> Frame | None:
        """One part of a stream; None where the caller gave up. The caller of this method has seen `credit_of` above 0."""
        left = self._served.get(number)
        if left is None:
            return None
        assert left > 0, "a part without credit"
        self._served[number] = left - 1
        return [PART, number, body]

    def reply(self, number: int, body: Sent) -> Frame | None:
        return [REPLY, number, body] if self._served.pop(number, None) is not None else None

    def fail(self, number: int, code: str, message: str, hint: str = "", *, outcome_unknown: bool = False) -> Frame | None:
        if self._served.pop(number, None) is None:
            return None
        return _fail(number, code, message, hint, outcome_unknown)

    # --- the peer speaks ------------------------------------------------------------------------------------------------------

    def receive(self, frame: Frame) -> Event | None:
        """What a frame of a known shape means here. None: nothing (it came too late). Raises ProtocolError where it may not be said."""
        kind = frame[0]
        if kind == CALL:
            return self._called(frame)
        if kind == REPLY:
            return Replied(frame[1], frame[2]) if self._ended(frame[1]) else None
        if kind == PART:
            return self._part_came(frame)
        if kind == FAIL:
            return self._failed(frame)
        if kind == CANCEL:
            return CallCancelled(frame[1]) if self._served.pop(frame[1], None) is not None else None
        if kind == CREDIT:
            return self._credited(frame[1], frame[2])
        if kind in _IDLE:
            self.idle += IDLE_WEIGHT
        if kind == PING:
            return Answer([PONG, frame[1]])
        if kind == PONG:
            return PongArrived(frame[1])
        if kind == AWAY:
            return PeerAway(frame[1][:TEXT_CHARACTERS_MAX])
        if kind == WANT_BULK:
            return BulkWanted()
        raise ProtocolError(f"a frame of type {kind} has no place on a call connection")

    def _called(self, frame: Frame) -> Event:
        _, number, verb, timeout_ms, credit, body = frame
        if number <= self._last_heard:
            raise ProtocolError(f"the call number {number} was used before")
        if credit > CREDIT_MAX or not 0 < len(verb) <= VERB_CHARACTERS_MAX:
            raise ProtocolError(f"a call with a verb of {len(verb)} characters and a credit of {credit}")
        self._last_heard = number
        if len(self._served) >= CALLS_MAX:
            return Answer(_fail(number, Code.BUSY, f"{CALLS_MAX} calls of yours are open here already", "wait for some to end", False))
        self._served[number] = credit or -1
        return CallOpened(number, verb, timeout_ms, credit, body)

    def _ended(self, number: int) -> bool:
        if self._calls.pop(number, None) is not None:
            return True
        self._check_was_ours(number)
        return False

    def _failed(self, frame: Frame) -> Failed | None:
        if not self._ended(frame[1]):
            return None
        code, message, hint = (text[:TEXT_CHARACTERS_MAX] for text in frame[2:5])
        return Failed(frame[1], code, message, hint, frame[5])

    def _part_came(self, frame: Frame) -> PartArrived | None:
        number = frame[1]
        left = self._calls.get(number)
        if left is None:
            self._check_was_ours(number)
            return None
        if left <= 0:
            raise ProtocolError("a part of a stream came without credit for it")
        self._calls[number] = left - 1
        return PartArrived(number, frame[2])

    def _credited(self, number: int, parts: int) -> CreditGiven | None:
        left = self._served.get(number)
        if left is None:
            self.idle += 1
            return None
        if left < 0 or not 0 < parts <= CREDIT_MAX or left + parts > CREDIT_MAX:
            raise ProtocolError(f"a credit of {parts} parts is out of bounds")
        self._served[number] = left + parts
        return CreditGiven(number)

    def _check_was_ours(self, number: int) -> None:
        self.idle += 1
        if not 0 < number < self._next_id or number >= NUMBER_MAX:
            raise ProtocolError(f"an answer to the call {number}, which was never made")


def _fail(number: int, code: str, message: str, hint: str, outcome_unknown: bool) -> Frame:
    return [FAIL, number, str(code), _sayable(message), _sayable(hint), outcome_unknown]


def _sayable(text: str) -> str:
    """What fits a frame: of some length, and without the half characters that names of files may have."""
    text = text[:TEXT_CHARACTERS_MAX]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
