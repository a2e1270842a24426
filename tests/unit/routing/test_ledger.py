"""What a node remembers of the tasks that it ran, and what it refuses because it can't know any more."""

from __future__ import annotations

import pytest

from skerry.routing.ledger import CLOCK_MS, ENTRY_BYTES, REMEMBER_BYTES, REMEMBER_MS, Done, Fresh, Ledger, Running, Stale
from tests.support.formation import NOW_MS

WHO = b"w" * 32
OTHER = b"o" * 32
TASK = b"t" * 32
START_MS = NOW_MS - 60 * 60_000  # an hour ago


def asked(ledger: Ledger, task: bytes = TASK, *, who: bytes = WHO, created_ms: int = NOW_MS, now_ms: int = NOW_MS) -> object:
    return ledger.begin(who, task, created_ms=created_ms, now_ms=now_ms)


def test_a_task_runs_then_its_result_is_remembered() -> None:
    ledger = Ledger(start_ms=START_MS)
    assert asked(ledger) == Fresh()
    assert asked(ledger) == Running()
    ledger.finish(WHO, TASK, b"result")
    assert asked(ledger, now_ms=NOW_MS + REMEMBER_MS) == Done(b"result")
    assert asked(ledger, who=OTHER) == Fresh(), "another requester's task of the same number is another task"


def test_the_first_result_stays() -> None:
    ledger = Ledger(start_ms=START_MS)
    asked(ledger)
    ledger.finish(WHO, TASK, b"first")
    ledger.finish(WHO, TASK, b"second")
    ledger.finish(WHO, b"never asked for", b"x")
    assert asked(ledger) == Done(b"first")


def test_what_was_forgotten_is_refused() -> None:
    ledger = Ledger(start_ms=START_MS)
    asked(ledger)
    ledger.finish(WHO, TASK, b"result")
    later_ms = NOW_MS + REMEMBER_MS + 1
    assert asked(ledger, now_ms=later_ms) == Stale(REMEMBER_MS + 1)
    assert ledger.held_bytes == 0


def test_what_never_started_may_be_asked_for_again() -> None:
    ledger = Ledger(start_ms=START_MS)
    asked(ledger)
    ledger.abandon(WHO, TASK)
    ledger.abandon(WHO, b"never asked for")
    assert ledger.held_bytes == 0
    assert asked(ledger) == Fresh()


def test_a_restart_makes_what_was_before_it_stale() -> None:
    ledger = Ledger(start_ms=NOW_MS)
    for created_ms in (NOW_MS - 1, NOW_MS - 60_000):
        assert isinstance(asked(ledger, created_ms=created_ms, now_ms=NOW_MS + 5), Stale)
    assert asked(ledger, created_ms=NOW_MS + 5, now_ms=NOW_MS + 5) == Fresh()


@pytest.mark.parametrize(
    ("age_ms", "expected"),
    [
        (0, Fresh),
        (-CLOCK_MS, Fresh),
        (-CLOCK_MS - 1, Stale),
        (60 * 60_000 - CLOCK_MS - 1, Fresh),
        (60 * 60_000 - CLOCK_MS + 1, Stale),
    ],
)
def test_how_old_a_task_may_be(age_ms: int, expected: type) -> None:
    assert isinstance(asked(Ledger(start_ms=START_MS), created_ms=NOW_MS - age_ms), expected)


def test_memory_is_bounded_by_bytes_and_the_oldest_goes_first() -> None:
    ledger = Ledger(start_ms=START_MS)
    half = bytes(REMEMBER_BYTES // 2)
    for number in range(4):
        asked(ledger, bytes([number]), created_ms=NOW_MS + number, now_ms=NOW_MS + number)
        ledger.finish(WHO, bytes([number]), half)
    assert asked(ledger, b"\x03", now_ms=NOW_MS + 10) == Done(half)
    assert ledger.held_bytes <= REMEMBER_BYTES
    assert isinstance(asked(ledger, b"\x00", created_ms=NOW_MS, now_ms=NOW_MS + 10), Stale)


def test_what_runs_is_never_forgotten() -> None:
    ledger = Ledger(start_ms=START_MS)
    asked(ledger)
    asked(ledger, OTHER)
    ledger.finish(WHO, OTHER, bytes(REMEMBER_BYTES + 1))
    much_later_ms = NOW_MS + 10 * REMEMBER_MS
    assert asked(ledger, now_ms=much_later_ms) == Running()
    assert ledger.held_bytes == ENTRY_BYTES
    ledger.finish(WHO, TASK, b"late")
    assert asked(ledger, now_ms=NOW_MS + 1) == Done(b"late")


# --- never twice ----------------------------------------------------------------------------------------------------------------------


def _run_and_forget(ledger: Ledger, *, created_ms: int = NOW_MS) -> None:
    """It ran at NOW_MS, with a result so large that it is forgotten at once."""
    assert asked(ledger, created_ms=created_ms) == Fresh()
    ledger.finish(WHO, TASK, bytes(REMEMBER_BYTES + 1))


def test_not_twice_when_the_result_was_too_large_to_remember() -> None:
    ledger = Ledger(start_ms=START_MS)
    _run_and_forget(ledger)
    for after_ms in (0, 1, 2, 100, 1_000):
        assert isinstance(asked(ledger, now_ms=NOW_MS + after_ms), Stale), after_ms


@pytest.mark.parametrize("ahead_ms", [1, 40, 3_000, CLOCK_MS])
def test_not_twice_for_a_requester_whose_clock_is_ahead(ahead_ms: int) -> None:
    ledger = Ledger(start_ms=START_MS)
    _run_and_forget(ledger, created_ms=NOW_MS + ahead_ms)
    for after_ms in (0, 1, ahead_ms // 2, ahead_ms * 2 // 3, ahead_ms, ahead_ms * 2):
        assert isinstance(asked(ledger, created_ms=NOW_MS + ahead_ms, now_ms=NOW_MS + after_ms), Stale), after_ms


def test_not_twice_when_our_clock_was_set_forward_and_back() -> None:
    ledger = Ledger(start_ms=START_MS)
    assert asked(ledger) == Fresh()
    ledger.finish(WHO, TASK, b"result")
    asked(ledger, OTHER, created_ms=NOW_MS + 3_600_000, now_ms=NOW_MS + 3_600_000)
    for after_ms in (0, 1, 2, 1_000):
        assert isinstance(asked(ledger, now_ms=NOW_MS + after_ms), Stale), after_ms


def test_not_twice_when_our_clock_was_set_back_and_runs_up_again() -> None:
    ledger = Ledger(start_ms=START_MS)
    _run_and_forget(ledger)
    asked(ledger, OTHER, created_ms=NOW_MS, now_ms=NOW_MS - 500_000)
    for after_ms in (-500_000, -1_000, -1, 0, 1):
        assert isinstance(asked(ledger, now_ms=NOW_MS + after_ms), Stale), after_ms


def test_somebody_elses_wrong_clock_costs_nobody_a_task() -> None:
    ledger = Ledger(start_ms=START_MS)
    _run_and_forget(ledger, created_ms=NOW_MS + CLOCK_MS)
    assert asked(ledger, OTHER, who=OTHER, created_ms=NOW_MS + 1_000, now_ms=NOW_MS + 1_001) == Fresh()
