"""The hybrid clock."""

from __future__ import annotations

from skerry.identity.stamps import AHEAD_MS_MAX, next_stamp, stamp_at, stamp_ms, too_far_ahead
from tests.support.formation import NOW_MS


def test_stamps_rise_with_the_clock_within_a_millisecond_and_when_it_goes_back() -> None:
    first = next_stamp(0, now_ms=NOW_MS)
    assert first == stamp_at(NOW_MS)
    second = next_stamp(first, now_ms=NOW_MS)
    third = next_stamp(second, now_ms=NOW_MS - 10**9)
    assert (second, third) == (first + 1, first + 2)
    assert next_stamp(third, now_ms=NOW_MS + 1) == stamp_at(NOW_MS + 1)


def test_whoever_has_seen_a_stamp_writes_a_greater_one() -> None:
    seen = stamp_at(NOW_MS + 1000) + 5
    assert next_stamp(seen, now_ms=NOW_MS) == seen + 1


def test_65536_in_one_millisecond_run_into_the_next() -> None:
    assert stamp_ms(next_stamp(stamp_at(NOW_MS) + 0xFFFF, now_ms=NOW_MS)) == NOW_MS + 1


def test_five_minutes_ahead_are_admitted() -> None:
    assert AHEAD_MS_MAX == 300_000
    assert not too_far_ahead(stamp_at(NOW_MS + AHEAD_MS_MAX) + 0xFFFF, now_ms=NOW_MS)
    assert too_far_ahead(stamp_at(NOW_MS + AHEAD_MS_MAX + 1), now_ms=NOW_MS)
