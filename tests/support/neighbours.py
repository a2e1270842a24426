"""Two formations in one simulated world that are contacts of each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from skerry.agents.verbs import ShareRequest
from skerry.channel.link import Link
from skerry.channel.messages import pack_message
from skerry.errors import SkerryError
from skerry.identity.codec import pack
from skerry.node.node import Node
from skerry.node.verbs import ContactAcceptRequest, ContactInviteRequest
from skerry.routing.task import Request
from skerry.sim.machine import Machine
from skerry.sim.world import World

SETTLES_S = 30.0


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


async def share(machine: Machine, name: str, *whom: str) -> None:
    await machine.ask("agent.share", ShareRequest(name, list(whom)))


def known(machine: Machine) -> list[str]:
    """The agents that contacts share with a node's formation."""
    return [info.name for info in machine.node.foreign_agents.infos()]


async def call(machine: Machine, capability: str, payload: object = None, *, agent: str = "", timeout_s: float = 10.0) -> object:
    request = Request(capability, pack(payload), agent, reach="contacts")
    result = await machine.within(lambda node: node.dispatcher.call(request, timeout_s=timeout_s))
    result.raise_error()
    return result


async def contact_link(node: Node) -> Link:
    (contact,) = node.contacts.directory.contacts.values()
    return await node.envoy.link_to(contact, 10.0)


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
