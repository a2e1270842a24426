"""Nodes that nobody can dial, in worlds of whole nodes: they are reached over two others, and stay so when one of those goes."""

from __future__ import annotations

import asyncio

import pytest

from skerry.channel.address import relay_of
from skerry.discovery.reach import Reach
from skerry.sim.checkers.bounds import Bounds
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.links import simulated

REPAIRED_S = 15.0  # a silent machine is found out after 3 to 12 s, depending on who waits on it; a killed one at once


async def world_with_two_nats(seed: int | str, *, relays: int = 2) -> tuple[World, list[Machine]]:
    """Some that can be dialled, then two that can't, each behind a NAT of its own."""
    world = World(seed)
    machines = [world.machine(name) for name in ("alpha", "beta", "gamma", "delta", "epsilon")[: relays + 2]]
    for hidden in machines[relays:]:
        world.network.put_behind_nat(hidden.name)
    await machines[0].start()
    for machine in machines[1:]:
        await machine.start(await machines[0].invite())
    return world, machines


def link_over(here: Machine, there: Machine) -> bool:
    """Whether the link between two is there, and goes over a relay."""
    link = here.node.links.get(there.key.public)
    return link is not None and link.connection.is_relayed


def relay_between(here: Machine, there: Machine) -> bytes | None:
    link = here.node.links.get(there.key.public)
    return relay_of(link.connection.path) if link is not None else None


@simulated
async def test_two_nodes_that_nobody_can_dial_are_linked_over_a_relay_and_call_each_other() -> None:
    world, machines = await world_with_two_nats(1)
    alpha, beta, gamma, delta = machines
    await world.until(lambda: world.is_whole(machines), 60, what="all are linked with all")
    assert [one.node.reaching.verdict.reach for one in machines] == [Reach.DIALABLE] * 2 + [Reach.OUTBOUND] * 2
    assert link_over(gamma, delta)
    assert link_over(delta, gamma)
    assert not any(link_over(a, b) for a in (alpha, beta) for b in machines if a is not b)
    await gamma.run_agent("Echo")
    await world.until(lambda: delta.knows_agent("echo"), what="delta knows gamma's agent")
    assert await delta.call("custom:echo", "hello") == "hello"
    large = "x" * 300_000
    assert await delta.call("custom:echo", large) == large
    await world.close()
    assert Bounds(world).settled() == [], "nothing is left open by nodes that ended in order"


@pytest.mark.parametrize("end", ["kill", "crash", "stop"])
@simulated
async def test_when_its_relay_goes_a_link_is_there_again_over_the_other_one(end: str) -> None:
    world, machines = await world_with_two_nats(f"goes {end}")
    *dialled, gamma, delta = machines
    await world.until(lambda: world.is_whole(machines), 60, what="all are linked with all")
    await world.until(lambda: all(len(one.node.reaching.relays) == 2 for one in (gamma, delta)), 60, what="both have two relays")
    await gamma.run_agent("Echo")
    await world.until(lambda: delta.knows_agent("echo"), what="delta knows gamma's agent")
    used = relay_between(gamma, delta)
    gone = next(machine for machine in dialled if machine.key.public == used)
    stays = next(machine for machine in dialled if machine is not gone)
    await asyncio.sleep(30)
    began_s = world.now_s
    if end == "stop":
        await gone.stop()
    else:
        getattr(gone, end)()
    await world.until(lambda: relay_between(gamma, delta) == stays.key.public, 30, what="it goes over the other one")
    assert await delta.call("custom:echo", "hello") == "hello"
    assert world.now_s - began_s <= REPAIRED_S
    await gone.start()
    await world.until(lambda: all(len(one.node.reaching.relays) == 2 for one in (gamma, delta)), 120, what="two relays again")
    await world.close()
