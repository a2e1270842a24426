"""A record that comes from every peer of a formation is checked once: what is here is told by its bytes."""

from __future__ import annotations

import pytest

from skerry.identity.statement import Statement, parse
from skerry.records import replica as module
from skerry.records.record import Refusal
from tests.support.formation import MEMBER, NOW_MS, STRANGER
from tests.support.replicas import Home, said


def test_a_record_that_is_here_is_told_by_its_bytes_and_checked_no_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    home, record, newer = Home(), said(), said(counter=1)
    checked: list[bytes] = []

    def parse_and_count(signed: bytes) -> Statement:
        checked.append(signed)
        return parse(signed)

    monkeypatch.setattr(module, "parse", parse_and_count)
    assert home.takes(record, record, record) == ["", "superseded", "superseded"]
    assert checked == [record.signed]
    assert home.takes(newer, newer, record) == ["", "superseded", "superseded"], "what was here and is not any more is read again"
    assert checked == [record.signed, newer.signed, record.signed]
    home.store.commit()
    again = Home(disk=home.disk)
    assert again.takes(newer, newer) == ["superseded", "superseded"]
    assert len(checked) == 4, "after a start the first of them is read"
    home = Home(disk=home.disk)
    monkeypatch.setattr(module, "RECOGNISED_MAX", 1)
    assert home.takes(newer, said(name="two"), newer) == ["superseded", "", "superseded"]
    assert len(checked) == 7, "only so many are kept"


def test_bytes_that_are_known_name_their_record_in_a_snapshot_unless_their_sender_was_away_too_long() -> None:
    home, record, other = Home(), said(MEMBER), said(MEMBER, name="two")
    home.takes(record, other)
    home.replica.begin_snapshot()
    outcome = home.replica.ingest(record.signed, now_ms=NOW_MS, sender=STRANGER.public, stale=True)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "stale"
    assert home.takes(other) == ["superseded"]
    assert home.replica.end_snapshot() == 1
    assert [name for _, _, name, _ in home.holds()] == ["two"]
