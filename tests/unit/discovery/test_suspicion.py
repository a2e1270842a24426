"""How long a suspicion lasts."""

from __future__ import annotations

import math

from skerry.discovery.claims import Word, say
from skerry.discovery.suspicion import WITNESSES_MAX, Suspicion
from tests.support.presences import FORMATION, keys

SUBJECT, *WITNESSES = keys(12)


def suspected(count: int, *, wanted: int = 3) -> Suspicion:
    suspicion = Suspicion(began_s=10.0, shortest_s=2.0, longest_s=6.0, wanted=wanted)
    for witness in WITNESSES[:count]:
        suspicion.confirm(say(witness, FORMATION, Word.SUSPECT, subject=SUBJECT.public, incarnation=1))
    return suspicion


def test_it_lasts_the_shorter_the_more_confirm_it() -> None:
    times = [suspected(count).lasts_s for count in range(1, 6)]
    assert times[0] == 6.0
    assert math.isclose(times[1], 6 - 4 * math.log(2) / math.log(4))
    assert times[3] == times[4] == 2.0
    assert times == sorted(times, reverse=True)
    assert suspected(1).ends_s == 16.0


def test_where_nobody_could_confirm_it_is_short() -> None:
    assert suspected(1, wanted=0).lasts_s == 2.0


def test_a_witness_counts_once_and_there_are_only_so_many() -> None:
    suspicion = suspected(1)
    assert not suspicion.takes(WITNESSES[0].public)
    assert suspicion.takes(WITNESSES[1].public)
    assert not suspected(WITNESSES_MAX).takes(WITNESSES[WITNESSES_MAX].public)
