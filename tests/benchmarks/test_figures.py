"""The benchmarks' own arithmetic: a wrong median would praise or blame the wrong change."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Asked, beside, figure, percentile, shown

SAMPLES = st.lists(st.floats(min_value=0.001, max_value=1e9), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("percent", "value"),
    [(50, 5.0), (51, 6.0), (99, 10.0), (100, 10.0), (10, 1.0), (0, 1.0)],
)
def test_a_percentile_is_a_sample_by_nearest_rank(percent: float, value: float) -> None:
    assert percentile([float(n) for n in range(10, 0, -1)], percent) == value


@given(SAMPLES, st.floats(min_value=1, max_value=100))
def test_a_percentile_has_so_many_samples_at_or_below_it(samples: list[float], percent: float) -> None:
    found = percentile(samples, percent)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= percent / 100 * len(samples) - 1e-9
    assert sum(sample < found for sample in samples) < percent / 100 * len(samples)


def test_no_samples_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


def test_one_disturbed_round_decides_nothing() -> None:
    found = beside("x", "us", [100.0, 110.0, 9000.0], peer="raw", peer_rounds=[50.0, 55.0, 60.0])
    assert (found.measured, found.peer_measured, found.ratio) == (110.0, 55.0, 2.0)


def test_a_machine_that_slows_down_for_both_keeps_the_ratio() -> None:
    found = beside("x", "us", [100.0, 200.0, 400.0], peer="raw", peer_rounds=[25.0, 50.0, 100.0])
    assert found.ratio == 4.0


def test_rounds_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        beside("x", "us", [1.0, 2.0], peer="raw", peer_rounds=[1.0])


@pytest.mark.parametrize(
    ("asked", "measured", "met"),
    [
        (Asked(at_most=600), 600, True),
        (Asked(at_most=600), 600.1, False),
        (Asked(at_least=8000), 8000, True),
        (Asked(at_least=8000), 7999, False),
    ],
)
def test_a_figure_says_whether_it_is_what_was_asked_for(asked: Asked, measured: float, met: bool) -> None:
    assert figure("x", "us", [measured], asked=asked).met is met


def test_a_figure_that_nothing_was_asked_of_is_neither() -> None:
    assert figure("x", "us", [1.0]).met is None


def test_a_figure_goes_into_json_whole() -> None:
    found = figure("x", "us", [1.0, 3.0, 2.0], asked=Asked(at_most=2.5))
    plain = json.loads(json.dumps(found.plain()))
    assert (plain["measured"], plain["rounds"], plain["asked"]["at_most"], plain["met"]) == (2.0, [1.0, 3.0, 2.0], 2.5, True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.12345, "0.123"), (1.5, "1.50"), (15.55, "15.6"), (972.4, "972"), (59648.2, "59,648"), (0.00123, "0.00123")],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert shown(value) == text
