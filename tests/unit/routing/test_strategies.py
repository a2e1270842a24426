"""Choosing one: each strategy does what it says, whoever can't be asked is not, and a choice among many costs what one among few does."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from skerry.errors import UsageError
from skerry.routing.catalogue import Catalogue
from skerry.routing.pool import DECAY_S, REPORT_S, SILENT_S, Candidate, Latency, Option, Pool, Silent
from skerry.routing.strategies import DRAWS, Strategy, choose, read_strategy

OURS, NEAR, FAR = b"o" * 32, b"n" * 32, b"f" * 32
NOW_S = 100.0
MANY = 20_000
LOOKS_MAX = 2 * DRAWS  # at candidates, in one choice


def filled(*sources: tuple[bytes, str]) -> Catalogue:
    catalogue = Catalogue(OURS)
    for node, agent in sources:
        catalogue.set(node, agent, [Candidate(agent, agent, node, "web", True, 1)])
    return catalogue


def some(count: int, *, node: bytes = FAR) -> Pool:
    pool = filled(*((node, f"agent-{number}") for number in range(count))).pool("web")
    assert pool is not None
    return pool


class Chooser:
    """Chooses from one pool; `out`: agents that can't be used; `scores`: by agent, 0.5 for the others."""

    def __init__(self, pool: Pool, *, seed: int = 0) -> None:
        self.pool = pool
        self.out: set[str] = set()
        self.scores: dict[str, float] = {}
        self.looks = 0
        self._fraction = random.Random(seed).random

    def __call__(self, strategy: Strategy, *, now_s: float = NOW_S) -> str:
        found = self.option(strategy, now_s=now_s)
        assert found is not None
        return found.provider.agent

    def option(self, strategy: Strategy, *, now_s: float = NOW_S) -> Option | None:
        return choose(strategy, self.pool, usable=self._usable, score=self._score, fraction=self._fraction, now_s=now_s)

    def _usable(self, option: Option) -> bool:
        self.looks += 1
        return option.provider.agent not in self.out

    def _score(self, option: Option) -> float:
        self.looks += 1
        return self.scores.get(option.provider.agent, 0.5)


def named(pool: Pool, agent: str) -> Option:
    return next(option for option in pool.options if option.provider.agent == agent)


# --- all of them ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", Strategy)
def test_who_cannot_be_used_is_never_chosen(strategy: Strategy) -> None:
    choose_one = Chooser(some(6))
    choose_one.out = {f"agent-{number}" for number in range(5)}
    assert {choose_one(strategy) for _ in range(50)} == {"agent-5"}
    choose_one.out.add("agent-5")
    assert choose_one.option(strategy) is None
    assert Chooser(Pool(OURS)).option(strategy) is None


@pytest.mark.parametrize("strategy", Strategy)
def test_one_among_many_is_found_though_all_others_are_out(strategy: Strategy) -> None:
    choose_one = Chooser(some(1000))
    choose_one.out = {f"agent-{number}" for number in range(1000)} - {"agent-77"}
    assert choose_one(strategy) == "agent-77"


@pytest.mark.parametrize("strategy", Strategy)
def test_a_choice_looks_at_as_many_among_very_many_as_among_a_hundred(strategy: Strategy) -> None:
    looks = {}
    for count in (100, MANY):
        choose_one = Chooser(some(count))
        choose_one(strategy)  # the first one makes the order
        most = 0
        for _ in range(200):
            choose_one.looks = 0
            option = choose_one.option(strategy)
            assert option is not None
            option.provider.began(now_s=NOW_S)
            most = max(most, choose_one.looks)
        looks[count] = most
    assert max(looks.values()) <= LOOKS_MAX, looks


@pytest.mark.parametrize("strategy", Strategy)
def test_a_strategy_is_read_by_its_name(strategy: Strategy) -> None:
    assert read_strategy(strategy.value) is strategy
    with pytest.raises(UsageError, match="no strategy 'fastest'") as caught:
        read_strategy("fastest")
    assert strategy.value in caught.value.hint


# --- lowest latency -------------------------------------------------------------------------------------------------------------------


def test_fix_lowest_latency_uses_measured_latency() -> None:
    choose_one = Chooser(some(2))
    named(choose_one.pool, "agent-0").latency.observe(0.2, now_s=99)
    named(choose_one.pool, "agent-1").latency.observe(0.1, now_s=99)
    assert {choose_one(Strategy.LOWEST_LATENCY) for _ in range(20)} == {"agent-1"}


def test_the_slowest_of_many_is_never_one_of_two_that_wins() -> None:
    choose_one = Chooser(some(5))
    for number, option in enumerate(choose_one.pool.options):
        option.latency.observe(1.0 if number == 3 else 0.1, now_s=NOW_S)
    counts = Counter(choose_one(Strategy.LOWEST_LATENCY) for _ in range(500))
    assert "agent-3" not in counts
    assert min(counts.values()) > 50, "the others share the work"


def test_who_was_slow_once_is_tried_again_later() -> None:
    choose_one = Chooser(some(2))
    slow, quick = choose_one.pool.options
    slow.latency.observe(1.0, now_s=0)
    quick.latency.observe(0.1, now_s=0)
    assert choose_one(Strategy.LOWEST_LATENCY, now_s=1) == quick.provider.agent
    quick.latency.observe(0.1, now_s=4 * DECAY_S)
    assert choose_one(Strategy.LOWEST_LATENCY, now_s=4 * DECAY_S) == slow.provider.agent


def test_the_unmeasured_is_measured_by_one_task_at_a_time() -> None:
    choose_one = Chooser(some(2))
    known, new = choose_one.pool.options
    known.latency.observe(0.1, now_s=NOW_S)
    assert choose_one(Strategy.LOWEST_LATENCY) == new.provider.agent
    new.provider.began(now_s=NOW_S)
    assert choose_one(Strategy.LOWEST_LATENCY) == known.provider.agent


def test_what_waits_there_counts_as_latency() -> None:
    choose_one = Chooser(some(2))
    quick, slow = choose_one.pool.options
    quick.latency.observe(0.1, now_s=NOW_S)
    slow.latency.observe(0.25, now_s=NOW_S)
    for _ in range(2):
        quick.provider.began(now_s=NOW_S)
    assert choose_one(Strategy.LOWEST_LATENCY) == slow.provider.agent
    quick.provider.reported(2, 8, now_s=NOW_S)  # it works on eight at once
    assert choose_one(Strategy.LOWEST_LATENCY) == quick.provider.agent


def test_our_own_come_first_until_they_have_enough_to_do() -> None:
    pool = filled((FAR, "far"), (OURS, "own")).pool("web")
    assert pool is not None
    choose_one = Chooser(pool)
    named(pool, "own").latency.observe(5.0, now_s=NOW_S)
    named(pool, "far").latency.observe(0.001, now_s=NOW_S)
    assert choose_one(Strategy.LOWEST_LATENCY) == "own"
    named(pool, "own").provider.began(now_s=NOW_S)
    assert choose_one(Strategy.LOWEST_LATENCY) == "far"


# --- the others -----------------------------------------------------------------------------------------------------------------------


def test_random_takes_all_alike() -> None:
    choose_one = Chooser(some(4))
    counts = Counter(choose_one(Strategy.RANDOM) for _ in range(4000))
    assert len(counts) == 4
    assert all(800 < count < 1200 for count in counts.values())


def test_fix_round_robin_really_turns_also_over_our_own() -> None:
    pool = filled((FAR, "a"), (OURS, "b"), (NEAR, "c")).pool("web")
    assert pool is not None
    choose_one = Chooser(pool)
    assert [choose_one(Strategy.ROUND_ROBIN) for _ in range(6)] == ["a", "b", "c"] * 2
    choose_one.out = {"a"}
    assert [choose_one(Strategy.ROUND_ROBIN) for _ in range(4)] == ["b", "c"] * 2


def test_least_loaded_fills_all_evenly() -> None:
    choose_one = Chooser(some(10))
    for _ in range(50):
        option = choose_one.option(Strategy.LEAST_LOADED)
        assert option is not None
        option.provider.began(now_s=NOW_S)
    assert {option.provider.in_flight for option in choose_one.pool.options} == {5}
    idle = choose_one.pool.options[7].provider
    idle.ended(now_s=NOW_S)
    assert choose_one(Strategy.LEAST_LOADED) == idle.agent


def test_fix_least_loaded_uses_in_flight_work_and_queue_depth() -> None:
    choose_one = Chooser(some(3))
    ours, queued, idle = (option.provider for option in choose_one.pool.options)
    for _ in range(2):
        ours.began(now_s=NOW_S)  # in flight: this node's own, known exactly
    queued.reported(3, 1, now_s=NOW_S)  # what others gave it, as its last reply said
    assert choose_one(Strategy.LEAST_LOADED) == idle.agent
    for _ in range(3):
        idle.began(now_s=NOW_S)
    assert choose_one(Strategy.LEAST_LOADED) == ours.agent
    ours.began(now_s=NOW_S)
    ours.began(now_s=NOW_S)
    idle.began(now_s=NOW_S)
    assert choose_one(Strategy.LEAST_LOADED) == queued.agent


def test_least_loaded_believes_a_queue_for_a_while_and_counts_places() -> None:
    choose_one = Chooser(some(2))
    one, two = (option.provider for option in choose_one.pool.options)
    one.reported(9, 1, now_s=NOW_S)
    two.reported(8, 1, now_s=NOW_S)
    assert choose_one(Strategy.LEAST_LOADED) == two.agent
    one.reported(9, 16, now_s=NOW_S)
    assert choose_one(Strategy.LEAST_LOADED) == one.agent
    later_s = NOW_S + REPORT_S
    two.began(now_s=later_s)
    for _ in range(4):
        assert choose_one(Strategy.LEAST_LOADED, now_s=later_s) == one.agent
    assert one.load(later_s) == 0


@pytest.mark.parametrize("load", [-5, 0, 2**80])
def test_what_an_agent_says_of_its_load_is_bounded(load: int) -> None:
    choose_one = Chooser(some(2))
    choose_one(Strategy.LEAST_LOADED)
    liar = choose_one.pool.options[0].provider
    for places in (-1, 0, 1, 2**80):
        liar.reported(load, places, now_s=NOW_S)
        assert choose_one(Strategy.LEAST_LOADED)
        assert choose_one(Strategy.LOWEST_LATENCY)


def test_highest_reputation_takes_the_best_and_follows_it() -> None:
    choose_one = Chooser(some(50))
    choose_one.scores = {"agent-3": 0.7, "agent-4": 0.9, "agent-5": 0.1}
    assert {choose_one(Strategy.HIGHEST_REPUTATION) for _ in range(20)} == {"agent-4"}
    choose_one.scores["agent-4"] = 0.4
    assert {choose_one(Strategy.HIGHEST_REPUTATION) for _ in range(20)} == {"agent-3"}
    choose_one.scores["agent-9"] = 0.99
    found = [choose_one(Strategy.HIGHEST_REPUTATION) for _ in range(60)]
    assert found[-1] == "agent-9", "each choice looks at one more, so a rise is seen after as many as there are"


def test_of_equally_good_ones_chance_takes_one() -> None:
    choose_one = Chooser(some(5))
    assert len({choose_one(Strategy.HIGHEST_REPUTATION) for _ in range(100)}) == 5


# --- what is measured -----------------------------------------------------------------------------------------------------------------


def test_fix_measured_latency_knows_peaks_at_once_and_forgets_them() -> None:
    latency = Latency()
    assert latency.faded_s(5) is None
    latency.observe(0.1, now_s=0)
    latency.observe(1.0, now_s=1)
    assert latency.value_s == 1.0
    latency.observe(0.1, now_s=1 + DECAY_S)
    assert latency.value_s == pytest.approx(0.1 + 0.9 / math.e)
    before = latency.value_s
    latency.observe(0.1, now_s=1 + DECAY_S)
    assert latency.value_s == pytest.approx(before), "no time has passed: one quick answer proves little"
    assert latency.faded_s(1 + 2 * DECAY_S) == pytest.approx(before / math.e)


@pytest.mark.parametrize("sample_s", [math.nan, math.inf, -1.0])
def test_a_latency_that_is_no_time_does_no_harm(sample_s: float) -> None:
    latency = Latency()
    latency.observe(sample_s, now_s=1)
    assert latency.value_s in (None, 0.0)
    latency.observe(0.1, now_s=2)
    latency.observe(sample_s, now_s=1)
    assert latency.value_s is not None
    assert 0 <= latency.value_s <= 0.1


def test_who_did_not_answer_is_silent_for_a_while_or_until_it_answers() -> None:
    silent = Silent()
    silent.unreachable(NEAR, now_s=100)
    assert silent.has(NEAR, now_s=100 + SILENT_S - 0.1)
    assert not silent.has(NEAR, now_s=100 + SILENT_S)
    assert not silent.has(FAR, now_s=100)
    silent.unreachable(NEAR, now_s=200)
    silent.answered(NEAR)
    assert not silent.has(NEAR, now_s=200)


def test_in_flight_work_is_seen_by_every_question_that_an_agent_answers() -> None:
    catalogue = Catalogue(OURS)
    for agent in ("a", "b"):
        offers = [Candidate(agent, agent, FAR, capability, True, 1) for capability in ("custom:x", "custom:y")]
        catalogue.set(FAR, agent, offers)
    choosers: list[Chooser] = []
    for query in ("custom:x", "custom:y", "custom:*"):
        pool = catalogue.pool(query)
        assert pool is not None
        choosers.append(Chooser(pool))
    for chosen in choosers:
        chosen(Strategy.LEAST_LOADED)
    catalogue.options("custom:x")[0].provider.began(now_s=NOW_S)
    assert {chosen(Strategy.LEAST_LOADED) for chosen in choosers for _ in range(9)} == {"b"}
