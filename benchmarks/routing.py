"""What choosing costs, and how good the choices are: the first measured here, the second simulated."""

from __future__ import annotations

import gc
import random
import time

from benchmarks.figures import Asked, Figure, figure
from benchmarks.plan import Plan
from skerry.routing.catalogue import Catalogue
from skerry.routing.pool import Candidate, Option, Pool
from skerry.routing.reputation import Deed, Reputation, TaskRecord
from skerry.routing.strategies import Strategy, choose
from skerry.sim.routing import Scene, constant, mixed, run

FEW, MANY = 100, 100_000
CAPABILITY = "custom:work"
NOW_MS = 1_700_000_000_000
TASKS = 10_000  # of a simulation
EVEN = [1.0] * 20
ONE_IN_FIVE_SLOW = [1.0] * 4 + [10.0]


async def measure(plan: Plan) -> list[Figure]:
    few, many = Choices(FEW), Choices(MANY)
    found: list[Figure] = []
    for strategy in Strategy:
        few_us, many_us = [], []
        for _ in range(plan.rounds):
            few_us.append(few.cost_us(strategy, seconds=plan.seconds / 5))
            many_us.append(many.cost_us(strategy, seconds=plan.seconds / 5))
        ratios = [there / here for here, there in zip(few_us, many_us, strict=True)]
        found.append(figure(f"a choice among {MANY:,} agents, {strategy}", "us", many_us, asked=Asked(at_most=10)))
        found.append(figure(f"the same, beside one among {FEW}", "times", ratios, asked=Asked(at_most=1.5)))
    changes = [_changes_per_second(seconds=plan.seconds) for _ in range(plan.rounds)]
    found.append(figure("changes of the catalogue", "1/s", changes, asked=Asked(at_least=50_000)))
    return found + _simulated(plan)


class Choices:
    """So many agents that offer one thing, with scores, latencies and work as they have after some hours."""

    def __init__(self, count: int) -> None:
        self._random = random.Random(count)
        self._reputation = Reputation()
        catalogue = _filled(count)
        pool = catalogue.pool(CAPABILITY)
        assert pool is not None
        self._pool: Pool = pool
        for option in pool.options[:: max(count // 1000, 1)]:
            option.latency.observe(self._random.uniform(0.01, 0.1), now_s=0.0)
            option.provider.reported(self._random.randrange(4), 1, now_s=0.0)
            deed = self._random.choice([Deed.SUCCESS, Deed.SUCCESS, Deed.FAILURE])
            self._reputation.record(option.provider.subject, TaskRecord(deed, CAPABILITY, 20.0), now_ms=NOW_MS)

    def cost_us(self, strategy: Strategy, *, seconds: float) -> float:
        """Of one choice; where work counts, with the moves in its order as the task begins and ends."""
        self._one(strategy)  # makes the order
        gc.collect()
        done, began = 0, time.perf_counter()
        while (took_s := time.perf_counter() - began) < seconds:
            for _ in range(100):
                self._one(strategy)
            done += 100
        return took_s / done * 1e6

    def _one(self, strategy: Strategy) -> None:
        chosen = choose(strategy, self._pool, usable=self._is_usable, score=self._score, fraction=self._random.random, now_s=1.0)
        assert chosen is not None
        if strategy is not Strategy.LEAST_LOADED:
            return
        chosen.provider.began(now_s=1.0)
        chosen.provider.ended(now_s=1.0)

    def _is_usable(self, option: Option) -> bool:
        return not self._reputation.is_blacklisted(option.provider.subject, now_ms=NOW_MS)

    def _score(self, option: Option) -> float:
        return self._reputation.score(option.provider.subject, now_ms=NOW_MS)


def _filled(count: int) -> Catalogue:
    catalogue = Catalogue()
    for number in range(count):
        catalogue.set(number.to_bytes(32, "big"), f"agent-{number}", [_offer(number)])
    return catalogue


def _offer(number: int, *, expires: int = 1) -> Candidate:
    return Candidate(f"agent-{number}", f"agent-{number}", number.to_bytes(32, "big"), CAPABILITY, True, expires)


def _changes_per_second(*, seconds: float) -> float:
    """Agents that come, say something new, and go, among ten thousand others, while three questions are kept."""
    catalogue = _filled(10_000)
    for query in ("custom:*", "*", "custom:w*"):
        catalogue.pool(query)
    coming = [
        (number.to_bytes(32, "big"), f"agent-{number}", _offer(number), _offer(number, expires=2)) for number in range(20_000, 21_000)
    ]
    done, began = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began) < seconds:
        for node, agent, first, second in coming:
            catalogue.set(node, agent, [first])
            catalogue.set(node, agent, [second])
            catalogue.set(node, agent, [])
        done += 3 * len(coming)
    return done / took_s


def _simulated(plan: Plan) -> list[Figure]:
    """Each with as many seeds as there are rounds."""
    beside_oracle, beside_random = [], []
    for seed in range(plan.rounds):
        even = Scene(EVEN, mixed(0.01, 0.1, long_share=0.1), use=0.7, tasks=TASKS, seed=seed)
        beside_oracle.append(run(even, Strategy.LEAST_LOADED).mean_s / run(even, None).mean_s)
        slow = Scene(ONE_IN_FIVE_SLOW, constant(0.01), use=0.08, tasks=TASKS, seed=seed)
        beside_random.append(run(slow, Strategy.LOWEST_LATENCY).percentile_s(99) / run(slow, Strategy.RANDOM).percentile_s(99))
    return [
        figure("least-loaded beside an oracle, mixed tasks, simulated", "times", beside_oracle, asked=Asked(at_most=1.1)),
        figure("lowest-latency p99 beside random's, 1 in 5 slow, simulated", "times", beside_random, asked=Asked(at_most=0.5)),
    ]
