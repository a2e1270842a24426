"""Large values pause for calls, and only for them."""

from __future__ import annotations

import pytest

from skerry.channel.pace import CALLS_GO_ON_S, PAUSE_S_MAX, PAUSE_S_MIN, PAUSES, Pace

CHUNK_S = 0.001


def calls_go_on(pace: Pace, now: float) -> None:
    pace.heard(now - 0.001)
    pace.heard(now)


def test_where_nobody_calls_nothing_waits() -> None:
    pace = Pace()
    assert [pace.spent(CHUNK_S, now=number * CHUNK_S) for number in range(100)] == [0.0] * 100


def test_one_frame_alone_is_no_sign_of_calls() -> None:
    pace = Pace()
    pace.heard(1.0)
    assert pace.spent(CHUNK_S, now=1.0) == 0.0


def test_while_calls_go_on_large_values_have_their_share_of_the_time_and_no_more() -> None:
    pace = Pace()
    now = began = 10.0
    worked = 0.0
    while worked < 1.0:
        calls_go_on(pace, now)
        now += CHUNK_S
        worked += CHUNK_S
        now += pace.spent(CHUNK_S, now=now)
    assert worked / (now - began) == pytest.approx(1 / (1 + PAUSES), rel=0.05)


def test_several_values_share_it() -> None:
    pace = Pace()
    calls_go_on(pace, 10.0)
    first = pace.spent(CHUNK_S, now=10.0)
    assert pace.spent(CHUNK_S, now=10.0) == pytest.approx(2 * first)


def test_short_pauses_are_saved_up() -> None:
    pace = Pace()
    calls_go_on(pace, 10.0)
    little = PAUSE_S_MIN / PAUSES / 4
    pauses = [pace.spent(little, now=10.0) for _ in range(5)]
    assert pauses[:3] == [0.0] * 3
    assert pauses[4] >= PAUSE_S_MIN


def test_when_the_calls_end_so_do_the_pauses_and_nothing_is_owed() -> None:
    pace = Pace()
    calls_go_on(pace, 10.0)
    assert pace.spent(CHUNK_S, now=10.0) > 0
    later = 10.0 + 2 * CALLS_GO_ON_S
    assert pace.spent(CHUNK_S, now=later) == 0.0
    calls_go_on(pace, later)
    assert pace.spent(CHUNK_S, now=later) == pytest.approx(CHUNK_S * PAUSES)


def test_a_process_that_was_stopped_for_long_does_not_wait_for_long() -> None:
    pace = Pace()
    calls_go_on(pace, 10.0)
    assert pace.spent(60.0, now=10.0) == pytest.approx(PAUSE_S_MAX)
