"""Two formations in one simulated world: who may what, on a good day and on a bad one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from skerry.agents.verbs import WORKER_VERBS, AgentInfo, AgentName
from skerry.channel.link import Link
from skerry.channel.messages import pack_message
from skerry.errors import Code, Refused, SkerryError, Unreachable
from skerry.identity.codec import pack
from skerry.node.node import Node
from skerry.node.operations import VERBS
from skerry.node.policy import Right, rights_of
from skerry.node.strangers import FRAMES_MAX
from skerry.node.verbs import ContactAcceptRequest, ContactAddRequest, ContactInviteRequest, ContactName, Nothing
from skerry.routing.task import Task, new_task_id
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.verbs import VERBS_OF_WIRES
from tests.support.links import simulated
from tests.support.neighbours import SETTLES_S, call, contact_link, known, make_contacts, neighbours, share


async def code_of(machine: Machine, capability: str, payload: object = None) -> str:
    try:
        await call(machine, capability, payload)
    except SkerryError as error:
        return error.code
    return ""


async def refused_verbs(machine: Machine, link: Link, verbs: Iterable[str] = VERBS) -> dict[str, str]:
    """Every verb, or some, asked over a link: those that are refused for want of a right, with what was said."""

    async def ask_all(node: Node) -> dict[str, str]:
        refused, to = {}, link
        for verb in verbs:
            try:
                try:
                    await to.call(verb, pack_message(Nothing()), timeout_s=5.0)
                except Unreachable:  # a stranger's link is ended after a while
                    to = await contact_link(node)
                    await to.call(verb, pack_message(Nothing()), timeout_s=5.0)
            except SkerryError as error:
                if error.code == Code.NOT_GRANTED:
                    refused[verb] = error.message
        return refused

    return await machine.within(ask_all)


# --- the matrix -------------------------------------------------------------------------------------------------------------------

FOR_ANYBODY = {"ping", "node.join", "contact.meet", "circle.announcements"}
UNREAD = {"task.run", "mail.deliver", *VERBS_OF_WIRES}  # asked with nothing; `test_authorisation.py` asks them in earnest


@simulated
@pytest.mark.parametrize("allow", [(), ("federate",), ("call:custom:echo",), ("federate", "call:*"), ("wire:*", "inject:*")])
async def test_every_verb_answers_a_contact_by_its_entry_and_nothing_else(allow: tuple[str, ...]) -> None:
    async with neighbours(f"matrix-{'-'.join(allow)}", *allow) as (_, _, _, xi):
        link = await xi.within(contact_link)
        refused = await refused_verbs(xi, link)
        opened = {"contact.news"} | ({"records.pull"} if "federate" in allow else set())
        assert set(VERBS) - set(refused) <= FOR_ANYBODY | opened | UNREAD, "what can't be read is refused as that"
        assert set(refused) >= set(VERBS) - FOR_ANYBODY - opened - UNREAD
        if "federate" not in allow:
            assert "'federate'" in refused["records.pull"], "the missing right is named"
        assert "'operate'" in refused["agent.stop"]
        assert "'federate'" in refused["private.pull"], "what our nodes tell each other is no contact's, whatever its entry says"


@simulated
async def test_every_verb_answers_members_operators_and_strangers_by_their_right() -> None:
    world = World("matrix-ours")
    alpha, beta, gamma = await world.formation(3, operators=2)
    for asks, answers in ((beta, alpha), (gamma, alpha)):
        link = asks.node.links.get(answers.key.public)
        assert link is not None
        may = rights_of(alpha.node.trust.standing(asks.key.public))
        refused = await refused_verbs(asks, link)
        assert set(refused) >= {verb for verb, operation in VERBS.items() if operation.right not in may}
        assert not {"ping", "records.pull", "private.pull", "node.list"} & set(refused)
        assert ("contact.list" in refused) == (asks is gamma), "contacts are an operator's"
    stranger = world.machine("psi")
    await stranger.start()
    await stranger.ask("contact.add", ContactAddRequest("alphas", ["tcp://alpha:7420"], formation=alpha.node.formation.hex()))
    refused, verbs = {}, list(VERBS)
    for some in (verbs[: FRAMES_MAX // 2], verbs[FRAMES_MAX // 2 : FRAMES_MAX], verbs[FRAMES_MAX:]):  # more than a stranger may say at once
        link = await stranger.within(contact_link)
        refused |= await refused_verbs(stranger, link, some)
        link.close(Refused("that was all", code=Code.CANCELLED))
    assert set(VERBS) - set(refused) == FOR_ANYBODY
    assert not WORKER_VERBS & set(VERBS), "a worker's verbs are its own, and it has none of these"
    await world.close()


@simulated
async def test_the_wrong_right_is_named_when_a_task_is_refused() -> None:
    async with neighbours("named", "call:custom:count") as (_, alpha, _, xi):
        info = await alpha.run_agent("Echo")
        await share(alpha, "echo", "xis")
        link = await xi.within(contact_link)

        async def run(node: Node, capability: str, agent: str) -> str:
            requester = node.key.public
            identity = new_task_id(requester, node.ports.random.token(16))
            task = Task(identity, capability, agent, pack("x"), requester, node.ports.clock.now_ms())
            try:
                await link.call("task.run", task.to_bytes(), timeout_s=5.0)
            except SkerryError as error:
                return f"{error.code}: {error.message}"
            return ""

        assert "'call:custom:echo'" in await xi.within(lambda node: run(node, "custom:echo", info.id))
        assert known(xi) == [], "an entry without federate is told of nothing"
        await alpha.ask("contact.add", ContactAddRequest("xis", [], formation=xi.node.formation.hex(), allow=["call:custom:*"]))
        assert await xi.within(lambda node: run(node, "custom:echo", info.id)) == "", "rights change on links that are open"
        await share(alpha, "echo", "none")
        said = await xi.within(lambda node: run(node, "custom:echo", info.id))
        assert said.startswith("not_granted: no agent of that id is shared"), "what is not shared is not there"


# --- sharing ----------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_shared_agent_is_known_and_called_through_any_node_and_a_private_one_is_not() -> None:
    async with neighbours("shared", "federate", "call:*") as (world, alpha, beta, xi):
        await beta.run_agent("Echo")
        await beta.run_agent("Count")
        assert known(xi) == []
        await share(beta, "echo", "xis")
        await world.until(lambda: known(xi) == ["echo"], SETTLES_S, what="xi knows what is shared")
        await call(xi, "custom:echo", "hello")
        await call(xi, "custom:echo", "hello", agent="alphas/echo")
        assert await code_of(xi, "custom:count") == Code.UNKNOWN_CAPABILITY
        with pytest.raises(SkerryError, match="alphas"):
            await xi.call("custom:echo", "hello")
        grants = xi.node.abroad.of(alpha.node.formation).replica.held("grant")
        assert {s.body["subject"] for s in grants} <= {alpha.key.public, beta.key.public}
        assert not list(xi.node.abroad.of(alpha.node.formation).replica.held("node")), "names and addresses stay at home"


@simulated
async def test_what_is_taken_back_while_a_contact_is_cut_off_is_gone_when_it_is_back() -> None:
    async with neighbours("taken-back", "federate", "call:*") as (world, alpha, beta, xi):
        await beta.run_agent("Echo")
        await share(beta, "echo", "xis")
        await world.until(lambda: known(xi) == ["echo"], SETTLES_S, what="xi knows it")
        world.network.partition(["alpha", "beta"], ["xi"])
        await asyncio.sleep(20)
        await share(beta, "echo", "none")
        assert known(xi) == ["echo"]
        world.heal()
        await world.until(lambda: known(xi) == [], 120.0, what="xi hears that it was taken back")
        assert not [s for s in beta.node.replica.living("agent", now_ms=beta.clock.now_ms()) if s.tombstone]
        assert alpha.knows_agent("echo"), "at home it is as it was"


@simulated
async def test_a_removed_agent_is_gone_at_the_contacts_too() -> None:
    async with neighbours("gone", "federate", "call:*") as (world, alpha, _, xi):
        await alpha.run_agent("Echo")
        await share(alpha, "echo", "public")
        await world.until(lambda: known(xi) == ["echo"], SETTLES_S, what="xi knows it")
        await alpha.ask("agent.remove", AgentName("echo"))
        await world.until(lambda: known(xi) == [], SETTLES_S, what="xi hears that it is gone")


@simulated
async def test_a_contact_that_is_removed_has_nothing_left_on_any_node() -> None:
    async with neighbours("removed", "federate", "call:*") as (world, alpha, beta, xi):
        info: AgentInfo = await beta.run_agent("Echo")
        await share(beta, "echo", "xis")
        await world.until(lambda: known(xi) == ["echo"], SETTLES_S, what="xi knows it")
        await world.until(lambda: bool(beta.node.contacts.directory.contacts), SETTLES_S, what="beta was told")
        await alpha.ask("contact.remove", ContactName("xis"))
        await world.until(lambda: not beta.node.contacts.directory.contacts, SETTLES_S, what="beta hears of it")
        await world.until(
            lambda: all(Right.CONTACT not in link.rights for m in (alpha, beta) for link in m.node.links.all()), 5.0, what="links lose it"
        )
        assert beta.node.host.named("echo").spec.share == [], "who comes again under that id is given nothing of it"
        assert await code_of(xi, "custom:echo") in (Code.NOT_GRANTED, Code.NO_CANDIDATE, Code.UNREACHABLE)
        await make_contacts(alpha, xi, "federate", "call:*")
        await world.until(lambda: known(xi) == [], 120.0, what="xi hears that nothing is shared with it any more")
        assert info.id not in {i.id for i in xi.node.foreign_agents.infos()}


@simulated
async def test_the_ticket_of_a_contact_that_is_removed_brings_it_back_no_more() -> None:
    async with neighbours("spent", "federate") as (_, alpha, _, xi):
        ticket = (await alpha.ask("contact.invite", ContactInviteRequest("again", ["federate"]))).ticket
        await alpha.ask("contact.remove", ContactName("xis"))
        await xi.ask("contact.accept", ContactAcceptRequest(ticket, "alphas", ["federate"]))
        assert [contact.name for contact in alpha.node.contacts.directory.contacts.values()] == ["again"]
        await xi.ask("contact.accept", ContactAcceptRequest(ticket, "alphas", ["federate"]))  # as after a cut: nothing changes
        await alpha.ask("contact.remove", ContactName("again"))
        with pytest.raises(SkerryError, match="was removed") as refused:
            await xi.ask("contact.accept", ContactAcceptRequest(ticket, "alphas", ["federate"]))
        assert refused.value.code == Code.TICKET_SPENT
        assert not alpha.node.contacts.directory.contacts


@simulated
async def test_who_is_out_there_is_out_here() -> None:
    async with neighbours("revoked", "federate", "call:*") as (world, alpha, _, xi):
        omicron = world.machine("omicron")
        await omicron.start(await xi.invite())
        await world.until(lambda: world.is_whole([xi, omicron]), what="xi and omicron are one formation")
        await world.until(lambda: bool(omicron.node.contacts.directory.contacts), SETTLES_S, what="omicron was told of the contact")
        await alpha.run_agent("Echo")
        await share(alpha, "echo", "xis")
        await world.until(lambda: known(omicron) == ["echo"], SETTLES_S, what="omicron knows it")
        await call(omicron, "custom:echo", "hello")
        world.network.partition(["xi"], ["omicron"])  # it does not hear of it, and goes on asking alpha
        await xi.revoke(omicron)
        await world.until(
            lambda: not any(link.id == omicron.key.public and Right.CONTACT in link.rights for link in alpha.node.links.all()),
            SETTLES_S,
            what="alpha hears that omicron is out",
        )
        assert await code_of(omicron, "custom:echo") != ""


@simulated
async def test_rate_and_concurrency_are_kept_for_all_nodes_of_a_contact_together() -> None:
    async with neighbours("rate", "federate", "call:*", "rate:2", "concurrency:1") as (world, alpha, _, xi):
        await alpha.run_agent("Slow")
        await alpha.run_agent("Echo")
        await share(alpha, "slow", "xis")
        await share(alpha, "echo", "xis")
        await world.until(lambda: known(xi) == ["echo", "slow"], SETTLES_S, what="xi knows them")
        outcomes = [await code_of(xi, "custom:echo") for _ in range(6)]
        assert outcomes.count("") in (2, 3)
        assert outcomes[-1] == Code.BUSY
        await asyncio.sleep(5)
        first = asyncio.ensure_future(code_of(xi, "custom:slow", 3))
        await asyncio.sleep(0.3)
        assert await code_of(xi, "custom:echo") == Code.BUSY
        await first


@simulated
async def test_contacts_outlive_a_restart_of_every_node() -> None:
    async with neighbours("restart", "federate", "call:*") as (world, alpha, beta, xi):
        await beta.run_agent("Echo")
        await share(beta, "echo", "xis")
        await world.until(lambda: known(xi) == ["echo"], SETTLES_S, what="xi knows it")
        for machine in (alpha, beta, xi):
            await machine.stop()
        for machine in (xi, beta, alpha):
            await machine.start()
        await world.until(lambda: world.is_whole([alpha, beta]), what="they are back")
        await world.until(lambda: known(xi) == ["echo"], SETTLES_S, what="xi knows it still")
        await world.until(lambda: beta.node.host.named("echo").status.value == "available", SETTLES_S, what="the agent is back")
        await world.until(
            lambda: any(link.id != xi.key.public and Right.CONTACT in link.rights for link in xi.node.links.all()), 90.0, what="linked"
        )
        await call(xi, "custom:echo", "hello")


@simulated
async def test_an_operator_that_is_revoked_takes_its_contacts_along_unless_they_are_kept() -> None:
    world = World("taken-over")
    alpha, beta, _ = await world.formation(3, operators=2)
    xi = world.machine("xi")
    await xi.start()
    await beta.ask("contact.add", ContactAddRequest("xis", ["tcp://xi:7420"], formation=xi.node.formation.hex()))
    await world.until(lambda: bool(alpha.node.contacts.directory.contacts), SETTLES_S, what="alpha was told")
    await alpha.revoke(beta)
    assert list(alpha.node.contacts.directory.contacts) == ["xis"]
    said = alpha.node.confidence.by(alpha.key.public, "contact")
    assert [s.name for s in said] == [xi.node.formation.hex()]
    await world.close()
