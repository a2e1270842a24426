"""So much at once, so much in the long run."""

from __future__ import annotations

from skerry.discovery.allowance import Allowance


def test_it_is_used_up_and_fills_again() -> None:
    allowance = Allowance(3, per_s=2)
    assert [allowance.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not allowance.take(100.4)
    assert allowance.take(100.6)
    assert [allowance.take(1000.0) for _ in range(4)] == [True, True, True, False], "never more than at once"


def test_a_clock_that_goes_back_gives_nothing() -> None:
    allowance = Allowance(1, per_s=1)
    assert allowance.take(50.0)
    assert not allowance.take(40.0)
