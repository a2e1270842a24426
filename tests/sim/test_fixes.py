"""What was wrong with the control channel that this one comes after, one test for each thing that had to be put right."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.agents.letters import Letter, session_of
from skerry.channel.messages import pack_message, unpack_message
from skerry.discovery.reach import Reach, Verdict
from skerry.errors import Code
from skerry.identity.codec import pack
from skerry.node.node import Node
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.verbs import DeliverReply, DeliverRequest, InjectRequest, LookupRequest, WireCheckRequest, WireReply, WireRequest
from skerry.wiring.wires import key_text, peer_id
from tests.support.clerks import address, delivered, desks, people, wire, wires
from tests.support.clerks import state as state_of_clerk
from tests.support.formation import STRANGER, key
from tests.support.halves import FORGED, asked, descriptor, end_of, real_end
from tests.support.links import simulated
from tests.support.neighbours import neighbours, said


@simulated
async def test_fix_the_listener_is_authenticated_and_authorised_per_verb() -> None:
    async with neighbours("fix-authorised", "wire:right") as (world, _, beta, xi):
        (right,) = await desks(world, beta)
        assert await said(xi, "lookup_member", LookupRequest(right.name), to=beta) == Code.NOT_GRANTED, "right, not beta-clerk"
        for verb, request in (
            ("lookup_member", LookupRequest(right.name)),
            ("inject", InjectRequest(right.name, "x")),
            ("wire.check", WireCheckRequest(descriptor(end_of(xi, right), real_end(beta, right.id), by=xi))),
            ("mail.deliver", DeliverRequest(right.id, [Letter(session_of(b"x", right.id), 1 << 40, "x", "", pack("x"))])),
        ):
            assert await said(xi, verb, request, to=beta) == Code.NOT_GRANTED, verb


@simulated
async def test_fix_a_descriptor_is_signed_by_its_node() -> None:
    world = World("fix-descriptor")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    own, peer = real_end(alpha, left.id), real_end(beta, right.id)
    good = descriptor(own, peer, by=alpha)
    wrong: dict[str, WireRequest] = {
        "unsigned": asked(own, peer, b""),
        "garbage": asked(own, peer, b"garbage"),
        "by a stranger": asked(own, peer, descriptor(own, peer, by=alpha, signer=STRANGER)),
        "of another agent": asked(own, real_end(beta, right.id), descriptor(own, end_of(beta, right), by=alpha)),
        "another key": asked(own, peer, good, local_pubkey_b64=key_text(FORGED.public)),
        "no key": asked(own, peer, good, local_pubkey_b64="@@@"),
        "another peer id": asked(own, peer, good, local_peer_id=peer_id(FORGED.public)),
        "another name": asked(own, peer, good, local_comms_name="alpha/Clerk/other"),
        "tampered": asked(own, peer, good[:-1] + bytes([good[-1] ^ 1])),
        "cut": asked(own, peer, good[:-1]),
        "expired": asked(own, peer, descriptor(own, peer, by=alpha, since_ms=10 * 60_000)),
        "of the future": asked(own, peer, descriptor(own, peer, by=alpha, since_ms=-10 * 60_000)),
        "for ever": asked(own, peer, descriptor(own, peer, by=alpha, lifetime_ms=400 * 86_400_000)),
        "another node's": asked(real_end(beta, right.id), own, descriptor(real_end(beta, right.id), own, by=beta), remote_member=right.id),
        "no address": asked(own, peer, good, local_peer_spec_address="somewhere"),
        "an address of no kind": asked(own, peer, good, local_peer_spec_address="ftp://alpha:7420"),
        "an address without a port": asked(own, peer, good, local_peer_spec_address="tcp://alpha"),
        "a very long address": asked(own, peer, good, local_peer_spec_address="uds:///" + "x" * 5000),
    }
    for verb in ("wire", "unwire"):
        for what, request in wrong.items():
            assert await said(alpha, verb, request, to=beta) == Code.PEER_SPEC, f"{verb}: {what}"
    assert await said(alpha, "wire", asked(own, peer, good, local_comms_name="x"), to=beta) == Code.INVALID_COMMS_NAME
    assert await said(alpha, "wire", asked(own, peer, good, remote_member="nobody"), to=beta) == Code.UNKNOWN_MEMBER
    theirs = descriptor(real_end(beta, right.id), own, by=beta)
    assert await said(alpha, "wire.check", WireCheckRequest(theirs), to=beta) == Code.PEER_SPEC, "a node shows another one's"
    assert wires(beta) == []
    assert await said(alpha, "wire", asked(own, peer, good, local_pubkey_b64=None), to=beta) == ""
    assert [one[0] for one in wires(beta)] == [right.name]
    await world.close()


@simulated
async def test_fix_the_back_pointer_is_an_address_at_which_we_can_be_reached() -> None:
    world = World("fix-back-pointer")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    await wire(alpha, left.name, f"beta/{right.name}")
    (half,) = alpha.node.wires.halves()
    pointer = alpha.node.wires.request(half).local_peer_spec_address
    link = await beta.within(lambda node: node.links.to(alpha.key.public, [pointer], timeout_s=5.0))
    assert link.id == alpha.key.public
    reaching = alpha.node.reaching
    reaching.verdict, reaching.relays = Verdict(Reach.OUTBOUND), (beta.key.public,)
    assert alpha.node.wires.request(half).local_peer_spec_address == f"via:{beta.key.public.hex()}", "nobody can dial it where it listens"
    reaching.relays = ()
    assert alpha.node.wires.request(half).local_peer_spec_address == f"via:{alpha.key.public.hex()}"
    reaching.verdict = Verdict()
    alpha.node.listening.clear()
    assert alpha.node.wires.request(half).local_peer_spec_address == f"via:{alpha.key.public.hex()}"
    await world.close()


@simulated
async def test_fix_an_inject_needs_a_wire_or_the_right() -> None:
    async with neighbours("fix-inject", "wire:beta-clerk") as (world, alpha, beta, xi):
        (right,) = await desks(world, beta)
        await world.until(lambda: alpha.knows_agent(right.name))
        (mine,) = await desks(world, xi)
        (foreign,) = (c for c in xi.node.contacts.directory.contacts.values())
        assert await said(xi, "inject", InjectRequest(right.name, "x"), to=beta) == Code.NOT_GRANTED

        session, voucher = people(xi, right.id)
        of_people = DeliverRequest(right.id, [Letter(session, 1, "xi", "", pack(["xi/x", 1, None]))], voucher)
        for request in (delivered(xi, mine, right.id, 1), of_people):
            assert await said(xi, "mail.deliver", request, to=beta) == Code.NOT_GRANTED
        await alpha.ask("contact.add", _allowing(alpha, "wire:beta-clerk"))
        await xi.ask("contact.add", _allowing(xi, "wire:xi-clerk", "federate"))
        await wire(xi, mine.name, f"{foreign.name}/{right.name}")
        assert await said(xi, "mail.deliver", delivered(xi, mine, right.id, 2), to=beta) == ""
        assert state_of_clerk(beta, right)["people"] == {"xi/x": [2]}
        other = await xi.run_agent("Clerk", "other")
        assert await said(xi, "mail.deliver", delivered(xi, other, right.id, 3), to=beta) == Code.NOT_GRANTED
        assert await said(xi, "mail.deliver", of_people, to=beta) == Code.NOT_GRANTED
        assert await said(xi, "inject", InjectRequest(right.name, "x"), to=beta) == Code.NOT_GRANTED, "that is the node's own voice"


def _allowing(machine: Machine, *rights: str) -> Any:
    from skerry.node.verbs import ContactAddRequest

    (contact,) = machine.node.contacts.directory.contacts.values()
    return ContactAddRequest(contact.name, list(contact.addresses), formation=contact.id.hex(), allow=list(rights))


@simulated
async def test_fix_a_contact_may_not_speak_for_another_contact() -> None:
    """Neither with the id of its wired agent in a letter, nor with its descriptor."""
    async with neighbours("fix-other-contact", "wire:beta-clerk") as (world, alpha, beta, xi):
        (right,) = await desks(world, beta)
        await world.until(lambda: alpha.knows_agent(right.name))
        (mine,) = await desks(world, xi)
        await xi.ask("contact.add", _allowing(xi, "wire:xi-clerk", "federate"))
        (foreign,) = (c for c in xi.node.contacts.directory.contacts.values())
        await wire(xi, mine.name, f"{foreign.name}/{right.name}")
        (half,) = xi.node.wires.halves()
        psi = world.machine("psi")
        await psi.start()
        from skerry.node.verbs import ContactAcceptRequest, ContactInviteRequest

        ticket = (await alpha.ask("contact.invite", ContactInviteRequest("psis", ["wire:beta-clerk"]))).ticket
        await psi.ask("contact.accept", ContactAcceptRequest(ticket, "alphas", ["federate"]))
        (theirs,) = await desks(world, psi)
        assert await said(psi, "mail.deliver", delivered(xi, mine, right.id, 1), to=beta) == Code.PEER_SPEC, "with the other's own voucher"
        lie = delivered(psi, theirs, right.id, 1, reply_to=address(xi, mine))
        assert await said(psi, "mail.deliver", lie, to=beta) == Code.PEER_SPEC
        assert await said(psi, "mail.deliver", delivered(psi, theirs, right.id, 1), to=beta) == Code.NOT_GRANTED
        stolen = xi.node.wires.request(half)
        assert await said(psi, "unwire", stolen, to=beta) == Code.PEER_SPEC
        assert await said(psi, "wire.check", WireCheckRequest(half.signed), to=beta) == Code.PEER_SPEC
        assert [one[2] for one in wires(beta)] == ["standing"]


@simulated
async def test_fix_what_a_peer_can_make_us_hold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.node.wiring.WIRES_EACH_MAX", 5)
    world = World("fix-bounds")
    alpha, beta = await world.formation(2)
    left, right = await desks(world, alpha, beta)
    for number in range(7):
        own = end_of(alpha, left, key_=key(0x0730 + number))
        outcome = await said(
            alpha, "wire", asked(own, real_end(beta, right.id), descriptor(own, real_end(beta, right.id), by=alpha)), to=beta
        )
        assert outcome == ("" if number < 5 else Code.BUSY)
    session, voucher = people(alpha, right.id)
    for letter in (
        Letter("x" * 60_000, 1, "", "", b""),
        Letter(session, 1 << 63, "alpha", "", pack("x")),
        Letter(session, 1, "alpha", "", bytes(48 * 1024 + 1)),
        Letter(session, 1, "alpha", "r" * 50_000, pack("x")),
    ):
        assert await said(alpha, "mail.deliver", DeliverRequest(right.id, [letter], voucher), to=beta) in (Code.BAD_PAYLOAD, Code.PEER_SPEC)
    assert await said(alpha, "mail.deliver", DeliverRequest(right.id, []), to=beta) == Code.BAD_PAYLOAD
    assert beta.node.mail._boxes == {}
    await world.close()


@simulated
async def test_fix_a_letter_is_taken_once_however_often_it_is_delivered() -> None:
    """The old channel could deliver twice: a time-out after the work was done, and it was done again."""
    world = World("fix-twice")
    alpha, beta = await world.formation(2)
    (right,) = await desks(world, beta)
    session, voucher = people(alpha, right.id)
    letter = Letter(session, 1 << 40, "alpha", "", pack(["alpha/x", 1, None]))

    async def deliver(node: Node) -> int:
        link = await node.link_to(beta.key.public, 5.0)
        body = await link.call("mail.deliver", pack_message(DeliverRequest(right.id, [letter], voucher)), timeout_s=10.0)
        return unpack_message(DeliverReply, body).handled

    for _ in range(3):
        assert await alpha.within(deliver) == letter.seq
    beta.kill()
    await beta.start()
    await world.until(lambda: world.is_whole([alpha, beta]))
    assert await alpha.within(deliver) == letter.seq
    assert state_of_clerk(beta, right)["people"] == {"alpha/x": [1]}
    assert WireReply().descriptor == b""
    await world.close()
