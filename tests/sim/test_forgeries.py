"""What a peer that lies about who it is, or for whom it speaks, may not get: another's place in a mailbox, its name, its wire."""

from __future__ import annotations

from typing import Any

from skerry.agents.letters import Letter, session_of
from skerry.channel.messages import pack_message
from skerry.errors import Code, SkerryError
from skerry.identity.codec import pack
from skerry.identity.grants import Role, issue
from skerry.identity.stamps import stamp_at
from skerry.node.node import Node
from skerry.node.verbs import ContactAddRequest
from skerry.sim.machine import Machine
from skerry.sim.world import World
from skerry.wiring.verbs import DeliverRequest
from tests.support.clerks import address, desks, state, wire
from tests.support.formation import STRANGER
from tests.support.links import simulated
from tests.support.neighbours import contact_link, neighbours

LATER = 1 << 40


async def said(machine: Machine, verb: str, request: Any, *, to: Machine) -> str:
    """The code with which a verb is refused, "" where it is answered."""

    async def ask(node: Node) -> str:
        link = await node.link_to(to.key.public, 5.0) if to.node.formation == node.formation else await contact_link(node)
        try:
            await link.call(verb, pack_message(request), timeout_s=5.0)
        except SkerryError as error:
            return str(error.code)
        return ""

    return await machine.within(ask)


def shows(machine: Machine, formation: bytes) -> None:
    """From now on its node shows a grant that it made up: of a formation that never heard of it."""
    forged = issue(STRANGER, formation=formation, subject=machine.key.public, role=Role.MEMBER, stamp=stamp_at(machine.clock.now_ms()))
    machine.node.trust.grant_to_show = lambda: forged.signed  # type: ignore[method-assign]


async def lone_contact(world: World, alpha: Machine, *rights: str) -> Machine:
    """psi, which is a contact of alpha's formation by its own key, and not linked with it yet."""
    psi = world.machine("psi")
    await psi.start()
    await alpha.ask("contact.add", ContactAddRequest("psi", [], node=psi.key.public.hex(), allow=list(rights)))
    return psi


async def dials(psi: Machine, alpha: Machine) -> None:
    await psi.ask("contact.add", ContactAddRequest("alphas", ["tcp://alpha:7420"], formation=alpha.node.formation.hex()))


@simulated
async def test_one_node_that_is_a_contact_does_not_speak_for_the_formation_whose_grant_it_made_up() -> None:
    async with neighbours("forged-grant", "wire:beta-clerk") as (world, alpha, beta, xi):
        (right,) = await desks(world, beta)
        (mine,) = await desks(world, xi)
        await world.until(lambda: alpha.knows_agent(right.name))
        await xi.ask(
            "contact.add", ContactAddRequest("alphas", ["tcp://alpha:7420"], formation=alpha.node.formation.hex(), allow=["wire:xi-clerk"])
        )
        await wire(xi, mine.name, f"alphas/{right.name}")
        psi = await lone_contact(world, alpha, "wire:beta-clerk")
        shows(psi, xi.node.formation)
        await dials(psi, alpha)
        lie = Letter(session_of(b"psi", right.id), LATER, "xi/xi-clerk", address(xi, mine), pack(["xi/x", 1, None]))
        assert await said(psi, "mail.deliver", DeliverRequest(right.id, [lie]), to=alpha) in (Code.NOT_GRANTED, Code.PEER_SPEC)
        assert state(beta, right)["people"] == {}


@simulated
async def test_one_node_that_is_a_contact_does_not_speak_for_our_own_agents() -> None:
    """It shows no grant, or one that says that it is of our own formation: its letters are nobody's of ours."""
    for number, grant in enumerate(("none", "ours")):
        world = World(f"forged-ours-{number}")
        alpha, beta = await world.formation(2)
        left, right = await desks(world, alpha, beta)
        await wire(alpha, left.name, f"beta/{right.name}")
        psi = await lone_contact(world, alpha, "wire:alpha-clerk")
        if grant == "none":
            psi.node.trust.grant_to_show = lambda: b""  # type: ignore[method-assign]
        else:
            shows(psi, alpha.node.formation)
        await dials(psi, alpha)
        lie = Letter(session_of(b"psi", left.id), LATER, "beta/beta-clerk", address(beta, right), pack(["beta/x", 1, None]))
        assert await said(psi, "mail.deliver", DeliverRequest(left.id, [lie]), to=alpha) in (Code.NOT_GRANTED, Code.PEER_SPEC), grant
        assert state(alpha, left)["people"] == {}
        await world.close()
