"""Two sessions talk, in both directions, with frames under way: each call ends exactly once, and credit is never exceeded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skerry.channel.framing import Frame
from skerry.channel.session import Answer, CallCancelled, CallOpened, CreditGiven, Failed, PartArrived, Replied, Session
from skerry.errors import ProtocolError
from tests.support.plain import outcome


@dataclass
class _Side:
    session: Session = field(default_factory=Session)
    inbox: deque[Frame] = field(default_factory=deque)
    asked: dict[int, int] = field(default_factory=dict)  # our calls -> credit given in all
    ended: dict[int, str] = field(default_factory=dict)
    parts: dict[int, int] = field(default_factory=dict)  # that came
    serving: dict[int, int] = field(default_factory=dict)  # their calls that run here -> credit given, as far as we know
    sent: dict[int, int] = field(default_factory=dict)  # parts that we sent


class TwoSessions(RuleBasedStateMachine):
    @initialize()
    def connect(self) -> None:
        self._sides = (_Side(), _Side())

    def _pair(self, first: bool) -> tuple[_Side, _Side]:
        return (self._sides[0], self._sides[1]) if first else (self._sides[1], self._sides[0])

    @rule(first=st.booleans(), credit=st.sampled_from([0, 0, 1, 3, 32]))
    def call(self, first: bool, credit: int) -> None:
        side, other = self._pair(first)
        frame = side.session.call("echo", b"", timeout_ms=1000, credit=credit)
        side.asked[frame[1]] = credit
        side.parts[frame[1]] = 0
        other.inbox.append(frame)

    @rule(first=st.booleans(), data=st.data())
    def give_up(self, first: bool, data: st.DataObject) -> None:
        side, other = self._pair(first)
        if side.asked:
            number = data.draw(st.sampled_from(sorted(side.asked)))
            frame = side.session.cancel(number)
            assert (frame is None) == (number in side.ended)
            if frame is not None:
                side.ended[number] = "given up"
                other.inbox.append(frame)

    @rule(first=st.booleans(), data=st.data(), parts=st.integers(1, 5))
    def give_credit(self, first: bool, data: st.DataObject, parts: int) -> None:
        side, other = self._pair(first)
        streams = sorted(number for number, credit in side.asked.items() if credit)
        if streams:
            number = data.draw(st.sampled_from(streams))
            frame = side.session.give_credit(number, parts)
            if frame is not None:
                side.asked[number] += parts
                other.inbox.append(frame)

    @rule(first=st.booleans(), data=st.data(), how=st.sampled_from(["part", "part", "reply", "fail"]))
    def serve(self, first: bool, data: st.DataObject, how: str) -> None:
        side, other = self._pair(first)
        if not side.serving:
            return
        number = data.draw(st.sampled_from(sorted(side.serving)))
        if how == "part":
            left = side.session.credit_of(number)
            assert left == side.serving[number] - side.sent[number]
            if not left:
                return
            frame = side.session.part(number, b"part")
            side.sent[number] += 1
        else:
            del side.serving[number]
            frame = side.session.reply(number, b"") if how == "reply" else side.session.fail(number, "busy", "no")
        assert frame is not None
        other.inbox.append(frame)

    @rule(first=st.booleans(), data=st.data())
    def answer_what_is_over(self, first: bool, data: st.DataObject) -> None:
        """A handler that did not notice yet: nothing is sent for it."""
        side, _ = self._pair(first)
        over = sorted(set(side.sent) - set(side.serving))
        if over:
            number = data.draw(st.sampled_from(over))
            assert side.session.reply(number, b"") is None
            assert side.session.fail(number, "busy", "no") is None
            assert side.session.part(number, b"") is None
            assert side.session.credit_of(number) == 0

    @rule(first=st.booleans(), count=st.integers(1, 10))
    def frames_arrive(self, first: bool, count: int) -> None:
        side, other = self._pair(first)
        for _ in range(min(count, len(side.inbox))):
            self._arrive(side, other, side.inbox.popleft())

    def _arrive(self, side: _Side, other: _Side, frame: Frame) -> None:
        match side.session.receive(frame):
            case CallOpened(number, _, _, credit, _):
                assert number not in side.sent
                side.serving[number], side.sent[number] = credit, 0
            case CallCancelled(number):
                del side.serving[number]
            case CreditGiven(number):
                side.serving[number] += frame[2]
            case PartArrived(number, _):
                side.parts[number] += 1
                assert side.parts[number] <= side.asked[number], "more parts than credit"
                assert number not in side.ended, "a part came after the end"
            case Replied(number, _):
                self._end(side, number, "replied")
            case Failed(number, _, _, _, _):
                self._end(side, number, "failed")
            case Answer(answer):
                other.inbox.append(answer)

    def _end(self, side: _Side, number: int, how: str) -> None:
        assert number not in side.ended, "a call ended twice"
        side.ended[number] = how

    @invariant()
    def both_count_alike(self) -> None:
        for side in getattr(self, "_sides", ()):
            assert side.session.open_calls == len(side.asked) - len(side.ended)
            assert side.session.served_calls == len(side.serving)

    def teardown(self) -> None:
        """When everything has arrived and every handler has answered, every call has ended."""
        if not hasattr(self, "_sides"):
            return
        for _ in range(3):
            for first in (True, False):
                side, other = self._pair(first)
                while side.inbox:
                    self._arrive(side, other, side.inbox.popleft())
                for number in list(side.serving):
                    del side.serving[number]
                    frame = side.session.reply(number, b"")
                    assert frame is not None
                    other.inbox.append(frame)
        for side in self._sides:
            assert set(side.ended) == set(side.asked)


TestTwoSessions = TwoSessions.TestCase

NUMBERS = st.integers(0, 5) | st.integers(0, 2**63 - 1)
BODIES = st.binary(max_size=5) | NUMBERS
ANY_FRAME = st.one_of(
    st.tuples(st.just(1), NUMBERS, st.text(max_size=70), NUMBERS, NUMBERS, BODIES),
    st.tuples(st.sampled_from([2, 5]), NUMBERS, BODIES),
    st.tuples(st.just(3), NUMBERS, st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.booleans()),
    st.tuples(st.just(4), NUMBERS),
    st.tuples(st.just(6), NUMBERS, NUMBERS),
    st.tuples(st.sampled_from([7, 8]), NUMBERS),
    st.tuples(st.just(9), st.text(max_size=5)),
    st.tuples(st.just(10)),
    st.tuples(st.sampled_from([16, 17, 20, 22, 32, 36]), NUMBERS),
).map(list)


@given(frames=st.lists(ANY_FRAME, max_size=25))
def test_whatever_a_peer_says_it_is_taken_or_refused(frames: list[Frame]) -> None:
    session = Session()
    mine = {session.call("a", b"", timeout_ms=1)[1]: False, session.call("b", b"", timeout_ms=1, credit=2)[1]: False}
    for frame in frames:
        event = outcome(session.receive, frame)
        if isinstance(event, Replied | Failed):
            assert not mine[event.id], "ended twice"
            mine[event.id] = True
        if isinstance(event, ProtocolError):
            assert event.message
