"""A formation of whole nodes through a bad day, and what everybody must know in the end."""

from __future__ import annotations

import asyncio

import pytest

from skerry.errors import SkerryError
from skerry.identity.grants import Role, State
from skerry.node import views
from skerry.sim.checkers.bounds import Bounds
from skerry.sim.checkers.records import EqualRecords
from skerry.sim.link import Link
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.links import simulated

HEALS_S = 90.0  # 30 s of patience on a dead path, 30 s of backoff


async def equal(world: World, *machines: Machine) -> None:
    """Everybody is connected and holds the same records."""
    checker = EqualRecords(world)
    await world.until(lambda: world.is_whole(machines) and not checker.settled(), HEALS_S, what="everybody holds the same records")


@simulated
async def test_five_nodes_join_are_cut_crash_and_end_with_the_same_records() -> None:
    world = World("five")
    alpha, beta, gamma, delta, epsilon = machines = await world.formation(5)
    await beta.run_agent("Echo")
    await gamma.run_agent("Count")
    world.network.partition(["alpha", "beta"], ["gamma", "delta", "epsilon"])
    await beta.run_agent("Slow")
    await gamma.remove_agent("count")
    await asyncio.sleep(40)
    assert not alpha.knows_agent("nobody")
    listed = [info.name for info in views.agents(delta.node)]
    assert "slow" not in listed, "what is said on one side of the cut is not heard on the other"
    assert "echo" in listed
    assert not delta.knows_agent("echo"), "and nothing is asked of whom it can't reach"
    epsilon.crash()
    await delta.run_agent("Once")
    delta.kill()
    world.heal()
    await asyncio.sleep(5)
    await delta.start()
    await epsilon.start()
    await equal(world, *machines)
    for machine in machines:
        assert machine.knows_agent("slow")
        assert machine.knows_agent("once"), "an agent comes back with its node"
        assert not machine.knows_agent("count")
        assert await machine.call("custom:echo", machine.name) == machine.name
    await world.close()
    assert Bounds(world).settled() == [], "nothing is left open by nodes that ended in order"


@simulated
async def test_a_revocation_reaches_every_node_also_one_that_was_away() -> None:
    world = World("revocation")
    alpha, beta, gamma, delta = await world.formation(4)
    delta.crash()
    await alpha.revoke(beta)
    await world.until(lambda: gamma.node.links.get(beta.key.public) is None, 5.0, what="its links end")
    assert gamma.node.trust.standing(beta.key.public).state is State.REVOKED
    alpha.crash()  # whoever said it is not there when delta comes back
    await delta.start()
    await world.until(lambda: delta.node.trust.standing(beta.key.public).state is State.REVOKED, HEALS_S, what="it is told by gamma")
    await world.until(lambda: delta.node.links.get(beta.key.public) is None, 5.0)
    with pytest.raises(SkerryError):
        await beta.call("custom:echo", 1)
    await alpha.start()
    await equal(world, alpha, gamma, delta)
    await world.close()


@simulated
async def test_a_cut_that_lets_bytes_through_one_way_is_no_link_and_heals() -> None:
    world = World("one-way")
    machines = alpha, beta, gamma = await world.formation(3)
    world.network.cut("alpha", "beta", one_way=True)
    await beta.run_agent("Echo")
    await world.until(lambda: gamma.knows_agent("echo"))
    await asyncio.sleep(60)
    assert alpha.node.links.get(beta.key.public) is None
    assert beta.node.links.get(alpha.key.public) is None
    assert alpha.knows_agent("echo"), "gamma passes on what beta said"
    world.heal()
    await equal(world, *machines)
    assert await alpha.call("custom:echo", 1) == 1
    await world.close()


@simulated
async def test_a_removal_that_the_node_does_not_survive_is_one() -> None:
    """Between the home's commit and the record's lies a moment in which the power goes."""
    world = World("removal")
    alpha, beta = await world.formation(2)
    info = await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    await asyncio.sleep(1)
    await beta.remove_agent("echo")
    beta.crash()
    await beta.start()
    await equal(world, alpha, beta)
    await world.until(lambda: not alpha.knows_agent("echo"), HEALS_S, what="its record is taken back")
    assert info.id not in [statement.name for statement in beta.node.replica.living("agent", now_ms=beta.clock.now_ms())]
    await world.close()


@simulated
async def test_a_full_disk_costs_neither_the_agent_nor_its_removal() -> None:
    world = World("full")
    (alpha,) = await world.formation(1)
    await alpha.run_agent("Echo")
    alpha.disk.is_full = True
    alpha.executor.workers()[0].kill()
    await asyncio.sleep(2)
    assert await alpha.call("custom:echo", 1) == 1, "its worker started again, although nobody could write that down"
    with pytest.raises(SkerryError):
        await alpha.remove_agent("echo")
    assert [resident.spec.name for resident in alpha.node.host.all()] == ["echo"], "what can't be forgotten for good is not forgotten"
    alpha.disk.is_full = False
    await alpha.start_agent("echo")
    assert await alpha.call("custom:echo", 2) == 2
    await alpha.remove_agent("echo")
    assert alpha.node.host.all() == []
    await world.close()


@simulated
async def test_a_disk_that_is_full_as_a_node_begins_to_speak_keeps_no_removed_agent_alive() -> None:
    """A node that starts says nothing before it knows what it said before; what was removed meanwhile it says as soon as it can."""
    world = World("speaks")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Echo")
    await equal(world, alpha, beta)
    await beta.stop()
    world.network.cut("alpha", "beta")
    await beta.start()
    await beta.remove_agent("echo")
    beta.disk.is_full = True
    await beta.node.may_write.wait()
    await asyncio.sleep(1)
    beta.disk.is_full = False
    world.heal()
    await world.until(lambda: not alpha.knows_agent("echo"), HEALS_S, what="its tombstone is written")
    await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"), HEALS_S, what="a new one is known")
    await equal(world, alpha, beta)
    await asyncio.sleep(2 * HEALS_S)
    assert alpha.knows_agent("echo")
    await world.close()


@simulated
async def test_what_could_not_be_written_does_not_count() -> None:
    """Neither for the node itself, until its end, nor for those to whom it was pushed while their disk was full."""
    world = World("unwritten")
    alpha, beta, gamma = await world.formation(3)
    alpha.disk.is_full = True
    with pytest.raises(SkerryError):
        await alpha.revoke(beta)
    assert alpha.node.trust.standing(beta.key.public).state is State.VALID
    alpha.disk.is_full = False
    gamma.disk.is_full = True
    await beta.run_agent("Echo")
    await asyncio.sleep(5)
    assert not gamma.knows_agent("echo")
    gamma.disk.is_full = False
    await world.until(lambda: gamma.knows_agent("echo"), 15.0, what="it asks for what it could not keep")
    await alpha.revoke(beta)
    await world.until(lambda: gamma.node.trust.standing(beta.key.public).state is State.REVOKED, 5.0)
    await equal(world, alpha, gamma)
    await world.close()


@simulated
async def test_joins_at_once_and_through_two_operators_are_one_formation() -> None:
    world = World("joins")
    alpha, beta = await world.formation(2, operators=2)
    newcomers = [world.machine(f"new{number}") for number in range(6)]
    for number, newcomer in enumerate(newcomers):
        world.loop.create_task(newcomer.start(await (alpha, beta)[number % 2].invite()))
    await equal(world, alpha, beta, *newcomers)
    assert all(alpha.node.trust.standing(newcomer.key.public).role is Role.MEMBER for newcomer in newcomers)
    await world.close()


@simulated
async def test_a_newcomer_whose_inviter_is_revoked_at_once_finds_the_others() -> None:
    """It has met nobody else yet: it knows them from what it was told when it joined."""
    world = World("inviter")
    alpha, beta = await world.formation(2, operators=2)
    gamma = world.machine("gamma")
    world.network.set_link("beta", "gamma", Link(delay_s=0.5))
    await gamma.start(await beta.invite())
    gamma.crash()
    await world.until(lambda: gamma.key.public in alpha.node.roster.subjects(), what="alpha knows that it joined")
    await alpha.revoke(beta)
    await gamma.start()
    await world.until(lambda: world.is_whole([alpha, gamma]), HEALS_S, what="it found alpha")
    assert gamma.node.trust.own().state is State.VALID, "and alpha's grant for it"
    await world.close()


@simulated
async def test_a_newcomer_whose_inviter_leaves_before_anybody_heard_of_it_finds_the_others() -> None:
    """The inviter knew of them by its own ticket alone: no record had come to it."""
    world = World("inviter-leaves")
    (alpha,) = await world.formation(1)
    alpha.node.invitations._introduction = list  # type: ignore[method-assign]
    zeta, theta = world.machine("zeta"), world.machine("theta")
    ticket = await alpha.invite(role=Role.OPERATOR)
    await zeta.start(ticket)
    world.network.cut("alpha", "zeta")  # before they compared what they hold
    world.network.cut("alpha", "theta")
    await theta.start(await zeta.invite())
    await zeta.leave()
    world.heal()
    await world.until(lambda: world.is_whole([alpha, theta]), 60.0)
    await world.close()
