"""Large values, both ways at once: each one ends once, whole or not at all, and nobody holds more than it granted."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skerry.channel.framing import ABORT, CHUNK, DONE, GRANT, LANDED, OFFER, WITHDRAW, Frame
from skerry.channel.transfer import TRANSFERS_MAX, WINDOW_BYTES, Aborted, MaySend, SendFrames, Sent, Transfers
from tests.support.plain import outcome

SIZES = st.sampled_from([1, 70_000, 70_000, 400_000])


class _Side:
    def __init__(self, mark: int) -> None:
        self.transfers = Transfers()
        self.inbox: deque[Frame] = deque()  # one connection: frames arrive in order
        self.mark = mark
        self.sent: dict[int, bytes] = {}
        self.outcomes: dict[int, str] = {}
        self.withdrawn: set[int] = set()
        self.taken: set[int] = set()  # of the other side's, by us


class TwoSides(RuleBasedStateMachine):
    @initialize()
    def connect(self) -> None:
        self._sides = (_Side(1), _Side(2))

    def _pair(self, first: bool) -> tuple[_Side, _Side]:
        return (self._sides[0], self._sides[1]) if first else (self._sides[1], self._sides[0])

    @rule(first=st.booleans(), size=SIZES)
    def offer(self, first: bool, size: int) -> None:
        side, other = self._pair(first)
        data = bytes([side.mark]) * size
        frame = side.transfers.offer(data)
        side.sent[frame[1]] = data
        other.inbox.append(frame)

    @precondition(lambda self: any(side.sent for side in self._sides))
    @rule(first=st.booleans(), data=st.data())
    def send_a_chunk(self, first: bool, data: st.DataObject) -> None:
        side, other = self._pair(first)
        for number in side.sent:
            frame = side.transfers.next_chunk(number)
            if frame is not None:
                assert number not in side.outcomes
                assert number not in side.withdrawn
                other.inbox.append(frame)

    @precondition(lambda self: any(side.inbox for side in self._sides))
    @rule(first=st.booleans(), count=st.integers(1, 20))
    def frames_arrive(self, first: bool, count: int) -> None:
        side, other = self._pair(first)
        for _ in range(min(count, len(side.inbox))):
            self._arrive(side, other, side.inbox.popleft())

    def _arrive(self, side: _Side, other: _Side, frame: Frame) -> None:
        match side.transfers.receive(frame):
            case SendFrames(frames):
                other.inbox.extend(frames)
            case MaySend(number):
                assert number not in side.outcomes
            case Sent(number):
                self._ended(side, number, "sent")
            case Aborted(number, error):
                self._ended(side, number, str(error.code))

    def _ended(self, side: _Side, number: int, how: str) -> None:
        assert number not in side.outcomes, "a transfer ended twice"
        assert number not in side.withdrawn
        side.outcomes[number] = how

    @precondition(lambda self: any(side.sent for side in self._sides))
    @rule(first=st.booleans(), data=st.data())
    def withdraw(self, first: bool, data: st.DataObject) -> None:
        side, other = self._pair(first)
        left = sorted(set(side.sent) - side.withdrawn - other.taken)
        if left:
            number = data.draw(st.sampled_from(left))
            side.withdrawn.add(number)
            other.inbox.append(side.transfers.withdraw(number))

    @precondition(lambda self: any("sent" in side.outcomes.values() for side in self._sides))
    @rule(first=st.booleans())
    def a_call_names_them(self, first: bool) -> None:
        side, other = self._pair(first)
        for number, how in side.outcomes.items():
            if how == "sent" and number not in side.withdrawn | other.taken:
                assert other.transfers.take(number) == side.sent[number]
                other.taken.add(number)

    @invariant()
    def memory_is_bounded_and_accounted_for(self) -> None:
        for side in getattr(self, "_sides", ()):
            transfers = side.transfers
            landing, landed = transfers._landing.values(), transfers._landed.values()
            assert transfers.held_bytes == sum(one.size for one in landing) + sum(map(len, landed))
            assert all(len(one.data) <= one.size for one in landing)
            assert len(transfers._landing) + len(transfers._landed) <= TRANSFERS_MAX
            assert all(0 <= one.granted <= WINDOW_BYTES for one in landing)

    def teardown(self) -> None:
        """Whatever happened: when all is delivered, each transfer has ended, and nothing is left at the receiver."""
        if not hasattr(self, "_sides"):
            return
        for _ in range(1_000):
            for first in (True, False):
                side, other = self._pair(first)
                other.inbox.extend(frame for number in side.sent if (frame := side.transfers.next_chunk(number)) is not None)
                while side.inbox:
                    self._arrive(side, other, side.inbox.popleft())
            if not any(side.inbox for side in self._sides) and not any(side.transfers._outgoing for side in self._sides):
                break
        for first in (True, False):
            side, other = self._pair(first)
            assert set(side.sent) == set(side.outcomes) | side.withdrawn
            for number, how in side.outcomes.items():
                if how == "sent" and number not in side.withdrawn | other.taken:
                    assert other.transfers.take(number) == side.sent[number]
            assert other.transfers.held_bytes == 0


TestTwoSides = TwoSides.TestCase

NUMBERS = st.integers(0, 4)
ANY_FRAME = st.one_of(
    st.tuples(st.just(OFFER), NUMBERS, st.integers(0, 2**63 - 1) | st.integers(0, 1000)),
    st.tuples(st.just(GRANT), NUMBERS, st.integers(0, 2**63 - 1)),
    st.tuples(st.just(CHUNK), NUMBERS, st.binary(max_size=300)),
    st.tuples(st.just(DONE), NUMBERS, st.binary(max_size=32)),
    st.tuples(st.just(LANDED), NUMBERS),
    st.tuples(st.just(WITHDRAW), NUMBERS),
    st.tuples(st.just(ABORT), NUMBERS, st.text(max_size=5), st.text(max_size=5)),
    st.tuples(st.just(9), st.text(max_size=5)),
    st.tuples(st.just(10)),
    st.tuples(st.sampled_from([7, 36]), NUMBERS),
).map(list)


@given(frames=st.lists(ANY_FRAME, max_size=20))
def test_whatever_a_peer_says_it_is_taken_or_refused(frames: list[Frame]) -> None:
    transfers = Transfers()
    transfers.offer(bytes(1000))
    transfers.offer(b"x")
    for frame in frames:
        outcome(transfers.receive, frame)
        while transfers.next_chunk(1) is not None or transfers.next_chunk(2) is not None:
            pass
        assert transfers.held_bytes >= 0
