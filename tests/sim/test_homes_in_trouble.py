"""Homes that come back from a backup, homes that were copied, tickets shown twice at once, and joins that are cut at every step."""

from __future__ import annotations

import asyncio

import pytest

from skerry.errors import Code, SkerryError
from skerry.identity.grants import Role, State
from skerry.identity.statement import Statement
from skerry.identity.ticket import Invitation
from skerry.node import views
from skerry.node.invitations import INVITATIONS
from skerry.sim.machine import Machine
from skerry.sim.process import Died
from skerry.sim.world import World
from tests.support.links import simulated

CUT_EVERY_S = 0.001  # a LAN's half round trip: a join takes some ten of them
CUTS = 24


async def linked(world: World, *machines: Machine) -> None:
    await world.until(lambda: world.is_whole(machines), 120.0, what="all are connected")


# --- backups ----------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_restored_home_hears_what_it_said_before_it_says_anything() -> None:
    world = World("restored")
    alpha, beta, gamma = await world.formation(3, operators=2)
    open_ticket = await beta.invite(uses=5)
    await beta.run_agent("Echo", "old")
    await asyncio.sleep(1)
    image = beta.disk.image()
    await asyncio.sleep(60)
    await beta.run_agent("Echo", "young")
    delta = world.machine("delta")
    await delta.start(await beta.invite())
    await linked(world, alpha, beta, gamma, delta)
    await world.until(lambda: alpha.knows_agent("young") and alpha.knows_agent("old"))
    newest = max(row.stamp for row in alpha.node.replica.said_by(beta.key.public, after=0))
    await beta.stop()
    beta.disk.restore(image)
    beta.clock.step(-4 * 60 * 1000)  # behind what it said, within what peers bear: only knowing it helps
    said: list[Statement] = []
    world.watch(lambda machine, statement, _: said.append(statement) if machine is alpha and statement.author == beta.key.public else None)
    await beta.start()
    await linked(world, alpha, beta, gamma, delta)
    await world.until(lambda: not alpha.knows_agent("young"), what="what the home does not know any more is taken back")
    assert said, "it said what is so now"
    assert all(statement.stamp > newest for statement in said), "and nothing with a stamp of before"
    assert alpha.knows_agent("old")
    assert await alpha.call("custom:echo", 1) == 1
    assert gamma.node.trust.standing(delta.key.public).state is State.VALID, "grants of after the backup hold"
    assert "restored" in beta.node.warnings
    with pytest.raises(SkerryError) as refused:
        await world.machine("epsilon").start(open_ticket)
    assert refused.value.code == Code.TICKET_UNKNOWN, "it can't know which of its tickets were used since"
    await beta.run_agent("Echo", "new")
    await world.until(lambda: alpha.knows_agent("new") and gamma.knows_agent("new"), what="others pull from it as before")
    await world.close()


@simulated
async def test_a_home_restored_while_nobody_is_there_catches_up_when_somebody_is() -> None:
    world = World("restored-alone")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Echo", "old")
    image = beta.disk.image()
    await asyncio.sleep(60)
    await beta.run_agent("Echo", "young")
    await world.until(lambda: alpha.knows_agent("young"))
    await beta.stop()
    await alpha.stop()
    beta.disk.restore(image)
    beta.clock.step(-4 * 60 * 1000)
    await beta.start()
    await beta.run_agent("Echo", "newest")
    await alpha.start()
    await linked(world, alpha, beta)
    await world.until(lambda: alpha.knows_agent("newest") and not alpha.knows_agent("young"), what="alpha sees what is so")
    assert alpha.knows_agent("old")
    await world.close()


# --- copies -----------------------------------------------------------------------------------------------------------------------


async def copied(world: World, of: Machine, name: str) -> Machine:
    """Another machine with the same home."""
    copy = world.machine(name)
    copy.disk.restore(of.disk.image())
    copy.key = of.key
    world.network.host(name).public_key = of.key.public
    return copy


@simulated
async def test_two_homes_copied_from_one_are_told_and_do_not_fight() -> None:
    world = World("twins")
    alpha, beta, gamma = await world.formation(3)
    await beta.run_agent("Echo")
    await asyncio.sleep(1)
    first = alpha.node.links.get(beta.key.public)
    twin = await copied(world, beta, "twin")
    said: list[Statement] = []
    world.watch(lambda machine, statement, _: said.append(statement) if machine is alpha and statement.author == beta.key.public else None)
    await twin.start()
    await world.until(lambda: "twin" in beta.node.warnings, what="the one that was first hears of it")
    await world.until(lambda: any("copied" in warning for warning in views.status(twin.node).warnings), what="and so does the other")
    assert any("runs twice" in warning for warning in alpha.node.warnings.values())
    await asyncio.sleep(300)
    assert alpha.node.links.get(beta.key.public) is first, "the first one keeps its place"
    assert len(said) <= 8, "nobody outshouts the other"
    assert await gamma.call("custom:echo", 1) == 1
    await beta.stop()
    await world.until(lambda: alpha.node.links.get(beta.key.public) is not None, 60.0, what="the other one takes the place that is free")
    await world.until(lambda: not views.status(alpha.node).warnings, 200.0, what="and nobody is warned any more")
    await world.close()


@simulated
async def test_two_copies_that_start_at_once_settle() -> None:
    world = World("twins-at-once")
    alpha, beta, gamma = await world.formation(3)
    await asyncio.sleep(1)
    twin = await copied(world, beta, "twin")
    await beta.stop()
    await asyncio.gather(beta.start(), twin.start())
    await asyncio.sleep(60)
    before = {machine.name: machine.node.links.get(beta.key.public) for machine in (alpha, gamma)}
    assert None not in before.values()
    said: list[Statement] = []
    world.watch(lambda machine, statement, _: said.append(statement) if statement.author == beta.key.public else None)
    await asyncio.sleep(300)
    assert before == {machine.name: machine.node.links.get(beta.key.public) for machine in (alpha, gamma)}
    assert len(said) <= 300, "five minutes of a quarrel at network speed would be thousands"
    for machine in (beta, twin):
        assert any("key" in warning or "copied" in warning for warning in views.status(machine.node).warnings), machine.name
    await world.close()


@simulated
async def test_a_node_that_starts_anew_is_no_twin() -> None:
    world = World("no-twin")
    alpha, beta, gamma = await world.formation(3)
    for end in (beta.kill, beta.crash, beta.kill):
        end()
        await beta.start()
        await linked(world, alpha, beta, gamma)
    assert not any("twice" in warning for warning in (*alpha.node.warnings.values(), *beta.node.warnings.values()))
    await world.close()


# --- tickets ----------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_ticket_for_one_shown_by_two_at_once_lets_one_in() -> None:
    world = World("ticket-twice")
    alpha = world.machine("alpha")
    await alpha.start()
    ticket = await alpha.invite()
    newcomers = [world.machine(f"node{number}") for number in range(4)]
    outcomes = await asyncio.gather(*(machine.start(ticket) for machine in newcomers), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, SkerryError)]
    assert [error.code for error in refused] == [Code.TICKET_SPENT] * 3
    await linked(world, alpha, *(machine for machine in newcomers if machine.is_up))
    assert uses(alpha) == [1]
    await world.close()


def uses(inviter: Machine) -> list[int]:
    return [len(Invitation.from_bytes(data).used_by) for _, data in inviter.node.ports.store.facts(INVITATIONS)]


@pytest.mark.parametrize("dies", ["joiner", "inviter", "both"])
def test_a_join_cut_at_any_step_and_repeated_is_one_join(dies: str) -> None:
    @simulated
    async def all_cuts() -> None:
        for number in range(CUTS):
            await one_cut(number * CUT_EVERY_S, dies)

    all_cuts()


async def one_cut(after_s: float, dies: str) -> None:
    world = World(f"cut-{dies}-{after_s}")
    alpha, beta = world.machine("alpha"), world.machine("beta")
    await alpha.start()
    ticket = await alpha.invite()
    join = asyncio.ensure_future(beta.start(ticket))
    await asyncio.sleep(after_s)
    if dies != "inviter" and beta.runs:
        beta.crash()
    if dies != "joiner":
        alpha.crash()
    try:
        await join
    except (SkerryError, Died):
        pass  # it was cut
    if not alpha.is_up:
        await alpha.start()
    if not beta.is_up:
        await beta.start(ticket)
    await linked(world, alpha, beta)
    assert uses(alpha) == [1]
    standing = alpha.node.trust.standing(beta.key.public)
    assert (standing.state, standing.role) == (State.VALID, Role.MEMBER)
    await world.close()


@simulated
async def test_two_copies_that_reach_different_nodes_do_not_outshout_each_other() -> None:
    """Each is the only one for its neighbour; their records meet in between."""
    world = World("twins-apart")
    _alpha, beta, gamma = await world.formation(3)
    await beta.run_agent("Echo")
    await asyncio.sleep(1)
    twin = await copied(world, beta, "twin")
    world.network.cut("beta", "gamma")
    world.network.cut("twin", "alpha")
    await world.until(lambda: gamma.node.links.get(beta.key.public) is None, 120.0)
    await twin.start()
    await world.until(lambda: gamma.node.links.get(beta.key.public) is not None, 60.0, what="the copy is gamma's beta")
    said: list[Statement] = []
    world.watch(lambda machine, statement, _: said.append(statement) if statement.author == beta.key.public else None)
    await asyncio.sleep(120)
    assert len(said) <= 100, "two minutes of a quarrel at network speed would be thousands"
    assert "twin" in beta.node.warnings
    assert "twin" in twin.node.warnings
    await world.close()
