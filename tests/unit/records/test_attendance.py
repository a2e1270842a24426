"""Who was away for how long, and whom that lets it believe."""

from __future__ import annotations

from skerry.records.attendance import PUT_ASIDE_MS, SETTLED_MS, Attendance, begin
from skerry.records.record import TOMBSTONE_MS
from skerry.sim.disk import SimDisk
from skerry.sim.store import SimStore
from tests.support.formation import DAY_MS, NOW_MS


def store() -> SimStore:
    return SimDisk().open()


def founder() -> Attendance:
    disk = store()
    begin(disk, now_ms=NOW_MS)
    return Attendance(disk, now_ms=NOW_MS)


def test_a_founder_has_heard_all_and_a_newcomer_nothing() -> None:
    assert founder().heard_until == NOW_MS
    newcomer = Attendance(store(), now_ms=NOW_MS)
    assert newcomer.heard_until == 0
    assert newcomer.is_behind(NOW_MS, now_ms=NOW_MS)
    assert founder().is_stale(0)


def test_up_to_thirty_days_nobody_is_behind() -> None:
    attendance, later_ms = founder(), NOW_MS + TOMBSTONE_MS + 1
    for theirs, behind, stale in [
        (NOW_MS + TOMBSTONE_MS, False, False),
        (NOW_MS + TOMBSTONE_MS + 1, True, False),
        (NOW_MS - TOMBSTONE_MS, False, False),
        (NOW_MS - TOMBSTONE_MS - 1, False, True),
        (None, False, False),  # a peer that does not say
    ]:
        assert (attendance.is_behind(theirs, now_ms=later_ms), attendance.is_stale(theirs)) == (behind, stale), theirs


def test_a_peer_that_has_heard_what_is_still_to_be_said_is_not_believed() -> None:
    assert not founder().is_behind(NOW_MS + 2 * TOMBSTONE_MS, now_ms=NOW_MS)


def test_in_touch_it_is_current_and_remembers_it() -> None:
    disk = store()
    begin(disk, now_ms=NOW_MS)
    attendance = Attendance(disk, now_ms=NOW_MS)
    later_ms = NOW_MS + DAY_MS
    assert not attendance.tick(in_touch=True, now_ms=later_ms)
    assert attendance.heard_until == later_ms
    attendance.tick(in_touch=False, now_ms=later_ms + DAY_MS)
    assert attendance.heard_until == later_ms
    assert Attendance(disk, now_ms=later_ms + 2 * DAY_MS).heard_until == later_ms


def test_after_a_long_absence_it_is_current_when_it_caught_up_or_when_nobody_knows_more() -> None:
    attendance, now_ms = founder(), NOW_MS + 60 * DAY_MS
    attendance.tick(in_touch=True, now_ms=now_ms)
    assert attendance.heard_until == NOW_MS, "others may come who were not away"
    attendance.tick(in_touch=False, now_ms=now_ms + SETTLED_MS)
    attendance.tick(in_touch=True, now_ms=now_ms + SETTLED_MS)
    assert attendance.heard_until == NOW_MS, "in touch without a break, that is"
    attendance.tick(in_touch=True, now_ms=now_ms + 2 * SETTLED_MS)
    assert attendance.heard_until == now_ms + 2 * SETTLED_MS
    other = founder()
    other.caught_up(now_ms, now_ms=now_ms)
    assert other.heard_until == now_ms


def test_nobody_makes_it_believe_in_a_future() -> None:
    attendance = founder()
    attendance.caught_up(NOW_MS + 1000 * DAY_MS, now_ms=NOW_MS + DAY_MS)
    assert attendance.heard_until == NOW_MS + DAY_MS


def test_a_clock_that_is_set_back_is_noticed_once() -> None:
    disk = store()
    begin(disk, now_ms=NOW_MS)
    attendance, future_ms = Attendance(disk, now_ms=NOW_MS), NOW_MS + 3650 * DAY_MS
    attendance.tick(in_touch=False, now_ms=future_ms)
    assert attendance.tick(in_touch=False, now_ms=NOW_MS)
    assert not attendance.tick(in_touch=False, now_ms=NOW_MS + 1)
    assert attendance.heard_until == NOW_MS
    attendance.caught_up(None, now_ms=future_ms)
    assert attendance.tick(in_touch=True, now_ms=NOW_MS)
    assert attendance.heard_until == 0, "what it noted by the wrong time says nothing"
    attendance.caught_up(None, now_ms=future_ms)
    assert Attendance(disk, now_ms=NOW_MS).heard_until == 0


def test_what_it_noted_counts_again_once_a_clock_that_was_behind_is_set() -> None:
    disk = store()
    begin(disk, now_ms=NOW_MS)
    booted = Attendance(disk, now_ms=0)
    assert booted.heard_until == 0
    booted.tick(in_touch=True, now_ms=60_000)
    booted.tick(in_touch=False, now_ms=NOW_MS + DAY_MS)
    assert booted.heard_until == NOW_MS
    booted.tick(in_touch=True, now_ms=0)
    booted.tick(in_touch=False, now_ms=PUT_ASIDE_MS + 1)
    booted.tick(in_touch=False, now_ms=NOW_MS + DAY_MS)
    assert booted.heard_until < NOW_MS, "that was long ago: who knows which time is right"


def test_a_few_minutes_are_no_news() -> None:
    attendance = founder()
    attendance.tick(in_touch=True, now_ms=NOW_MS)
    assert not attendance.tick(in_touch=True, now_ms=NOW_MS - 4 * 60 * 1000)
