"""What is believed, and how much of it."""

from __future__ import annotations

from skerry.discovery.claims import Claim, Word, read, say
from skerry.discovery.scrutiny import CLAIMS_AT_ONCE, SUSPICIONS_AT_ONCE, Scrutiny
from tests.support.presences import FORMATION, keys

ANN, BOB, CYD = keys(3)


def doubt(incarnation: int) -> Claim:
    return say(ANN, FORMATION, Word.SUSPECT, subject=BOB.public, incarnation=incarnation)


def test_a_false_signature_is_not_believed() -> None:
    forged = read(doubt(1).data[:-1] + b"\0")
    assert forged is not None
    assert not Scrutiny(FORMATION).passes(forged, CYD.public, now_s=0)


def test_a_witness_without_end_is_passed_over_and_others_are_heard() -> None:
    scrutiny = Scrutiny(FORMATION)
    assert sum(scrutiny.may_doubt(ANN.public, now_s=5) for _ in range(100)) == SUSPICIONS_AT_ONCE
    assert scrutiny.may_doubt(CYD.public, now_s=5)


def test_a_sender_without_end_is_passed_over_and_others_are_heard() -> None:
    scrutiny = Scrutiny(FORMATION)
    claim = say(ANN, FORMATION, Word.ALIVE, subject=ANN.public, incarnation=1)
    assert sum(scrutiny.passes(claim, BOB.public, now_s=5) for _ in range(400)) == CLAIMS_AT_ONCE
    assert scrutiny.passes(claim, CYD.public, now_s=5)
    scrutiny.forget(BOB.public)
    assert scrutiny.passes(claim, BOB.public, now_s=5)
