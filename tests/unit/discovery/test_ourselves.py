"""What a node says of itself."""

from __future__ import annotations

from skerry.discovery.claims import INCARNATION_MAX, Claim, Word, say
from skerry.discovery.ourselves import REFUTATIONS_AT_ONCE, RETURNS_AT_ONCE, Ourselves
from tests.support.presences import FORMATION, keys

ANN, BOB = keys(2)


def test_what_is_as_new_as_our_word_is_outbid_and_what_we_never_said_is_not() -> None:
    us = Ourselves(ANN, FORMATION, incarnation=5)
    assert us.answers(us_suspected(5), now_s=1)
    assert us.claim == say(ANN, FORMATION, Word.ALIVE, subject=ANN.public, incarnation=6)
    assert us.answers(us_suspected(40), now_s=1)
    assert us.incarnation == 6
    assert us.answers(say(ANN, FORMATION, Word.AWAY, subject=ANN.public, incarnation=50), now_s=1)
    assert us.incarnation == 51


def test_away_and_here_again_are_each_newer_and_said_once() -> None:
    us = Ourselves(ANN, FORMATION, incarnation=5)
    assert us.go(away=True)
    assert not us.go(away=True)
    assert (us.claim.word, us.incarnation) == (Word.AWAY, 6)
    assert us.answers(us_suspected(6), now_s=1)
    assert us.claim.word is Word.AWAY, "a doubt does not bring us back"
    assert us.go(away=False)
    assert (us.claim.word, us.incarnation) == (Word.ALIVE, 8)


def test_nobody_makes_it_rise_without_end() -> None:
    us = Ourselves(ANN, FORMATION, incarnation=5)
    assert sum(us.answers(us_suspected(us.incarnation), now_s=1) for _ in range(100)) == REFUTATIONS_AT_ONCE
    ours = [say(ANN, FORMATION, Word.ALIVE, subject=ANN.public, incarnation=100 + number) for number in range(50)]
    assert sum(us.answers(claim, now_s=1) for claim in ours) == RETURNS_AT_ONCE
    us = Ourselves(ANN, FORMATION, incarnation=INCARNATION_MAX)
    us.go(away=True)
    assert us.incarnation == INCARNATION_MAX


def us_suspected(incarnation: int) -> Claim:
    return say(BOB, FORMATION, Word.SUSPECT, subject=ANN.public, incarnation=incarnation)
