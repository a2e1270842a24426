"""Scores: the worked example, what blacklists and what lifts it, circles, and what a restart keeps."""

from __future__ import annotations

import math

import pytest

from skerry.identity.codec import pack
from skerry.routing import reputation as module
from skerry.routing.reputation import AGENT, BLACKLIST_BELOW, HALF_LIFE_MS, NEUTRAL, Deed, Reputation, TaskRecord
from tests.support.formation import NOW_MS

ONE = AGENT + "one"
FAILED = TaskRecord(Deed.FAILURE)


def after(*deeds: Deed, subject: str = ONE) -> Reputation:
    scores = Reputation()
    for deed in deeds:
        scores.record(subject, TaskRecord(deed), now_ms=NOW_MS)
    return scores


def test_the_worked_example_of_the_docstring() -> None:
    scores = Reputation()
    for _ in range(8):
        scores.record(ONE, TaskRecord(Deed.SUCCESS, "web", 20.0), now_ms=NOW_MS)
    for deed in (Deed.FAILURE, Deed.FAILURE, Deed.TIME_OUT, Deed.TIME_OUT):
        scores.record(ONE, TaskRecord(deed, "web"), now_ms=NOW_MS)
    others_ms = 180.0  # so that the geometric mean of the two is 60
    scores.record(AGENT + "two", TaskRecord(Deed.SUCCESS, "web", others_ms), now_ms=NOW_MS)
    assert scores.score(ONE, now_ms=NOW_MS) == pytest.approx(0.737, abs=0.0005)
    assert scores.score(ONE, now_ms=NOW_MS + HALF_LIFE_MS) == pytest.approx(0.707, abs=0.0005)


def test_whom_we_never_asked_is_neutral_and_unknown() -> None:
    scores = Reputation()
    assert scores.score(ONE, now_ms=NOW_MS) == NEUTRAL
    assert scores.get(ONE, now_ms=NOW_MS) is None
    assert not scores.is_blacklisted(ONE, now_ms=NOW_MS)
    assert not scores.forgive(ONE)


def test_five_failures_blacklist_four_do_not_and_a_day_lifts_it() -> None:
    scores = after(*[Deed.FAILURE] * 4)
    assert scores.score(ONE, now_ms=NOW_MS) < BLACKLIST_BELOW
    assert not scores.is_blacklisted(ONE, now_ms=NOW_MS), "fewer than five may be bad luck"
    scores.record(ONE, FAILED, now_ms=NOW_MS)
    assert scores.is_blacklisted(ONE, now_ms=NOW_MS)
    assert scores.blacklisted(now_ms=NOW_MS) == [ONE]
    assert not scores.is_blacklisted(ONE, now_ms=NOW_MS + HALF_LIFE_MS)
    assert scores.blacklisted(now_ms=NOW_MS + HALF_LIFE_MS) == []


def test_who_is_forgiven_begins_anew() -> None:
    scores = after(*[Deed.FAILURE] * 9)
    assert scores.forgive(ONE)
    assert not scores.is_blacklisted(ONE, now_ms=NOW_MS)
    assert scores.get(ONE, now_ms=NOW_MS) is None


def test_a_wrong_signature_weighs_four_failures_and_a_time_out_half_a_one() -> None:
    forged = after(Deed.BAD_SIGNATURE).score(ONE, now_ms=NOW_MS)
    assert forged == after(*[Deed.FAILURE] * 4).score(ONE, now_ms=NOW_MS)
    assert after(Deed.TIME_OUT, Deed.TIME_OUT).score(ONE, now_ms=NOW_MS) == after(Deed.FAILURE).score(ONE, now_ms=NOW_MS)


def test_being_quick_moves_a_score_by_a_tenth_at_most() -> None:
    scores = Reputation()
    for _ in range(1000):
        scores.record(ONE, TaskRecord(Deed.SUCCESS, "web", 0.01), now_ms=NOW_MS)
        scores.record(AGENT + "slow", TaskRecord(Deed.SUCCESS, "web", 1e7), now_ms=NOW_MS)
    plain = after(*[Deed.SUCCESS] * 1000).score(ONE, now_ms=NOW_MS)
    assert plain < scores.score(ONE, now_ms=NOW_MS) <= 1
    assert plain - 0.1 <= scores.score(AGENT + "slow", now_ms=NOW_MS) < plain - 0.09


def test_who_is_alone_in_what_it_does_is_neither_quick_nor_slow() -> None:
    scores = Reputation()
    for latency_ms in (5.0, 500.0, 50.0):
        scores.record(ONE, TaskRecord(Deed.SUCCESS, "web", latency_ms), now_ms=NOW_MS)
    assert scores.score(ONE, now_ms=NOW_MS) == pytest.approx(4 / 5)


@pytest.mark.parametrize("latency_ms", [math.nan, math.inf, -math.inf, -1.0, 0.0, None])
def test_fix_a_nan_score_cannot_be(latency_ms: float | None) -> None:
    scores = Reputation()
    for subject in (ONE, AGENT + "two"):
        scores.record(subject, TaskRecord(Deed.SUCCESS, "web", latency_ms), now_ms=NOW_MS)
    assert 0 <= scores.score(ONE, now_ms=NOW_MS) <= 1


def test_the_best_come_first() -> None:
    scores = after(Deed.SUCCESS, subject="agent:b")
    scores.record("agent:a", TaskRecord(Deed.SUCCESS), now_ms=NOW_MS)
    scores.record("agent:c", FAILED, now_ms=NOW_MS)
    scores.record("node:d", TaskRecord(Deed.SUCCESS), now_ms=NOW_MS)
    assert [subject for subject, _ in scores.top(2, now_ms=NOW_MS, kind=AGENT)] == ["agent:a", "agent:b"]
    assert len(scores.top(9, now_ms=NOW_MS)) == 4


def test_circles_have_scores_of_their_own() -> None:
    scores, good, bad = Reputation(), b"g" * 32, b"b" * 32
    assert scores.get_circle_reputation(good, now_ms=NOW_MS) is None
    scores.record_circle_task(good, TaskRecord(Deed.SUCCESS), now_ms=NOW_MS)
    for _ in range(5):
        scores.record_circle_task(bad, FAILED, now_ms=NOW_MS)
    scores.record(ONE, FAILED, now_ms=NOW_MS)
    assert dict(scores.top_circles(5, now_ms=NOW_MS)) == {good: pytest.approx(2 / 3), bad: pytest.approx(1 / 7)}
    assert [circle for circle, _ in scores.top_circles(1, now_ms=NOW_MS)] == [good]
    assert scores.blacklisted_circles(now_ms=NOW_MS) == [bad]


def test_a_clock_that_goes_back_changes_nothing() -> None:
    scores = after(*[Deed.FAILURE] * 6)
    before = scores.score(ONE, now_ms=NOW_MS)
    assert scores.score(ONE, now_ms=NOW_MS - HALF_LIFE_MS) == before
    scores.record(ONE, FAILED, now_ms=NOW_MS - HALF_LIFE_MS)
    assert scores.score(ONE, now_ms=NOW_MS) < before


def test_what_was_written_comes_back() -> None:
    scores = Reputation()
    for number in range(6):
        scores.record(ONE, FAILED, now_ms=NOW_MS)
        scores.record(f"agent:{number}", TaskRecord(Deed.SUCCESS, "web", 10.0 + number), now_ms=NOW_MS)
    scores.forgive("agent:3")
    again = Reputation()
    for subject, stored in scores.take_changes().items():
        if stored is not None:
            again.restore(subject, stored)
    assert scores.take_changes() == {}
    assert dict(again.top(99, now_ms=NOW_MS)) == pytest.approx(dict(scores.top(99, now_ms=NOW_MS)))
    assert again.is_blacklisted(ONE, now_ms=NOW_MS)


@pytest.mark.parametrize("stored", [b"", b"\xff", pack([]), pack([math.nan, 1.0, 1, 1, {}]), pack([-1.0, 1.0, 1, 1, {}]), pack("x")])
def test_what_was_damaged_is_as_if_it_had_never_been(stored: bytes) -> None:
    scores = Reputation()
    scores.restore(ONE, stored)
    assert scores.get(ONE, now_ms=NOW_MS) is None


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUBJECTS_MAX", 3)
    scores = Reputation()
    for number in range(5):
        scores.record(f"agent:{number}", TaskRecord(Deed.SUCCESS, f"custom:{number}", 1.0), now_ms=NOW_MS)
    assert [subject for subject, _ in scores.top(9, now_ms=NOW_MS)] == ["agent:2", "agent:3", "agent:4"]
    for number in range(99):
        scores.record("agent:4", TaskRecord(Deed.SUCCESS, f"custom:{number}", 1.0), now_ms=NOW_MS)
    assert 0 <= scores.score("agent:4", now_ms=NOW_MS) <= 1
