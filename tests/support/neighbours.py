"""Two formations of a simulated world that are each other's contacts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from skerry.channel.link import Link
from skerry.node.node import Node
from skerry.node.verbs import ContactAcceptRequest, ContactInviteRequest
from skerry.sim.machine import Machine
from skerry.sim.world import World


@asynccontextmanager
async def neighbours(seed: str, *allow: str) -> AsyncIterator[tuple[World, Machine, Machine, Machine]]:
    """alpha and its member beta; xi, the founder of another formation, which is a contact of theirs and may do what `allow` says."""
    world = World(seed)
    alpha, beta = await world.formation(2)
    xi = world.machine("xi")
    await xi.start()
    await make_contacts(alpha, xi, *allow)
    try:
        yield world, alpha, beta, xi
    finally:
        world.heal()
        await world.close()


async def make_contacts(alpha: Machine, xi: Machine, *allow: str) -> None:
    ticket = (await alpha.ask("contact.invite", ContactInviteRequest("xis", list(allow)))).ticket
    await xi.ask("contact.accept", ContactAcceptRequest(ticket, "alphas", ["federate", "call:*"]))


async def contact_link(node: Node) -> Link:
    (contact,) = node.contacts.directory.contacts.values()
    return await node.envoy.link_to(contact, 10.0)
