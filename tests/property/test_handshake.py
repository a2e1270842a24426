"""Handshakes with a third party on the wire: whatever is changed, swapped or replayed, nobody is taken for somebody else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skerry.channel.framing import ANSWER, HELLO, PROOF, REFUSE, WELCOME, Frame
from skerry.channel.handshake import Effect, Handshake, Proved, Purpose, Send, State
from tests.support.formation import STRANGER
from tests.support.handshakes import DIALLER, LINK, LISTENER, dialler, listener, ours
from tests.support.plain import outcome

ANY_BYTES = st.binary(max_size=40) | st.just(bytes(32)) | st.sampled_from([DIALLER.public, LISTENER.public, STRANGER.public])
SMALL = st.integers(0, 3)
ANY_FRAME = st.one_of(
    st.tuples(st.just(HELLO), SMALL, SMALL, ANY_BYTES, ANY_BYTES, st.sampled_from([*Purpose, "x"]).map(str), ANY_BYTES, SMALL),
    st.tuples(st.just(ANSWER), SMALL, ANY_BYTES, ANY_BYTES, ANY_BYTES, SMALL),
    st.tuples(st.just(PROOF), ANY_BYTES, ANY_BYTES, ANY_BYTES),
    st.tuples(st.just(WELCOME), ANY_BYTES, ANY_BYTES, ANY_BYTES),
    st.tuples(st.just(REFUSE), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)),
    st.tuples(st.integers(1, 22), SMALL),
).map(list)


@given(dials=st.booleans(), said=st.lists(ANY_FRAME, max_size=6))
def test_whatever_a_stranger_says_proves_nothing(dials: bool, said: list[Frame]) -> None:
    handshake = dialler() if dials else listener()
    handshake.start()
    for frame in said:
        effects = outcome(handshake.receive, frame)
        assert isinstance(effects, list), "a handshake answers, it does not raise"
        assert not any(isinstance(effect, Proved) for effect in effects)
    assert handshake.state is not State.OPEN


class Eavesdropper(RuleBasedStateMachine):
    """Several connections between two honest nodes and one stranger; the wire may deliver any frame that was ever sent to anybody.

    On every connection the transport has a binding of its own, as TLS with one listener's certificate would not even have: so what
    protects is the nonces, the roles and the keys.
    """

    @initialize()
    def start(self) -> None:
        self._sides: list[tuple[Handshake, bytes]] = []  # with who it is
        self._seen: list[Frame] = []
        self._partner: dict[int, int] = {}

    @rule(stranger=st.booleans())
    def connect(self, stranger: bool) -> None:
        if len(self._sides) > 8:
            return
        number = len(self._sides)
        near = dialler(STRANGER if stranger else DIALLER, nonce=number + 1)
        near.ours = ours(near.ours.key, number + 1)
        far = listener(nonce=number + 100)
        self._partner[number], self._partner[number + 1] = number + 1, number
        for side in (near, far):
            self._sides.append((side, side.ours.key.public))
            self._note(len(self._sides) - 1, side.start())

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if not self._seen:
            return
        number = data.draw(st.integers(0, len(self._sides) - 1))
        frame = data.draw(st.sampled_from(self._seen))
        self._note(number, self._sides[number][0].receive(frame))

    @rule(data=st.data())
    def deliver_as_it_should_be(self, data: st.DataObject) -> None:
        """So that handshakes come to an end at all."""
        if not self._sides:
            return
        number = data.draw(st.integers(0, len(self._sides) - 1))
        sent = self._sides[self._partner[number]][0]
        last = [frame for frame in self._seen if id(frame) in self._from.get(id(sent), set())]
        if last:
            self._note(number, self._sides[number][0].receive(last[-1]))

    def _note(self, number: int, effects: list[Effect]) -> None:
        side, _ = self._sides[number]
        if not hasattr(self, "_from"):
            self._from: dict[int, set[int]] = {}
        for effect in effects:
            if isinstance(effect, Send):
                self._seen.append(effect.frame)
                self._from.setdefault(id(side), set()).add(id(effect.frame))
            elif isinstance(effect, Proved):
                self._check(number, effect.peer.id)
                if not side.dialler:
                    self._note(number, side.welcome(link=LINK))

    def _check(self, number: int, claimed: bytes) -> None:
        """Whoever is proved to be there is the one who made the connection's other end, in this very connection."""
        partner, identity = self._sides[self._partner[number]]
        assert claimed == identity
        assert partner.state in (State.PROOF_SENT, State.OPEN, State.JUDGING, State.DEAD)
        assert self._sides[number][0]._peer_nonce == partner.ours.nonce

    @invariant()
    def the_open_are_proved(self) -> None:
        for side, _ in getattr(self, "_sides", []):
            assert side.state is not State.OPEN or side._peer_id in (DIALLER.public, LISTENER.public, STRANGER.public)


TestEavesdropper = Eavesdropper.TestCase
