"""What is passed on, how often, and what drives it out."""

from __future__ import annotations

from skerry.discovery.claims import Word, say
from skerry.discovery.news import News
from tests.support.presences import FORMATION, keys

ANN, BOB, CYD = keys(3)
ALIVE = say(ANN, FORMATION, Word.ALIVE, subject=ANN.public, incarnation=1)
DOUBT = say(BOB, FORMATION, Word.SUSPECT, subject=ANN.public, incarnation=1)
REFUTED = say(ANN, FORMATION, Word.ALIVE, subject=ANN.public, incarnation=2)
OTHER = say(CYD, FORMATION, Word.ALIVE, subject=CYD.public, incarnation=1)


def test_each_is_told_so_often_and_then_forgotten() -> None:
    news = News()
    news.add(ALIVE)
    told = 0
    while len(news):
        assert news.pick(8, nodes=30) == [ALIVE]
        told += 1
    assert told == 8, "4 times the logarithm of 31, rounded up"


def test_what_was_told_least_comes_first() -> None:
    news = News()
    news.add(ALIVE)
    news.pick(1, nodes=30)
    news.add(OTHER)
    assert news.pick(1, nodes=30) == [OTHER]


def test_a_refutation_drives_the_suspicion_out() -> None:
    news = News()
    for claim in (ALIVE, DOUBT, OTHER):
        news.add(claim)
    news.add(REFUTED)
    assert set(news.pick(8, nodes=30)) == {REFUTED, OTHER}
    news.drop(ANN.public)
    assert news.pick(8, nodes=30) == [OTHER]
