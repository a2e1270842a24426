"""Claims: who may say what, and that nobody says it for another."""

from __future__ import annotations

import pytest

from skerry.discovery.claims import CLAIM_BYTES, INCARNATION_MAX, Word, read, say
from tests.support.presences import FORMATION, keys

ANN, BOB, CYD = keys(3)


def test_a_claim_is_read_as_it_was_said() -> None:
    said = say(ANN, FORMATION, Word.SUSPECT, subject=BOB.public, incarnation=7)
    assert read(said.data) == said
    assert said.is_signed(FORMATION)
    assert len(said.data) == CLAIM_BYTES == 137


def test_a_claim_of_another_formation_is_signed_by_nobody() -> None:
    assert not say(ANN, FORMATION, Word.ALIVE, subject=ANN.public, incarnation=7).is_signed(bytes(32))


@pytest.mark.parametrize("at", [0, 1, 40, 41, 73, 136])
def test_no_byte_of_it_can_be_changed(at: int) -> None:
    data = bytearray(say(ANN, FORMATION, Word.SUSPECT, subject=BOB.public, incarnation=7).data)
    data[at] ^= 1
    claim = read(bytes(data))
    assert claim is None or not claim.is_signed(FORMATION)


def test_only_the_node_itself_says_that_it_is_alive_or_away() -> None:
    for word in (Word.ALIVE, Word.AWAY):
        assert read(say(ANN, FORMATION, word, subject=BOB.public, incarnation=7).data) is None
    assert read(say(ANN, FORMATION, Word.SUSPECT, subject=ANN.public, incarnation=7).data) is None


def test_what_is_no_claim_is_none() -> None:
    good = say(ANN, FORMATION, Word.ALIVE, subject=ANN.public, incarnation=INCARNATION_MAX).data
    assert read(good) is not None
    for data in (b"", good[:-1], good + b"\0", b"\x04" + good[1:], b"\x00" + good[1:]):
        assert read(data) is None
    assert read(say(ANN, FORMATION, Word.ALIVE, subject=ANN.public, incarnation=INCARNATION_MAX + 1).data) is None
