"""Each sort of fault does what it says, ends, and is drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from skerry.errors import UsageError
from skerry.ports import Row
from skerry.sim.campaign import Plan, play
from skerry.sim.disk import SimDisk, Slowness
from skerry.sim.faults import SORTS, Faults
from skerry.sim.faults.weather import WEATHERS, weather_of
from skerry.sim.link import transit_s
from skerry.sim.network import LAN
from skerry.sim.world import World
from tests.support.links import simulated
from tests.support.replicas import said

ALL = frozenset(SORTS)


def begin(world: World, sort: str) -> tuple[Faults, asyncio.Task[None]]:
    faults = Faults(world, weather_of(sort, sorts=ALL))
    return faults, asyncio.ensure_future(SORTS[sort](faults))


async def end(faults: Faults, task: asyncio.Task[None]) -> None:
    faults.mended.set()
    await task


def paths(world: World, blocked: Callable[[tuple[str, str]], bool]) -> list[tuple[str, str]]:
    return [(a, b) for a in world.machines for b in world.machines if a != b and blocked((a, b))]


def test_every_sort_can_be_asked_for_and_is_drawn_by_a_mix() -> None:
    assert set(WEATHERS["wild"].weights) == ALL
    for name in (*WEATHERS, *SORTS, "cut,clock_1970"):
        assert set(weather_of(name, sorts=ALL).weights) <= ALL
    with pytest.raises(UsageError, match="no fault 'rain'"):
        weather_of("cut,rain", sorts=ALL)


@pytest.mark.parametrize("sort", sorted(SORTS))
def test_a_world_with_one_sort_of_fault_ends_well(sort: str) -> None:
    report = play(Plan(17, nodes=4, faults=sort, seconds=20))
    assert not report.failure, "\n".join([*report.tail, report.failure])


@pytest.mark.parametrize(("sort", "count"), [("cut", 2), ("one_way", 1), ("partition", 4), ("deaf_partition", 2)])
def test_ways_are_blocked_as_long_as_it_lasts(sort: str, count: int) -> None:
    @simulated
    async def scene() -> None:
        world = World("ways")
        for name in ("a", "b", "c"):
            world.machine(name)
        faults, task = begin(world, sort)
        await asyncio.sleep(0.01)
        stopped = paths(world, world.network.is_blocked)
        assert len(stopped) == count
        if sort in ("one_way", "deaf_partition"):
            assert not any((b, a) in stopped for a, b in stopped)
        await end(faults, task)
        assert paths(world, world.network.is_blocked) == []

    scene()


@pytest.mark.parametrize("sort", ["slow_link", "lossy_link"])
def test_a_bad_link_delays_and_is_good_again(sort: str) -> None:
    @simulated
    async def scene() -> None:
        world = World("links")
        for name in ("a", "b"):
            world.machine(name)
        faults, task = begin(world, sort)
        await asyncio.sleep(0.01)
        link = world.network.link(("a", "b"))
        assert sum(transit_s(link, world.random) for _ in range(200)) / 200 > 0.15, "lost is late, never gone"
        await end(faults, task)
        assert world.network.link(("a", "b")) == LAN

    scene()


@pytest.mark.parametrize("sort", ["reset", "half_open"])
@simulated
async def test_a_connection_breaks_and_one_side_may_not_know(sort: str) -> None:
    world = World("breaks-1")
    alpha, beta = await world.formation(2)
    before = {machine.name: machine.node.links.nodes()[0] for machine in (alpha, beta)}
    await SORTS[sort](Faults(world, weather_of(sort, sorts=ALL)))
    await asyncio.sleep(0.0001)
    know = [link.closed for link in before.values()]
    assert sorted(know) == ([True, True] if sort == "reset" else [False, True])
    await world.until(lambda: world.is_whole([alpha, beta]), 60.0)
    await world.close()


@pytest.mark.parametrize("sort", ["stop", "kill", "crash", "clock_1970"])
@simulated
async def test_a_machine_goes_down_and_comes_back(sort: str) -> None:
    world = World("down")
    await world.formation(2)
    faults, task = begin(world, sort)
    await asyncio.sleep(0.7)
    if sort == "clock_1970":
        assert min(machine.clock.now_ms() for machine in world.machines.values()) < 10_000
    else:
        assert len(world.up()) == 1
        assert [machine.has_power for machine in world.machines.values()].count(False) == (sort == "crash")
    await end(faults, task)
    assert len(world.up()) == 2
    assert min(machine.clock.now_ms() for machine in world.machines.values()) > 10_000
    await world.until(lambda: world.is_whole(world.up()), 60.0)
    await world.close()


@simulated
async def test_a_machine_that_stands_still_runs_nothing_and_loses_nothing() -> None:
    world = World("stall")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    await asyncio.sleep(30)  # a task that is late is run by a node that remembers longer than that
    beta.process.stall(1.5)
    began = world.now_s
    assert await alpha.call("custom:echo", "late") == "late"
    assert 1.5 <= world.now_s - began < 1.7
    alpha.process.stall(0.5)
    alpha.process.stall(0.5)
    began = world.now_s
    await alpha.call("custom:echo", "again")
    assert 1.0 <= world.now_s - began < 1.2
    await world.close()


@simulated
async def test_a_stalled_process_keeps_the_order_of_what_is_due() -> None:
    world, seen = World("order"), list[int]()
    machine = world.machine("a")
    await machine.start()
    loop = asyncio.get_running_loop()
    machine.process.stall(1.0)
    for number in range(5):
        machine.process.within(lambda number=number: loop.call_later(number / 10, seen.append, number))  # type: ignore[misc]
    await asyncio.sleep(0.9)
    assert not seen
    await asyncio.sleep(0.2)
    assert seen == [0, 1, 2, 3, 4]
    await machine.stop()


@pytest.mark.parametrize(("sort", "least_ms"), [("clock", 0), ("clock_drift", 0), ("clock_jump", 6 * 60_000)])
@simulated
async def test_a_clock_is_wrong_and_set_right(sort: str, least_ms: int) -> None:
    world = World("clocks")
    machine = world.machine("a")
    right = world.machine("right").clock
    world.machines.pop("right")
    faults, task = begin(world, sort)
    await asyncio.sleep(1.0)
    assert machine.clock.now_ms() != right.now_ms()
    assert abs(machine.clock.now_ms() - right.now_ms()) >= least_ms
    await end(faults, task)
    assert abs(machine.clock.now_ms() - right.now_ms()) <= 5


@simulated
async def test_a_full_disk_takes_nothing() -> None:
    world = World("full")
    (alpha,) = await world.formation(1)
    faults, task = begin(world, "full_disk")
    await asyncio.sleep(0)
    assert [alpha.disk.is_full] == [True]
    await end(faults, task)
    assert [alpha.disk.is_full] == [False]
    await world.close()


@simulated
async def test_a_slow_disk_holds_its_node_up_and_nobody_else() -> None:
    world = World("slow")
    alpha, beta = await world.formation(2)
    faults, task = begin(world, "slow_disk")
    await asyncio.sleep(0)
    (slow,) = [machine for machine in (alpha, beta) if machine.disk.slowness is not None]
    slow.disk.slowness = Slowness(2.0, 0.4, 1.0)
    (other,) = {alpha, beta} - {slow}
    stalled = [machine.process.stalled_s for machine in (slow, other)]
    await slow.run_agent("Echo")
    await asyncio.sleep(1)
    assert slow.process.stalled_s - stalled[0] > 0.5, "commits and reads both take time"
    assert other.process.stalled_s == stalled[1]
    await end(faults, task)
    assert [machine.disk.slowness for machine in (alpha, beta)] == [None, None]
    await world.until(lambda: other.knows_agent("echo"))
    await world.close()


@pytest.mark.parametrize("power", [True, False])
def test_a_crash_loses_commits_that_were_not_synced_and_never_what_was_durable(power: bool) -> None:
    """`power`: it goes. A killed process loses only what it had not committed."""
    kept = set[int]()
    for number in range(30):
        disk = SimDisk(incarnation=f"disk-{number}")
        store = disk.open()
        store.set_fact("f", "durable", b"1", durable=True)
        for commit in range(4):
            store.set_fact("f", str(commit), b"1")
            store.commit()
        store.set_fact("f", "uncommitted", b"1")
        lost = disk.lose_power() if power else 0
        if not power:
            disk.lose_process()
        again = disk.open()
        assert again.fact("f", "durable") == b"1"
        assert again.fact("f", "uncommitted") is None
        there = [again.fact("f", str(commit)) is not None for commit in range(4)]
        assert there == sorted(there, reverse=True), "the first ones are there, nothing stands after a gap"
        assert sum(there) == 4 - lost
        kept.add(sum(there))
    assert kept == ({0, 1, 2, 3, 4} if power else {4})


def test_a_durable_record_takes_along_what_was_committed_before_it() -> None:
    disk = SimDisk()
    store = disk.open()
    store.set_fact("f", "before", b"1")
    store.put(_row(), durable=True)
    assert disk.lose_power() == 0
    assert disk.open().fact("f", "before") == b"1"


def _row() -> Row:
    one = said()
    return Row(one.author, one.kind, one.name, one.stamp, one.expires, one.hash, one.signed, False)


@simulated
async def test_a_worker_dies_and_its_agent_comes_back() -> None:
    world = World("worker")
    (alpha,) = await world.formation(1)
    await alpha.run_agent("Echo")
    (before,) = alpha.executor.workers()
    await SORTS["worker"](Faults(world, weather_of("worker", sorts=ALL)))
    assert before.is_over
    await world.until(lambda: [worker for worker in alpha.executor.workers() if not worker.is_over], 30.0)
    await world.close()
