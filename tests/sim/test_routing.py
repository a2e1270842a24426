"""Strategies in virtual time: least-loaded comes close to who knows everything, lowest-latency avoids the slow, and runs repeat."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.plots import FOLDER, latency_plot, load_plot
from skerry.routing.strategies import Strategy
from skerry.sim.routing import Run, Scene, constant, mixed, run

ORACLE_MOST = 1.10
RANDOM_MOST = 0.5


@pytest.mark.parametrize("seed", range(3))
def test_least_loaded_is_within_a_tenth_of_an_oracle_on_mixed_service_times(seed: int) -> None:
    scene = Scene([1.0] * 20, mixed(0.01, 0.1, long_share=0.1), use=0.6, tasks=5000, seed=seed)
    assert run(scene, Strategy.LEAST_LOADED).mean_s <= ORACLE_MOST * run(scene, None).mean_s
    assert run(scene, Strategy.RANDOM).mean_s > 2 * run(scene, None).mean_s, "the scene tells good from bad"


@pytest.mark.parametrize("seed", range(3))
def test_p99_under_lowest_latency_is_half_of_randoms_with_one_slow_agent_in_five(seed: int) -> None:
    scene = Scene([1.0] * 4 + [10.0], constant(0.01), use=0.08, tasks=5000, seed=seed)
    quick, any_one = run(scene, Strategy.LOWEST_LATENCY), run(scene, Strategy.RANDOM)
    assert quick.percentile_s(99) <= RANDOM_MOST * any_one.percentile_s(99)


def test_least_loaded_shares_work_among_routers_that_know_each_other_from_replies_alone() -> None:
    scene = Scene([1.0] * 10, mixed(0.01, 0.05, long_share=0.1), use=0.5, tasks=5000, routers=3)
    found = run(scene, Strategy.LEAST_LOADED)
    assert max(found.busy_s) < 1.5 * min(found.busy_s)
    assert found.mean_s < 0.8 * run(scene, Strategy.RANDOM).mean_s


@pytest.mark.parametrize("strategy", Strategy)
def test_every_task_is_done_and_the_same_seed_gives_the_same_run(strategy: Strategy) -> None:
    scene = Scene([1.0, 1.0, 2.0], constant(0.01), tasks=500)
    first, second = run(scene, strategy), run(scene, strategy)
    assert len(first.latencies_s) == 500
    assert first == second


def test_tasks_of_two_kinds() -> None:
    service, chance = mixed(0.01, 0.1, long_share=0.5), random.Random(1)
    times = [service(chance) for _ in range(1000)]
    assert 0.005 <= min(times) < 0.015 < 0.05 < max(times) <= 0.15


def test_the_plots_in_the_docs_show_all_strategies() -> None:
    run_of_nothing = Run([0.01, 2.0], [0.5] * 10, 1.0)
    runs = dict.fromkeys(Strategy, run_of_nothing)
    for name, drawn in (("latency.svg", latency_plot(runs)), ("load.svg", load_plot(runs))):
        kept = (Path(FOLDER) / name).read_text(encoding="utf-8")
        for strategy in Strategy:
            assert strategy.value in drawn
            assert strategy.value in kept
