"""Each kind in its time, in whole nodes: renewed while it is meant, over when it is not, taken back for long enough, and then forgotten.

Clocks of all machines are set ahead together: what a month brings is seen in minutes.
"""

from __future__ import annotations

import asyncio

from skerry.identity.stamps import AHEAD_MS_MAX
from skerry.records.record import KINDS
from skerry.routing.verbs import CircleCreateRequest, CircleMember
from skerry.sim.machine import Machine
from skerry.sim.spreading import equal, say
from skerry.sim.world import World
from tests.support.links import simulated

DAY_MS = 86_400_000
TOLERANCE_S = AHEAD_MS_MAX / 1000
CHORES_S = 80.0  # two rounds of them


async def later(world: World, days: float) -> None:
    for machine in world.up():
        machine.clock.step(int(days * DAY_MS))
    await asyncio.sleep(CHORES_S)


def rows(machine: Machine, name: str) -> list[bool]:
    """Whether what a node holds under that name is a tombstone."""
    return [row.tombstone for kind in KINDS for row in machine.node.ports.store.of_kind(kind) if row.name == name]


@simulated
async def test_what_nobody_renews_is_over_when_it_is_read_and_then_forgotten_everywhere() -> None:
    world = World("lifetimes")
    machines = await world.formation(3)
    said = say(machines[2], "short", lifetime_s=300.0)
    await world.until(lambda: all(rows(machine, said.name) for machine in machines), 5.0, what="all have it")
    until_just_over_s = 300.0 + TOLERANCE_S + 0.1
    await asyncio.sleep(until_just_over_s - (machines[2].clock.now_ms() - (said.expires - 300_000)) / 1000)
    for machine in machines:
        assert machine.node.replica.get(*said.identity, now_ms=machine.clock.now_ms()) is None, "whether purged or not"
    await asyncio.sleep(CHORES_S)
    assert [rows(machine, said.name) for machine in machines] == [[], [], []]
    assert equal(machines)
    await world.close()


@simulated
async def test_what_is_meant_is_renewed_and_what_was_taken_back_is_remembered_for_a_month() -> None:
    world = World("lifetimes")
    machines = await world.formation(3)
    await machines[0].run_agent("Echo", "stays")
    await machines[1].run_agent("Echo", "goes")
    await world.until(lambda: all(m.knows_agent("stays") and m.knows_agent("goes") for m in machines), 5.0, what="all know them")
    gone = await machines[1].remove_agent("goes")
    await world.until(lambda: all(rows(machine, gone) == [True] for machine in machines), 5.0, what="it is taken back")
    first = {machine.name: machine.node.replica.own_newest() for machine in machines}
    for _ in range(4):
        await later(world, 0.6)
        assert all(machine.knows_agent("stays") for machine in machines)
    assert all(machine.node.replica.own_newest() > first[machine.name] for machine in machines)
    for days in (9, 9, 9):
        await later(world, days)
        assert all(rows(machine, gone) == [True] for machine in machines), "29 days and a half are not over"
    await later(world, 1)
    assert [rows(machine, gone) for machine in machines] == [[], [], []]
    assert all(machine.knows_agent("stays") for machine in machines)
    assert all(machine.node.trust.standing(other.key.public).belongs for machine in machines for other in machines)
    await world.until(lambda: equal(machines), 60.0, what="all hold the same")
    await world.close()


@simulated
async def test_a_circle_stands_until_it_is_dissolved_though_a_year_goes_by() -> None:
    world = World("lifetimes")
    alpha, beta = machines = await world.formation(2)
    await beta.run_agent("Echo")
    made = await alpha.ask("circle.create", CircleCreateRequest("makers", open=True))
    await world.until(beta.node.circles.router.local_circles, what="beta knows it")
    await beta.ask("circle.enter", CircleMember("makers", "echo"))
    for _ in range(34):
        await later(world, 11)
    await world.until(lambda: all(machine.knows_agent("echo") for machine in machines), what="the agent is still there")
    for machine in machines:
        (circle,) = machine.node.circles.router.local_circles()
        assert (circle.id.hex(), [member.name for member in circle.members]) == (made.id, ["echo"])
    await world.close()
