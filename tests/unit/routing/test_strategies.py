"""Choosing one: what was measured counts, who is down is asked last, chance breaks ties."""

from __future__ import annotations

import itertools
import random

import pytest

from skerry.routing.catalogue import Candidate
from skerry.routing.strategies import DECAY_S, DOWN_S, Latency, Measured, by_lowest_latency

OURS, NEAR, FAR = b"o" * 32, b"n" * 32, b"f" * 32


def at(node: bytes, agent: str = "one") -> Candidate:
    return Candidate(agent, agent, node, "web", True, 1)


def ordered(measured: Measured, *candidates: Candidate, now_s: float = 100.0, seed: int = 0) -> list[bytes]:
    chance = random.Random(seed)
    return [one.node for one in by_lowest_latency(candidates, measured, ours=OURS, fraction=chance.random, now_s=now_s)]


def test_the_quickest_is_asked_first() -> None:
    measured = Measured()
    measured.succeeded(at(FAR), latency_s=0.2, now_s=99)
    measured.succeeded(at(NEAR), latency_s=0.1, now_s=99)
    for order in itertools.permutations((at(NEAR), at(FAR))):
        assert ordered(measured, *order) == [NEAR, FAR]


def test_our_own_come_before_all_others_and_the_unmeasured_before_the_measured() -> None:
    measured = Measured()
    measured.succeeded(at(OURS), latency_s=5, now_s=99)
    measured.succeeded(at(NEAR), latency_s=0.001, now_s=99)
    assert ordered(measured, at(NEAR), at(FAR), at(OURS)) == [OURS, FAR, NEAR]


def test_who_did_not_answer_is_asked_last_not_never_and_not_for_ever() -> None:
    measured = Measured()
    measured.succeeded(at(NEAR), latency_s=0.1, now_s=99)
    measured.succeeded(at(FAR), latency_s=0.2, now_s=99)
    measured.unreachable(NEAR, now_s=100)
    assert ordered(measured, at(NEAR), at(FAR), now_s=100 + DOWN_S - 0.1) == [FAR, NEAR]
    assert ordered(measured, at(NEAR), at(FAR), now_s=100 + DOWN_S) == [NEAR, FAR]
    measured.unreachable(NEAR, now_s=200)
    measured.succeeded(at(NEAR), latency_s=0.1, now_s=201)
    assert not measured.is_down(NEAR, now_s=201)


def test_chance_breaks_ties() -> None:
    firsts = {ordered(Measured(), at(NEAR), at(FAR), seed=seed)[0] for seed in range(20)}
    assert firsts == {NEAR, FAR}


def test_a_peak_counts_at_once_and_fades() -> None:
    latency = Latency()
    latency.observe(0.1, now_s=0)
    latency.observe(1.0, now_s=1)
    assert latency.value_s == 1.0
    latency.observe(0.1, now_s=1 + DECAY_S)
    assert latency.value_s == pytest.approx(0.1 + 0.9 / 2.718281828)
    before = latency.value_s
    latency.observe(0.1, now_s=1 + DECAY_S)
    assert latency.value_s == pytest.approx(before), "no time has passed: one quick answer proves little"


def test_what_is_forgotten_is_unmeasured() -> None:
    measured = Measured()
    measured.succeeded(at(NEAR), latency_s=0.1, now_s=0)
    assert measured.latency_s(at(NEAR)) == 0.1
    measured.forget("one")
    assert measured.latency_s(at(NEAR)) is None
