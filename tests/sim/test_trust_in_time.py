"""What becomes of trust when nodes are away for long, lapse, are revoked, leave, are forgotten, or have a clock that is off.

Days pass by setting all clocks ahead at once, in steps between which the nodes do what they do every half minute.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial

import pytest

from skerry.errors import Code, Refused, SkerryError
from skerry.identity.grants import Role, State
from skerry.identity.statement import state
from skerry.node import views
from skerry.node.verbs import InviteRequest, NodeName, Nothing, RenameRequest, RevokeReply, RevokeRequest
from skerry.records.record import KINDS, TOMBSTONE_MS
from skerry.sim.clock import EPOCH_MS
from skerry.sim.machine import Machine
from skerry.sim.world import World
from tests.support.calendar import CHORES_S, DAY_MS, days
from tests.support.links import simulated


def standing(at: Machine, of: Machine) -> State:
    return at.node.trust.standing(of.key.public).state


def is_departed(at: Machine, of: Machine) -> bool:
    return standing(at, of) is State.DEPARTED


async def linked(world: World, *machines: Machine) -> None:
    await world.until(lambda: world.is_whole(machines), 120.0, what="all are connected")


@simulated
async def test_members_lapse_without_their_operator_call_on_and_renew_when_it_is_back() -> None:
    world = World("operator-away")
    alpha, beta, gamma = await world.formation(3)
    await gamma.run_agent("Echo")
    await world.until(lambda: beta.knows_agent("echo"))
    await alpha.stop()
    await days(world, 24)
    assert "lapses in" in beta.node.warnings["grant"], "people are told a week before"
    await days(world, 36)
    assert standing(beta, beta) is standing(beta, gamma) is State.LAPSED
    assert "operator" in beta.node.warnings["grant"]
    assert await beta.call("custom:echo", "still here") == "still here"
    await alpha.start()
    await linked(world, alpha, beta, gamma)
    await world.until(lambda: standing(alpha, beta) is standing(alpha, gamma) is State.VALID, 120.0, what="they are renewed")
    await world.until(lambda: standing(gamma, beta) is State.VALID, what="and everybody knows")
    assert standing(alpha, alpha) is State.VALID
    await asyncio.sleep(CHORES_S)
    assert "grant" not in beta.node.warnings
    await world.close()


@simulated
async def test_a_grant_that_lapsed_too_long_ago_is_refused_and_a_new_ticket_brings_the_node_back() -> None:
    world = World("lapsed")
    alpha, beta = await world.formation(2)
    await alpha.run_agent("Echo")
    await world.until(lambda: beta.knows_agent("echo"))
    ticket = await alpha.invite(ttl_s=365 * 24 * 3600.0)
    await beta.stop()
    await days(world, 30 + 90 + 2)
    await beta.start()
    await asyncio.sleep(CHORES_S)
    assert not beta.node.trust.own().belongs
    assert "skerry join" in beta.node.warnings["grant"]
    assert alpha.node.links.get(beta.key.public) is None
    with pytest.raises(SkerryError):
        await beta.call("custom:echo", 1, timeout_s=5.0)
    await beta.stop()
    await beta.start(ticket)
    await linked(world, alpha, beta)
    assert standing(alpha, beta) is State.VALID
    await world.close()


@simulated
async def test_what_a_revoked_operator_signed_is_shown_voided_and_issued_again_where_it_is_kept() -> None:
    world = World("revoked-operator")
    alpha, beta = await world.formation(2, operators=2)
    gamma, delta = world.machine("gamma"), world.machine("delta")
    await gamma.start(await beta.invite())
    await delta.start(await beta.invite())
    everybody = [alpha, beta, gamma, delta]
    await linked(world, *everybody)
    await delta.stop()  # it is away while it happens
    plan: RevokeReply = await alpha.ask("node.revoke", RevokeRequest(beta.key.public.hex(), dry_run=True))
    assert sorted(plan.voided) == sorted([gamma.key.public.hex(), delta.key.public.hex()])
    assert standing(alpha, beta) is State.VALID, "to look changes nothing"
    done: RevokeReply = await alpha.ask("node.revoke", RevokeRequest(beta.key.public.hex(), "stolen", keep=[gamma.key.public.hex()]))
    assert done.reissued == 1
    await world.until(lambda: standing(gamma, beta) is State.REVOKED)
    assert standing(gamma, gamma) is State.VALID
    grant = gamma.node.trust.own().grant
    assert grant is not None
    assert grant.issuer == alpha.key.public
    assert standing(alpha, delta) is State.REVOKED
    with pytest.raises(Refused, match="revoke"):
        await beta.ask("node.invite", InviteRequest())
    await delta.start()
    await asyncio.sleep(CHORES_S)
    assert alpha.node.links.get(delta.key.public) is None
    assert any("refuses this node" in warning for warning in views.status(delta.node).warnings)
    await world.close()


@simulated
async def test_a_node_away_for_longer_than_tombstones_live_brings_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without a short life of its own (as directives have none) is deleted, its tombstone and its author are gone, and then
    a node comes back that still holds it."""
    monkeypatch.setitem(KINDS, "agent", replace(KINDS["agent"], lifetime_ms=1000 * DAY_MS))
    world = World("long-away")
    alpha, beta, gamma, delta = await world.formation(4)

    def say(body: dict[str, object]) -> None:
        now_ms = gamma.clock.now_ms()
        replica = gamma.node.replica
        lifetime_ms = 1000 * DAY_MS if body else TOMBSTONE_MS
        replica.publish(
            state(
                gamma.key,
                kind="agent",
                name="ghost",
                formation=gamma.node.formation,
                audience="formation",
                stamp=replica.next_stamp(now_ms=now_ms),
                expires=now_ms + lifetime_ms,
                body=body,
            )
        )

    def holds(machine: Machine) -> bool:
        return machine.node.ports.store.get(gamma.key.public, "agent", "ghost") is not None

    say({"card": b"", "status": "available"})
    await world.until(lambda: all(holds(machine) for machine in (alpha, beta, delta)))
    await delta.stop()
    say({})
    await days(world, 32)
    await asyncio.sleep(900)  # what is over has been purged
    assert not any(holds(machine) for machine in (alpha, beta, gamma))
    await gamma.stop()
    await days(world, 10)
    await delta.start()
    assert holds(delta), "alone it keeps what it knew"
    await linked(world, alpha, beta, delta)
    await world.until(lambda: not holds(delta), what="it starts from a snapshot")
    await asyncio.sleep(CHORES_S)
    assert not holds(alpha)
    assert not holds(beta)
    assert delta.node.replica.get(alpha.key.public, "node", "node", now_ms=delta.clock.now_ms()) is not None
    await world.close()


@simulated
async def test_a_formation_that_was_switched_off_for_long_comes_back_whole() -> None:
    world = World("all-off")
    machines = await world.formation(3)
    for machine in machines:
        await machine.stop()
    await days(world, 60)
    for machine in machines:
        await machine.start()
    await linked(world, *machines)
    _, beta, gamma = machines
    await gamma.run_agent("Echo")
    await world.until(lambda: beta.knows_agent("echo"), what="nobody takes anybody for stale")
    assert await beta.call("custom:echo", 1) == 1
    await world.until(lambda: standing(beta, beta) is State.VALID, 120.0)
    await world.close()


# --- leaving, forgetting, names ---------------------------------------------------------------------------------------------------


@simulated
async def test_who_leaves_is_dialled_and_listed_no_more_and_may_come_back_with_a_new_ticket() -> None:
    world = World("leaves")
    alpha, beta, gamma = await world.formation(3)
    await beta.run_agent("Echo")
    await world.until(lambda: gamma.knows_agent("echo"))
    spent = await alpha.invite()
    reply = await beta.ask("node.leave", Nothing())
    assert (reply.told, reply.nodes) == (2, 2)
    await beta.stop()
    for machine in (alpha, gamma):
        await world.until(partial(is_departed, machine, beta))
        assert beta.key.public not in machine.node.wanted()
        assert beta.key.public.hex() not in [info.id for info in views.nodes(machine.node)]
        assert not machine.knows_agent("echo")
    await beta.start()  # cut before its home was free
    await asyncio.sleep(CHORES_S)
    assert alpha.node.links.get(beta.key.public) is None
    await beta.stop()
    await beta.start(spent)
    await linked(world, alpha, beta, gamma)
    assert standing(gamma, beta) is State.VALID
    await world.close()


@simulated
async def test_a_ticket_used_before_the_departure_does_not_bring_a_node_back() -> None:
    world = World("left-ticket")
    alpha = world.machine("alpha")
    beta = world.machine("beta")
    await alpha.start()
    ticket = await alpha.invite()
    await beta.start(ticket)
    await linked(world, alpha, beta)
    await beta.ask("node.leave", Nothing())
    await beta.stop()
    with pytest.raises(Refused) as refused:
        await beta.start(ticket)
    assert refused.value.code == Code.TICKET_SPENT
    await world.close()


@simulated
async def test_a_node_that_is_gone_is_forgotten_and_hears_of_it_when_it_is_back() -> None:
    world = World("forgotten")
    alpha, beta, gamma = await world.formation(3)
    with pytest.raises(Refused) as up:
        await alpha.ask("node.forget", NodeName("beta"))
    assert up.value.code == Code.CONFLICT
    beta.crash()
    await world.until(lambda: alpha.node.links.get(beta.key.public) is None)
    with pytest.raises(Refused) as not_operator:
        await gamma.ask("node.forget", NodeName("beta"))
    assert not_operator.value.code in (Code.NOT_GRANTED, Code.CONFLICT)
    await alpha.ask("node.forget", NodeName("beta"))
    await world.until(lambda: standing(gamma, beta) is State.DEPARTED)
    assert beta.key.public not in gamma.node.wanted()
    await beta.start()
    await world.until(lambda: standing(beta, beta) is State.DEPARTED, 60.0, what="it is told")
    await asyncio.sleep(CHORES_S)
    assert "new ticket" in beta.node.warnings["grant"]
    await beta.stop()
    await beta.start(await alpha.invite())
    await linked(world, alpha, beta, gamma)
    await world.close()


@simulated
async def test_of_two_claims_to_a_name_the_older_keeps_it_also_after_long_absence() -> None:
    world = World("names")
    alpha, beta, gamma = await world.formation(3)
    await beta.ask("node.rename", RenameRequest("worker"))
    await asyncio.sleep(2)
    await gamma.ask("node.rename", RenameRequest("worker"))
    younger = f"worker~{gamma.key.public.hex()[:4]}"
    wanted = {beta.key.public: "worker", gamma.key.public: younger, alpha.key.public: "alpha"}
    await world.until(lambda: all(views.node_names(machine.node) == wanted for machine in (alpha, beta, gamma)))
    await beta.stop()
    await days(world, 4)
    assert views.node_names(alpha.node) == wanted, "who is away keeps its name"
    await gamma.ask("node.rename", RenameRequest("gamma"))
    await world.until(lambda: views.node_names(alpha.node)[gamma.key.public] == "gamma")
    await world.close()


# --- clocks -----------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_clock_in_1970_is_named_as_the_cause() -> None:
    world = World("1970")
    alpha, beta = await world.formation(2)
    gamma = world.machine("gamma", ahead_ms=-EPOCH_MS)
    with pytest.raises(SkerryError) as founding:
        await gamma.start()
    assert founding.value.code == Code.CLOCK_OFF
    assert "1970" in founding.value.message
    with pytest.raises(SkerryError) as joining:
        await gamma.start(await alpha.invite())
    assert joining.value.code == Code.CLOCK_OFF
    await beta.stop()
    before_ms = beta.clock.now_ms()
    beta.clock.step(-before_ms)
    await beta.start()
    assert "1970" in beta.node.warnings["grant"]
    await asyncio.sleep(CHORES_S)
    assert alpha.node.links.get(beta.key.public) is None
    beta.clock.step(before_ms)
    await linked(world, alpha, beta)
    await asyncio.sleep(CHORES_S)
    assert "grant" not in beta.node.warnings
    await world.close()


@simulated
async def test_a_clock_that_was_far_ahead_and_is_set_right_costs_no_records() -> None:
    world = World("ahead")
    alpha, beta, gamma = await world.formation(3)
    await gamma.run_agent("Echo")
    await world.until(lambda: beta.knows_agent("echo"))
    years_ms = 25 * 365 * DAY_MS
    beta.clock.step(years_ms)
    await asyncio.sleep(900)  # by that time everything is over, and it is purged
    beta.clock.step(-years_ms)
    await linked(world, alpha, beta, gamma)
    await world.until(lambda: beta.knows_agent("echo"), 120.0, what="it asks again for all that it threw away")
    await beta.stop()
    await beta.start()
    await linked(world, alpha, beta, gamma)
    assert standing(beta, beta) is State.VALID
    assert standing(beta, gamma) is State.VALID
    assert beta.node.roster.last_role(alpha.key.public) is Role.OPERATOR
    await world.close()


@pytest.mark.parametrize("by_ms", [3 * DAY_MS, -45 * DAY_MS, -EPOCH_MS])
@simulated
async def test_a_founder_that_is_alone_speaks_by_the_right_time_once_its_clock_is_set(by_ms: int) -> None:
    world = World("alone")
    alpha, beta = world.machine("alpha"), world.machine("beta")
    await alpha.start()
    alpha.clock.step(by_ms)
    with contextlib.suppress(SkerryError):
        await alpha.invite()
        alpha.node.trust.grant(world.machine("gone").key.public, Role.MEMBER)
    await alpha.run_agent("Echo")
    await asyncio.sleep(60)
    alpha.clock.step(-by_ms)
    await asyncio.sleep(60)
    await beta.start(await alpha.invite())
    await world.until(lambda: beta.knows_agent("echo"))
    assert standing(beta, alpha) is standing(alpha, beta) is State.VALID
    await world.close()
