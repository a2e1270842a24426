"""Whatever happens, a score is a number from 0 to 1, it goes the right way, and time draws it back to the middle."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from skerry.routing.reputation import HALF_LIFE_MS, NEUTRAL, PACE_WEIGHT, Deed, Reputation, TaskRecord
from tests.support.formation import NOW_MS

SUBJECTS = ("agent:a", "agent:b", "agent:c")
LATENCIES = st.one_of(st.none(), st.floats(), st.floats(0.001, 1e6))
RECORDS = st.builds(TaskRecord, st.sampled_from(Deed), st.sampled_from(["web", "custom:x"]), LATENCIES)
EVENTS = st.lists(st.tuples(st.sampled_from(SUBJECTS), RECORDS, st.integers(-HALF_LIFE_MS, 3 * HALF_LIFE_MS)), max_size=40)


def told(events: list[tuple[str, TaskRecord, int]]) -> tuple[Reputation, int]:
    scores, now_ms = Reputation(), NOW_MS
    for subject, record, step_ms in events:
        now_ms += step_ms
        scores.record(subject, record, now_ms=now_ms)
    return scores, now_ms


@given(events=EVENTS)
def test_a_score_is_a_number_from_0_to_1(events: list[tuple[str, TaskRecord, int]]) -> None:
    scores, now_ms = told(events)
    for subject in SUBJECTS:
        for at_ms in (now_ms, now_ms - HALF_LIFE_MS, now_ms + 1000 * HALF_LIFE_MS):
            assert 0 <= scores.score(subject, now_ms=at_ms) <= 1
    assert set(scores.blacklisted(now_ms=now_ms)) == {one for one in SUBJECTS if scores.is_blacklisted(one, now_ms=now_ms)}


@given(events=EVENTS)
def test_a_success_never_lowers_and_a_failure_never_raises_it(events: list[tuple[str, TaskRecord, int]]) -> None:
    scores, now_ms = told(events)
    now_ms = max(now_ms, NOW_MS + 200 * HALF_LIFE_MS)
    before = scores.score("agent:a", now_ms=now_ms)
    for _ in range(3):
        scores.record("agent:a", TaskRecord(Deed.FAILURE), now_ms=now_ms)
    low = scores.score("agent:a", now_ms=now_ms)
    assert low < before
    for _ in range(3):
        scores.record("agent:a", TaskRecord(Deed.SUCCESS), now_ms=now_ms)
    assert scores.score("agent:a", now_ms=now_ms) > low


@given(events=EVENTS, days=st.integers(60, 400))
def test_time_draws_every_score_back_to_the_middle(events: list[tuple[str, TaskRecord, int]], days: int) -> None:
    scores, now_ms = told(events)
    later_ms = max(now_ms, NOW_MS + 130 * HALF_LIFE_MS) + days * HALF_LIFE_MS
    for subject in SUBJECTS:
        assert math.isclose(scores.score(subject, now_ms=later_ms), NEUTRAL, abs_tol=1e-9)


@given(events=EVENTS)
def test_latency_moves_a_score_by_a_tenth_at_most(events: list[tuple[str, TaskRecord, int]]) -> None:
    scores, now_ms = told(events)
    plain, _ = told([(subject, TaskRecord(record.deed), step_ms) for subject, record, step_ms in events])
    for subject in SUBJECTS:
        assert abs(scores.score(subject, now_ms=now_ms) - plain.score(subject, now_ms=now_ms)) <= PACE_WEIGHT


@given(events=EVENTS)
def test_what_is_written_down_is_all_that_counts(events: list[tuple[str, TaskRecord, int]]) -> None:
    scores, now_ms = told(events)
    again = Reputation()
    for subject, stored in scores.take_changes().items():
        assert stored is not None
        again.restore(subject, stored)
    for subject in SUBJECTS:
        assert math.isclose(again.score(subject, now_ms=now_ms), scores.score(subject, now_ms=now_ms), abs_tol=1e-9)
