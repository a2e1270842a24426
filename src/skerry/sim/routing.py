"""Strategies at work, in virtual time: tasks arrive at random, the very code of a node chooses, agents do one after the other.

Only choosing and waiting are simulated: no bytes, no links. So a hundred thousand tasks take seconds, and strategies can be compared with
one that knows everything.

The rule: what is measured here chooses with `routing.strategies`, knows what a node would know, and the same seed gives the same result.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from skerry.routing.catalogue import Catalogue
from skerry.routing.pool import Candidate, Option, Pool
from skerry.routing.reputation import Deed, Reputation, TaskRecord
from skerry.routing.strategies import Strategy, choose

CAPABILITY = "custom:work"
LINK_S = 0.0005  # there and back
START_MS = 1_700_000_000_000

Service = Callable[[random.Random], float]  # how long one task takes a usual agent, in seconds


@dataclass(frozen=True, slots=True)
class Scene:
    """`slowness`: of each agent, 1 the usual one; `use`: how much of all that they can do is asked for; `routers`: nodes that choose."""

    slowness: Sequence[float]
    service: Service
    use: float = 0.6
    tasks: int = 20_000
    routers: int = 1
    seed: int = 1


@dataclass(slots=True)
class Run:
    """What came of it: how long each task took (s), and for each agent how much of the time it worked."""

    latencies_s: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def mean_s(self) -> float:
        return sum(self.latencies_s) / len(self.latencies_s)

    def percentile_s(self, percent: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]


class _Agent:
    """One that does its tasks in the order in which they came."""

    def __init__(self, slowness: float) -> None:
        self.slowness = slowness
        self.waiting: deque[tuple[float, float, int]] = deque()  # began, work (s), router
        self.free_s = 0.0  # when it has done all that it was given
        self.busy_s = 0.0

    def left_s(self, now_s: float) -> float:
        return max(self.free_s - now_s, 0.0)


class _Router:
    """One node's knowledge: a catalogue, scores, and chance."""

    def __init__(self, number: int, agents: int, seed: int) -> None:
        catalogue = Catalogue()
        for agent in range(agents):
            name = f"agent-{agent}"
            catalogue.set(agent.to_bytes(32, "big"), name, [Candidate(name, name, agent.to_bytes(32, "big"), CAPABILITY, True, 1 << 52)])
        pool = catalogue.pool(CAPABILITY)
        assert pool is not None
        self.pool: Pool = pool
        self.reputation = Reputation()
        self._fraction = random.Random(f"{seed}/{number}").random

    def choose(self, strategy: Strategy, now_s: float) -> Option:
        now_ms = START_MS + int(now_s * 1000)
        chosen = choose(
            strategy,
            self.pool,
            usable=lambda option: True,
            score=lambda option: self.reputation.score(option.provider.subject, now_ms=now_ms),
            fraction=self._fraction,
            now_s=now_s,
        )
        assert chosen is not None
        return chosen

    def done(self, option: Option, *, latency_s: float, load: int, now_s: float) -> None:
        provider = option.provider
        provider.ended(now_s=now_s)
        provider.reported(load, 1, now_s=now_s)
        option.latency.observe(latency_s, now_s=now_s)
        record = TaskRecord(Deed.SUCCESS, CAPABILITY, latency_s * 1000)
        self.reputation.record(provider.subject, record, now_ms=START_MS + int(now_s * 1000))


def run(scene: Scene, strategy: Strategy | None) -> Run:
    """All tasks of a scene; `strategy` None: an oracle that knows how much work every agent has left, and takes who will be done first."""
    chance = random.Random(scene.seed)
    agents = [_Agent(slowness) for slowness in scene.slowness]
    routers = [_Router(number, len(agents), scene.seed) for number in range(scene.routers)]
    mean_s = sum(scene.service(chance) for _ in range(2000)) / 2000
    rate = scene.use * sum(1 / agent.slowness for agent in agents) / mean_s
    ends: list[tuple[float, int, int, Option, float, int]] = []  # when, number, router, option, arrived, agent
    found = Run(busy_s=[0.0] * len(agents))
    now_s = 0.0
    waiting = [0] * len(agents)
    for number in range(scene.tasks):
        now_s += chance.expovariate(rate)
        work_s = scene.service(chance)
        _end_until(ends, now_s, routers, waiting, found)
        router = routers[number % len(routers)]
        option, index = _give(scene, agents, router, strategy, now_s, work_s)
        agent = agents[index]
        took_s = work_s * agent.slowness
        agent.free_s = max(agent.free_s, now_s) + took_s
        found.busy_s[index] += took_s
        waiting[index] += 1
        option.provider.began(now_s=now_s)
        heapq.heappush(ends, (agent.free_s + LINK_S, number, number % len(routers), option, now_s, index))
    _end_until(ends, math.inf, routers, waiting, found)
    found.took_s = max(agent.free_s for agent in agents)
    return found


def _give(
    scene: Scene, agents: list[_Agent], router: _Router, strategy: Strategy | None, now_s: float, work_s: float
) -> tuple[Option, int]:
    if strategy is None:
        index = min(range(len(agents)), key=lambda i: agents[i].left_s(now_s) + work_s * agents[i].slowness)
        return router.pool.options[index], index
    option = router.choose(strategy, now_s)
    return option, int.from_bytes(option.provider.node, "big")


def _end_until(
    ends: list[tuple[float, int, int, Option, float, int]], now_s: float, routers: list[_Router], waiting: list[int], found: Run
) -> None:
    while ends and ends[0][0] <= now_s:
        ended_s, _, router, option, arrived_s, index = heapq.heappop(ends)
        waiting[index] -= 1
        latency_s = ended_s - arrived_s
        found.latencies_s.append(latency_s)
        routers[router].done(option, latency_s=latency_s, load=waiting[index], now_s=ended_s)


def constant(seconds: float) -> Service:
    return lambda chance: seconds


def mixed(short_s: float, long_s: float, *, long_share: float) -> Service:
    """Two kinds of tasks, each spread around its mean."""

    def service(chance: random.Random) -> float:
        mean_s = long_s if chance.random() < long_share else short_s
        return mean_s * chance.uniform(0.5, 1.5)

    return service
