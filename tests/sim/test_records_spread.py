"""Records in a formation of many nodes: what is new is everywhere at once, who comes late has all, a partition leaves no trace.

Links take 20 ms, and lose segments as a stream shows it: a lost one is 0.2 s late or more, with all behind it. `make bench` measures the
same at 200 nodes.
"""

from __future__ import annotations

import asyncio

from skerry.sim.machine import Machine
from skerry.sim.spreading import LOSSY, Traffic, equal, late_joiner_s, spread
from skerry.sim.world import World
from tests.support.links import simulated

NODES = 30
SYNC_PERIOD_S = 60.0


async def formation(count: int) -> tuple[World, list[Machine]]:
    world = World("spread", link=LOSSY)
    return world, await world.formation(count)


@simulated
async def test_a_record_is_everywhere_in_a_moment_and_heard_about_twice() -> None:
    world, machines = await formation(NODES)
    await asyncio.sleep(5.0)  # who was chosen while the links came is told that it is no more
    for number in range(3):
        found = await spread(world, machines, machines[number * 7], f"agent-{number}")
        assert found.took_s <= 1.5
        assert found.duplicates < 3
        assert found.duplicates_most <= 3
    await world.close()


@simulated
async def test_a_quiet_formation_says_little() -> None:
    world, _ = await formation(NODES)
    assert await Traffic(world).bytes_s(seconds=120.0) / NODES < 600
    await world.close()


@simulated
async def test_who_comes_late_has_every_agent_within_seconds() -> None:
    world, machines = await formation(10)
    assert await late_joiner_s(world, machines, agents=300) <= 5.0
    await world.close()


@simulated
async def test_after_a_partition_with_writes_on_both_sides_all_are_equal() -> None:
    world, machines = await formation(12)
    half = len(machines) // 2
    world.network.partition([machine.name for machine in machines[:half]], [machine.name for machine in machines[half:]])
    for number, machine in enumerate(machines):
        await machine.run_agent("Echo", f"apart-{number}")
    await world.until(lambda: world.now_s > 100.0, what="60 s and more pass", timeout_s=120.0)
    world.heal()
    await world.until(lambda: equal(machines), SYNC_PERIOD_S, what="both sides are equal")
    offered = [f"apart-{number}" for number in range(len(machines))]  # by nodes that are known to be there again, a few seconds later
    await world.until(
        lambda: all(machine.knows_agent(name) for machine in machines for name in offered), SYNC_PERIOD_S, what="all can be asked of all"
    )
    await world.close()


@simulated
async def test_neighbours_that_swallow_what_they_are_sent_delay_it_at_most() -> None:
    """Everyone whom the victim pushes to, or who would push to it, drops pushes and compares with nobody of itself."""
    world, machines = await formation(NODES)
    victim = machines[3]
    settle_s = 5.0
    await asyncio.sleep(settle_s)
    around = {machine.key.public: machine for machine in machines}
    eager = victim.node.federation.neighbours.eager()
    for node in eager:
        federation = around[node].node.federation
        federation.pushes._send_all = lambda: None  # type: ignore[method-assign]
        federation._to_compare = list  # type: ignore[method-assign]
    heard = await spread(world, [m for m in machines if m.key.public not in eager], victim, "from-the-shut-in", timeout_s=4 * SYNC_PERIOD_S)
    assert heard.took_s > 1.5, "the neighbours did swallow it"
    await world.close()
