"""Whatever is said in whatever order: one member's view follows from what its subject said, and many members agree in the end."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.discovery import moves
from skerry.discovery.claims import Claim, Word, read, say
from skerry.discovery.membership import CLAIMS_MAX
from skerry.discovery.moves import State
from skerry.discovery.profiles import PROFILES
from skerry.identity.keys import KeyPair
from skerry.sim.crowd import FORMATION, Crowd
from tests.support.presences import Alone, keys

OURS, *OTHERS = keys(5)
SUBJECT, *WITNESSES = OTHERS
BASE = Alone(4, greeted=False)
CLAIMS = st.one_of(
    st.builds(BASE.alive, st.just(SUBJECT), st.integers(1, 6)),
    st.builds(BASE.away, st.just(SUBJECT), st.integers(1, 6)),
    st.builds(BASE.suspect, st.sampled_from(WITNESSES), st.just(SUBJECT), st.integers(0, 7)),
)
STEPS = st.lists(st.tuples(st.sampled_from(OTHERS), st.lists(CLAIMS, max_size=3), st.sampled_from([0.0, 0.1, 1.0, 7.0])), max_size=12)


@given(STEPS)
def test_no_word_about_one_incarnation_touches_a_later_one(steps: list[tuple[KeyPair, list[Claim], float]]) -> None:
    alone = Alone(4, greeted=False)
    newest = 0
    for sender, claims, seconds in steps:
        for claim in claims:
            before = (alone.state(SUBJECT), alone.machine.incarnation_of(SUBJECT.public))
            alone.do(moves.Told(sender.public, (claim.data,)))
            after = (alone.state(SUBJECT), alone.machine.incarnation_of(SUBJECT.public))
            if claim.word is not Word.SUSPECT:
                newest = max(newest, claim.incarnation)
            assert after[1] == newest, "only what it said itself moves its incarnation"
            if claim.incarnation < before[1]:
                assert after == before
            if claim.word is Word.SUSPECT and claim.incarnation != before[1]:
                assert after == before
        alone.pass_time(seconds)


@given(STEPS)
def test_a_refutation_wins_whatever_was_said_before(steps: list[tuple[KeyPair, list[Claim], float]]) -> None:
    alone = Alone(4, greeted=False)
    for sender, claims, seconds in steps:
        alone.do(moves.Told(sender.public, tuple(claim.data for claim in claims)))
        alone.pass_time(seconds)
    alone.hear(WITNESSES[0], alone.alive(SUBJECT, 100))
    assert alone.state(SUBJECT) is State.ALIVE
    for _, claims, _ in steps:
        alone.hear(WITNESSES[1], *claims)
    assert alone.state(SUBJECT) is State.ALIVE, "nothing older comes back"


@given(STEPS)
def test_gone_stays_gone_without_a_newer_word_of_its_own(steps: list[tuple[KeyPair, list[Claim], float]]) -> None:
    alone = Alone(4, greeted=False)
    alone.hear(SUBJECT, alone.alive(SUBJECT, 6))
    alone.hear(WITNESSES[0], *[alone.suspect(witness, SUBJECT, 6) for witness in WITNESSES])
    alone.pass_time(4.0)
    assert alone.state(SUBJECT) is State.GONE
    for sender, claims, seconds in steps:
        alone.do(moves.Told(sender.public, tuple(claim.data for claim in claims)))
        alone.pass_time(seconds)
        assert alone.state(SUBJECT) is State.GONE


@given(st.lists(st.binary(max_size=200), max_size=40))
def test_no_bytes_do_harm(claims: list[bytes]) -> None:
    alone = Alone(4, greeted=False)
    alone.do(moves.Probed(SUBJECT.public, tuple(claims)))
    assert alone.machine.held_claims <= 2
    assert all(read(data) is None or len(data) == 137 for data in claims)
    alone.pass_time(1.0)
    assert all(len(e.claims) <= 2 * CLAIMS_MAX for e in alone.effects if isinstance(e, (moves.Tell, moves.Answer, moves.SendProbe)))


@settings(max_examples=5, deadline=None)
@given(st.sampled_from([8, 30, 90]), st.integers(0, 10_000))
def test_news_reaches_everybody_in_as_many_rounds_as_the_logarithm_of_their_number(count: int, seed: int) -> None:
    crowd = Crowd(count, seed=seed)
    crowd.run(8.0)
    began_s, subject = crowd.now_s, crowd.ones[1].key
    claim = say(subject, FORMATION, Word.ALIVE, subject=subject.public, incarnation=1000)
    crowd.tell(1, 0, (claim.data,))

    def knowing() -> int:
        return sum(crowd.machine(number).incarnation_of(subject.public) >= 1000 for number in range(count) if number != 1)

    while knowing() < count - 1:
        crowd.run(0.05)
        assert crowd.now_s - began_s < 10
    rounds = math.ceil(math.log2(count)) + 1
    assert crowd.now_s - began_s <= rounds * PROFILES["lan"].gossip_s


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000))
def test_after_any_cuts_stalls_and_ends_all_agree(seed: int) -> None:
    crowd = Crowd(8, seed=seed)
    crowd.run(5.0)
    for _ in range(6):
        a, b = crowd.random.sample(range(8), 2)
        match crowd.random.randrange(4):
            case 0:
                crowd.cut(a, b, one_way=crowd.random.random() < 0.5)
            case 1:
                crowd.stall(a, crowd.random.uniform(0.5, 6.0))
            case 2 if crowd.ones[a].is_running:
                crowd.kill(a) if crowd.random.random() < 0.5 else crowd.crash(a)
            case _ if not crowd.ones[a].is_running:
                crowd.start(a)
        crowd.run(crowd.random.uniform(0.2, 5.0))
    crowd.heal()
    crowd.run(20.0)
    for one in crowd.ones:
        assert crowd.views(one.number) == {State.ALIVE if one.is_running else State.GONE}, one.number
