"""Whom a node probes."""

from __future__ import annotations

from collections import Counter

from skerry.discovery.probes import Probes
from skerry.sim.clock import SimRandom

NODES = [bytes([number]) for number in range(10)]


def test_everyone_comes_once_before_one_comes_again() -> None:
    probes = Probes(bytes([3]), SimRandom(1).fraction)
    others = [node for node in NODES if node != bytes([3])]
    rounds = [[probes.in_turn(others) for _ in others] for _ in range(3)]
    assert all(sorted(filter(None, one)) == others for one in rounds)
    assert rounds[0] != rounds[1], "in another order each time"


def test_who_went_meanwhile_is_not_probed() -> None:
    probes = Probes(b"x", SimRandom(1).fraction)
    probes.in_turn(NODES)
    seen = Counter(probes.in_turn(NODES[:3]) for _ in range(9))
    assert set(seen) <= set(NODES[:3])
    assert probes.in_turn([]) is None


def test_the_neighbour_is_the_next_on_the_ring() -> None:
    ring = [node for node in NODES if node != bytes([9])]
    assert Probes(bytes([3]), SimRandom(1).fraction).neighbour([n for n in NODES if n != bytes([3])]) == bytes([4])
    assert Probes(bytes([9]), SimRandom(1).fraction).neighbour(ring) == bytes([0])
    assert Probes(bytes([9]), SimRandom(1).fraction).neighbour([]) is None


def test_one_probe_of_a_node_is_under_way_and_ends() -> None:
    probes = Probes(b"x", SimRandom(1).fraction)
    probe = probes.begin(b"a", now_s=10, direct_s=0.5, limit_s=1.0)
    assert probes.of(b"a") is probes.get(probe.number) is probe
    assert probes.next_s == 10.5
    probe.asked = 3
    assert probes.next_s == 11.0
    probes.shift(2.0)
    assert probes.next_s == 13.0
    probes.end(probe)
    assert probes.of(b"a") is None
    assert probes.next_s == float("inf")
    assert probes.begin(b"a", now_s=20, direct_s=0.5, limit_s=1.0).number > probe.number


def test_a_probe_has_failed_early_where_nobody_is_left_to_reach_it() -> None:
    probe = Probes(b"x", SimRandom(1).fraction).begin(b"a", now_s=10, direct_s=0.5, limit_s=1.0)
    probe.asked = 2
    assert not probe.has_failed
    probe.is_refused, probe.nacks = True, 1
    assert not probe.has_failed
    probe.lost = 1
    assert probe.has_failed
