"""Wires and letters across formations, in-process contacts, and peers that are down: simulated worlds."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from skerry.agents.letters import HearReply, Letter
from skerry.channel.messages import pack_message
from skerry.errors import Code, ProtocolError, SkerryError, StorageError
from skerry.identity.codec import pack
from skerry.node.verbs import ContactAddRequest, ContactName, NewsRequest
from skerry.node.wire_rounds import ROUND_S
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.aside import SPACE as ASIDE
from skerry.wiring.verbs import DeliverRequest, InjectRequest, LookupReply, LookupRequest, SendRequest, WireAddRequest
from skerry.wiring.wires import comms_name, key_text, peer_id
from tests.support.clerks import address, delivered, desks, heard, people, state, tell, wire, wires
from tests.support.links import simulated
from tests.support.neighbours import neighbours, said

SETTLES_S = 2 * ROUND_S + 5


async def allow(machine: Machine, *rights: str) -> None:
    """What the one contact of a machine's formation may there."""
    (contact,) = machine.node.contacts.directory.contacts.values()
    ids: dict[str, Any] = {"node": contact.id.hex()} if contact.is_node else {"formation": contact.id.hex()}
    await machine.ask("contact.add", ContactAddRequest(contact.name, list(contact.addresses), allow=list(rights) or ["none"], **ids))


@simulated
async def test_a_contact_that_loses_the_right_writes_over_its_wire_no_more() -> None:
    async with neighbours("right-lost", "wire:beta-clerk") as (world, alpha, beta, xi):
        (right,) = await desks(world, beta)
        (mine,) = await desks(world, xi)
        await world.until(lambda: alpha.knows_agent(right.name))
        await allow(xi, "federate", "wire:xi-clerk")
        await wire(xi, mine.name, f"alphas/{right.name}")
        to = f"{address(beta, right)}@{alpha.node.formation.hex()}"
        await tell(xi, mine, to, 1)
        await world.until(lambda: heard(beta, right, mine.name) == 1)
        await allow(alpha, "federate")
        await world.until(lambda: not beta.node.contacts.directory.contacts["xis"].allow.may("wire", right.name), what="beta was told")
        assert await said(xi, "mail.deliver", delivered(xi, mine, right.id, 1), to=beta) == Code.NOT_GRANTED
        await tell(xi, mine, to, 1)
        await world.until(lambda: len(xi.node.ports.store.facts(ASIDE)) == 1, what="it is put aside there, with the reason")
        assert heard(beta, right, mine.name) == 1
        await asyncio.sleep(SETTLES_S)
        assert [one[2] for one in wires(beta)] == ["standing"], "until one side takes it away"
        assert [one[2] for one in wires(xi)] == ["waiting"]
        await beta.ask("wire.remove", WireAddRequest(right.name, "xis/xi-clerk"))
        await world.until(lambda: wires(xi) == [], SETTLES_S)


@simulated
async def test_a_contact_leaves_half_of_the_room_to_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the mailbox of an agent that is slow, and in the outbox of a node that it has injected into."""
    monkeypatch.setattr("skerry.agents.mailbox.LETTERS_MAX", 20)
    monkeypatch.setattr("skerry.wiring.outbox.LETTERS_MAX", 20)
    async with neighbours("half-the-room", "inject:*", "rate:1000") as (world, alpha, beta, xi):
        (right,) = await desks(world, beta)
        (mine,) = await desks(world, xi)
        await world.until(lambda: alpha.knows_agent(right.name))
        resident = beta.node.host.get(right.id)
        assert resident is not None

        async def slow(letters: list[Letter], *, timeout_s: float) -> HearReply:
            await asyncio.sleep(3600)
            return HearReply(0)

        resident.hear = slow  # type: ignore[method-assign]
        for most, sender, of in ((10, delivered(xi, mine, right.id, *range(1, 12)), xi), (20, _of_people(alpha, right.id, 12), alpha)):
            assert await said(of, "mail.deliver", sender, to=beta) == (Code.BUSY if of is xi else Code.DEADLINE_EXCEEDED)
            assert beta.node.mail.counts()[0].get(right.id, 0) <= most
        await beta.stop_agent(right.name)
        codes = [await said(xi, "inject", InjectRequest(right.name, number), to=beta) for number in range(12)]
        assert codes == [""] * 10 + [Code.BUSY] * 2
        await beta.ask("mail.send", SendRequest(right.id, pack(["beta/x", 1, None])))


def _of_people(machine: Machine, agent: str, count: int) -> DeliverRequest:
    session, who = people(machine, agent)
    letters = [Letter(session, 1 + number, machine.name, "", pack(["x", number, None])) for number in range(count)]
    return DeliverRequest(agent, letters, who)


@simulated
async def test_a_node_that_has_only_joined_refuses_no_contacts_letter_for_good() -> None:
    """It stands at the border before it knows the agents behind it."""
    async with neighbours("only-joined", "inject:*") as (world, alpha, _, xi):
        (mine,) = await desks(world, xi)
        letters = delivered(xi, mine, "ab" * 16, 1)
        alpha.node.federation.touched.clear()
        assert await said(xi, "mail.deliver", letters, to=alpha) == Code.BUSY
        assert await said(xi, "inject", InjectRequest("nobody", 1), to=alpha) == Code.BUSY
        alpha.node.federation.touched.set()
        assert await said(xi, "mail.deliver", letters, to=alpha) == Code.UNKNOWN_MEMBER
        alpha.node.running = False  # its door is open, its agents are not there yet
        assert await said(xi, "mail.deliver", letters, to=alpha) == Code.BUSY
        alpha.node.running = True


@simulated
async def test_a_contact_that_guesses_agents_has_us_look_no_more_often_than_its_rate() -> None:
    async with neighbours("guesses", "wire:beta-clerk", "rate:2") as (world, alpha, _, xi):
        (mine,) = await desks(world, xi)
        alpha.node.federation.touched.set()
        nobody = delivered(xi, mine, "ab" * 16, 1)
        codes = [await said(xi, "mail.deliver", nobody, to=alpha) for _ in range(10)]
        assert codes[0] == Code.UNKNOWN_MEMBER
        assert codes[-1] == Code.BUSY
        assert await said(xi, "lookup_member", LookupRequest("ab" * 16), to=alpha) == Code.BUSY


@simulated
async def test_news_of_a_contact_for_which_we_are_none_wake_nothing_before_it_takes_ours() -> None:
    async with neighbours("news-of-none", "federate") as (world, alpha, _, xi):
        (contact,) = alpha.node.contacts.directory.contacts.values()
        (theirs,) = xi.node.contacts.directory.contacts.values()
        await xi.ask("contact.remove", ContactName(theirs.name))
        alpha.node.envoy.spread_news()
        await world.until(lambda: alpha.node.envoy.is_shut_out(contact))
        looks: list[None] = []
        alpha.node.wires.look = lambda: looks.append(None)  # type: ignore[method-assign]
        for _ in range(5):
            link = await xi.within(lambda node: node.links.probe("tcp://alpha:7420", expected=alpha.key.public, timeout_s=5.0))
            await link.call("contact.news", pack_message(NewsRequest([])), timeout_s=5.0)
            assert alpha.node.envoy.is_shut_out(contact)
            await asyncio.sleep(1)
        assert looks == []
        await xi.ask("contact.add", ContactAddRequest(theirs.name, list(theirs.addresses), formation=theirs.id.hex()))
        await world.until(lambda: not alpha.node.envoy.is_shut_out(contact), SETTLES_S)
        await world.until(lambda: bool(looks), SETTLES_S)


@simulated
async def test_a_node_that_only_starts_ends_no_wire() -> None:
    """Between its door and its agents it knows none of them."""
    world = World("no-wire-ends")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await wire(alpha, left.name, f"beta/{right.name}")
    residents, beta.node.host._residents = beta.node.host._residents, {}
    beta.node.running = False
    beta.node.wires.take_away(f"{right.id}~{left.id}")  # so that alpha asks for the half anew
    alpha.node.ports.store.set_fact("wire", f"{left.id}~{right.id}", None)
    for verb, request in (
        ("lookup_member", LookupRequest(right.id)),
        ("inject", InjectRequest(right.id, 1)),
        ("wire", alpha.node.wires.request(alpha.node.wires.halves()[0])),
    ):
        assert await said(alpha, verb, request, to=beta) == Code.SHUTTING_DOWN, verb
    await asyncio.sleep(SETTLES_S)
    assert [one[:2] for one in wires(alpha)] == [(left.name, f"beta/{right.name}")]
    beta.node.host._residents = residents
    beta.node.running = True
    await world.until(lambda: [one[2] for one in wires(alpha)] == [one[2] for one in wires(beta)] == ["standing"], SETTLES_S)
    await world.close()


@simulated
async def test_an_inject_waits_its_turn_or_interrupts_and_nothing_else() -> None:
    async with neighbours("modes", "inject:beta-clerk") as (world, alpha, beta, xi):
        (right,) = await desks(world, beta)
        await world.until(lambda: alpha.knows_agent(right.name))
        await beta.stop_agent(right.name)
        for number, mode in enumerate(("queue", "queue", "interrupt"), 1):
            assert await said(xi, "inject", InjectRequest(right.name, ["xi/x", number, None], mode), to=beta) == ""
        assert await said(xi, "inject", InjectRequest(right.name, 1, "now"), to=beta) == Code.BAD_INPUT
        await beta.start_agent(right.name)
        await world.until(lambda: len(state(beta, right)["people"].get("xi/x", [])) == 3)
        assert [n for n in state(beta, right)["people"]["xi/x"] if n != 3] == [1, 2]


@simulated
async def test_an_agent_that_has_not_started_yet_goes_by_its_class() -> None:
    world = World("by-its-class")
    (alpha,) = await world.formation(1)
    (clerk,) = await desks(world, alpha)
    resident = alpha.node.host.get(clerk.id)
    assert resident is not None
    wanted = alpha.node.wires.serve_lookup(LookupRequest(clerk.name))
    assert wanted.comms_name == f"alpha/Clerk/{clerk.name}"
    assert wanted.peer_id == str(uuid.uuid5(uuid.NAMESPACE_OID, resident.key.public.hex()))
    resident.role, resident.hears = "", None
    assert alpha.node.wires.serve_lookup(LookupRequest(clerk.id)) == wanted
    await world.close()


@simulated
async def test_a_contact_that_answers_with_an_agent_of_ours_is_not_believed() -> None:
    async with neighbours("answers-ours", "wire:*") as (world, alpha, beta, xi):
        left, right = await desks(world, alpha, beta)
        (mine,) = await desks(world, xi)
        await allow(xi, "wire:*")
        resident = beta.node.host.get(right.id)
        assert resident is not None
        key = resident.key.public
        node, formation = beta.key.public.hex(), beta.node.formation.hex()
        lie = LookupReply(peer_id(key), comms_name("beta", "Clerk", right.name), right.id, node, formation, key_text(key))
        xi.node.wires.serve_lookup = lambda request: lie  # type: ignore[method-assign]
        with pytest.raises(ProtocolError, match="somebody else"):
            await wire(alpha, left.name, f"xis/{mine.name}")
        assert wires(alpha) == []
        assert not [s for s in alpha.node.replica.held("wire") if not s.tombstone], "not even for a moment"


@simulated
async def test_what_lives_in_this_very_process_is_wired_written_to_and_unwired_by_its_contacts_name() -> None:
    world = World("inproc")
    alpha, beta = await world.formation(2)
    await alpha.ask("contact.add", ContactAddRequest("here", ["inproc"]))
    left = await alpha.run_agent("Clerk", "left")
    other = await alpha.run_agent("Clerk", "other")
    (far,) = await desks(world, beta)
    await world.until(lambda: alpha.knows_agent(far.name))
    await wire(alpha, "left", "here/other")
    assert wires(alpha) == [("left", "alpha/other", "standing"), ("other", "alpha/left", "standing")]
    await alpha.ask("mail.send", SendRequest("here/other", pack(["alpha/x", 1, None])))
    await world.until(lambda: state(alpha, other)["people"] == {"alpha/x": [1]})
    for name in (f"here/{far.name}", f"here/beta/{far.name}"):
        with pytest.raises(SkerryError) as refused:
            await alpha.ask("mail.send", SendRequest(name, pack(1)))
        assert refused.value.code == Code.UNKNOWN_MEMBER, "beta's lives in another process"
    await alpha.ask("wire.remove", WireAddRequest("left", "here/other"))
    assert wires(alpha) == []
    await wire(alpha, "left", "here/alpha/other")
    await alpha.ask("wire.remove", WireAddRequest("left", "here/alpha/other"))
    assert wires(alpha) == []
    assert left.id != other.id
    await world.close()


@simulated
async def test_unwiring_does_both_sides_and_reports_the_first_error() -> None:
    world = World("unwire-both")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await wire(alpha, left.name, f"beta/{right.name}")
    alpha.disk.is_full = True
    with pytest.raises(StorageError):
        await alpha.ask("wire.remove", WireAddRequest(left.name, f"beta/{right.name}"))
    assert wires(beta) == [], "the other side's is gone, though ours could not be"
    alpha.disk.is_full = False
    await world.until(lambda: wires(alpha) == [], SETTLES_S, what="ours follows")
    await wire(alpha, left.name, f"beta/{right.name}")
    beta.disk.is_full = True
    with pytest.raises(SkerryError) as refused:
        await alpha.node.wires.remove(left.name, f"beta/{right.name}")
    assert refused.value.__cause__ is not refused.value, "whoever looks for what was behind it comes to an end"
    assert wires(alpha) == []
    beta.disk.is_full = False
    await world.until(lambda: wires(beta) == [], SETTLES_S)
    await world.close()


@simulated
async def test_many_wires_to_a_node_that_does_not_answer_hold_no_other_wire_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half that is missing is made good within a period, whoever else is out of reach."""
    world = World("many-wires")
    alpha, beta, gamma = await world.formation(3)
    left, right = await desks(world, alpha, gamma)
    others = [await beta.run_agent("Clerk", f"clerk-{number}") for number in range(80)]
    await world.until(lambda: all(alpha.knows_agent(other.name) for other in others))
    for other in others:
        await wire(alpha, left.name, f"beta/{other.name}")
    await wire(alpha, left.name, f"gamma/{right.name}")
    world.network.cut("alpha", "beta")
    await asyncio.sleep(SETTLES_S)
    rounds = alpha.node.wires._rounds
    before = rounds.rounds
    gamma.node.wires.take_away(f"{right.id}~{left.id}")
    await world.until(lambda: not any(peer.startswith("gamma/") for _, peer, _ in wires(alpha)), ROUND_S + 7)
    await asyncio.sleep(3 * ROUND_S)
    assert rounds.rounds - before >= 3, "a round takes no longer than one node that does not answer"
    assert sum(1 for info in alpha.node.wires.infos() if info.detail) == 80, "each says why it waits"
    world.heal()
    await world.until(lambda: not any(info.detail for info in alpha.node.wires.infos()), SETTLES_S)
    await world.close()
