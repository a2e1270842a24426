"""Who is there: crowds of memberships under faults, and whole nodes."""

from __future__ import annotations

import asyncio

import pytest

from skerry.discovery.moves import State
from skerry.discovery.profiles import PROFILES
from skerry.sim.crowd import Crowd
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.links import simulated

KNOWN_S = 5.0  # issue 5: the end of one of 30 is known to all of them within this time


def wrongly_gone(crowd: Crowd, *ended: int) -> list[object]:
    return [seen for seen in crowd.seen if seen.state is State.GONE and seen.of not in ended]


# --- crowds -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_told", [True, False])
def test_the_end_of_one_of_thirty_is_known_to_all_within_five_seconds(seed: int, is_told: bool) -> None:
    crowd = Crowd(30, seed=seed)
    crowd.run(8.0 + crowd.random.random())
    began_s = crowd.now_s
    (crowd.kill if is_told else crowd.crash)(seed)
    crowd.run(8.0)
    assert crowd.known_s(seed, State.GONE, since_s=began_s) <= KNOWN_S
    assert wrongly_gone(crowd, seed) == []


@pytest.mark.timeout(180)
def test_in_ten_minutes_nobody_is_wrongly_gone_with_one_starved_and_one_that_stops_again_and_again() -> None:
    crowd = Crowd(30, seed="ten minutes")
    crowd.run(8.0)
    crowd.stall_again(3, seconds=2.0, every_s=6.3)
    crowd.stall_again(11, seconds=0.95, every_s=1.0)
    crowd.run(600.0)
    assert wrongly_gone(crowd) == []
    assert any(seen.state is State.SUSPECT and seen.of == 3 for seen in crowd.seen), "it was doubted, and refuted that"
    began_s = crowd.now_s
    crowd.kill(20)
    crowd.run(8.0)
    assert crowd.known_s(20, State.GONE, since_s=began_s) <= 2 * KNOWN_S, "the starved one takes a little longer"


def test_half_of_a_formation_that_ends_at_once_is_known_to_the_other_half() -> None:
    crowd = Crowd(20, seed="half")
    crowd.run(8.0)
    ended = range(0, 20, 2)
    for number in ended:
        crowd.crash(number)
    crowd.run(30.0)
    assert all(crowd.views(number) == {State.GONE} for number in ended)
    assert wrongly_gone(crowd, *ended) == []
    for number in ended:
        crowd.start(number)
    crowd.run(5.0)
    assert all(crowd.views(number) == {State.ALIVE} for number in range(20))


def test_a_way_that_is_blocked_between_two_makes_nobody_gone() -> None:
    for one_way in (True, False):
        crowd = Crowd(12, seed="two")
        crowd.run(8.0)
        crowd.cut(3, 7, one_way=one_way)
        crowd.run(120.0)
        assert wrongly_gone(crowd) == []


def test_a_node_that_hears_nobody_is_gone_and_heals() -> None:
    crowd = Crowd(12, seed="deaf")
    crowd.run(8.0)
    for other in range(12):
        if other != 5:
            crowd.cut(other, 5, one_way=True)
    crowd.run(15.0)
    assert crowd.views(5) == {State.GONE}
    crowd.heal()
    crowd.run(5.0)
    assert all(crowd.views(number) == {State.ALIVE} for number in range(12))


def test_two_halves_that_were_apart_find_each_other() -> None:
    crowd = Crowd(12, seed="halves")
    crowd.run(8.0)
    for a in range(6):
        for b in range(6, 12):
            crowd.cut(a, b)
    crowd.run(30.0)
    assert {crowd.state(0, 7), crowd.state(7, 0)} == {State.GONE}
    assert crowd.state(0, 3) is State.ALIVE
    crowd.heal()
    crowd.run(5.0)
    assert all(crowd.views(number) == {State.ALIVE} for number in range(12))


def test_a_node_whose_clock_was_set_back_comes_back_all_the_same() -> None:
    crowd = Crowd(8, seed="clock")
    crowd.run(8.0)
    crowd.go_away(2)
    crowd.run(1.0)
    assert crowd.views(2) == {State.AWAY}
    crowd.crash(2)
    crowd.run(30.0)
    assert crowd.views(2) == {State.AWAY}, "away is no crash"
    crowd.start(2, incarnation=0)
    crowd.run(3.0)
    assert crowd.views(2) == {State.ALIVE}


def test_a_slow_network_has_its_profile() -> None:
    crowd = Crowd(12, seed="wan", profile=PROFILES["wan"], delay_s=(0.1, 0.6))
    crowd.run(20.0)
    crowd.stall_again(3, seconds=3.0, every_s=11.0)
    crowd.run(300.0)
    assert wrongly_gone(crowd) == []
    crowd.crash(7)
    crowd.run(30.0)
    assert crowd.views(7) == {State.GONE}


def test_an_idle_formation_says_next_to_nothing() -> None:
    crowd = Crowd(30, seed="idle")
    crowd.run(20.0)
    before = [one.sent for one in crowd.ones]
    crowd.run(60.0)
    assert max(one.sent - said for one, said in zip(crowd.ones, before, strict=True)) <= 60 * 5, "two probes a second, two answers"


def test_the_same_seed_gives_the_same_crowd() -> None:
    def played() -> list[object]:
        crowd = Crowd(6, seed=3)
        crowd.run(5.0)
        crowd.crash(2)
        crowd.run(5.0)
        return list(crowd.seen)

    assert played() == played()


# --- whole nodes ------------------------------------------------------------------------------------------------------------------


def seen_by(machine: Machine, other: Machine) -> State | None:
    return machine.node.presence.state_of(other.key.public)


def all_see(machines: list[Machine], other: Machine, state: State) -> bool:
    return all(seen_by(machine, other) is state for machine in machines if machine is not other and machine.is_up)


@simulated
@pytest.mark.parametrize("is_told", [True, False])
async def test_a_node_that_ends_leaves_the_catalogue_of_all_and_comes_back(is_told: bool) -> None:
    world = World("crash")
    machines = await world.formation(6)
    victim, *others = machines
    await victim.run_agent("Echo")
    await world.until(lambda: all(machine.knows_agent("echo") for machine in others))
    await world.until(lambda: all(all_see(machines, machine, State.ALIVE) for machine in machines), what="all know of each other")
    began_s = world.now_s
    (victim.kill if is_told else victim.crash)()
    await world.until(lambda: all_see(others, victim, State.GONE), KNOWN_S, what="all know that it is gone")
    assert not any(machine.knows_agent("echo") for machine in others)
    assert all(machine.node.links.get(victim.key.public) is None for machine in others)
    world.note("world", f"known after {world.now_s - began_s:.2f} s")
    await victim.start()
    await world.until(lambda: all_see(others, victim, State.ALIVE) and all(m.knows_agent("echo") for m in others), 40.0)
    await world.close()


@simulated
async def test_a_node_that_ends_in_order_is_away_at_once_and_no_crash() -> None:
    world = World("away")
    machines = await world.formation(5)
    alpha, beta, *_ = machines
    await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    await beta.stop()
    others = [machine for machine in machines if machine is not beta]
    assert all_see(others, beta, State.AWAY)
    assert not alpha.knows_agent("echo")
    await asyncio.sleep(60)
    assert all_see(others, beta, State.AWAY)
    await beta.start()
    await world.until(lambda: all_see(others, beta, State.ALIVE) and alpha.knows_agent("echo"), 40.0)
    await world.close()


@simulated
async def test_a_lid_that_closes_says_so_and_is_back_when_the_machine_has_slept() -> None:
    world = World("lid")
    machines = await world.formation(3)
    alpha, beta, _ = machines
    await beta.within(lambda node: _call(node.presence.go_away))
    await world.until(lambda: all_see(machines, beta, State.AWAY), 2.0)
    await asyncio.sleep(30)
    assert all_see(machines, beta, State.AWAY)
    beta.clock.step(60_000)  # it slept: the wall clock went on without it
    await world.until(lambda: all_see(machines, beta, State.ALIVE), 4.0)
    await beta.within(lambda node: _call(node.presence.go_away))
    await world.until(lambda: seen_by(alpha, beta) is State.AWAY, 2.0)
    await beta.within(lambda node: _call(node.presence.come_back))
    await world.until(lambda: all_see(machines, beta, State.ALIVE), 2.0)
    await world.close()


async def _call(function: object) -> None:
    assert callable(function)
    function()


@simulated
async def test_whole_nodes_of_which_one_stops_again_and_again_and_one_starves_are_never_gone() -> None:
    world = World("stops")
    machines = await world.formation(7)
    _, stopping, starved, *_ = machines
    gone: list[str] = []
    for tick in range(240):
        if tick % 12 == 0:
            stopping.process.stall(2.0)
        starved.process.stall(0.45)
        await asyncio.sleep(0.5)
        gone += [
            f"{tick}: {other.name} for {machine.name}"
            for machine in machines
            for other in machines
            if machine is not other and seen_by(machine, other) in (State.GONE, State.AWAY)
        ]
    assert gone == []
    await world.close()


@simulated
async def test_a_one_way_cut_heals_and_all_see_each_other() -> None:
    world = World("one way")
    machines = await world.formation(5)
    world.network.cut("alpha", "beta", one_way=True)
    await asyncio.sleep(30)
    assert not any(seen_by(machine, other) is State.GONE for machine in machines for other in machines if other is not machine)
    world.heal()
    await world.until(lambda: world.is_whole(machines), 60.0)
    await world.until(lambda: all(all_see(machines, machine, State.ALIVE) for machine in machines), 10.0)
    await world.close()
