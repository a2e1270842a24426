"""Whom an address of an agent means, and the way there: `[contact/][node/]name`, an agent's id, or ids as a letter carries them.

A name alone is looked for in our own formation. Where several nodes have an agent of it, none is chosen: the error shows the addresses.

The rule: names are for people; what is found is bound to ids, and stays the same agent whoever takes its name later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from skerry.agents.verbs import AgentInfo
from skerry.channel.link import Link
from skerry.errors import Code, Refused, UsageError
from skerry.identity.keys import SHORT_CHARACTERS
from skerry.node import views
from skerry.wiring.outbox import Target

if TYPE_CHECKING:
    from skerry.node.node import Node

KNOWN_S = 2.0  # how long what an address meant is remembered: an agent that sends a thousand letters asks once
KNOWN_MAX = 1000
NAMES_SHOWN = 10
ID_BYTES = 16
KEY_BYTES = 32


class Whereabouts:
    """One node's look-up of agents by address."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, tuple[float, Target]] = {}

    async def find(self, address: str) -> Target:
        """Raises Refused(unknown_member) with what there is, Refused(conflict) where it is not one, UsageError where it is no address."""
        known = self._known.get(address)
        if known is not None and known[0] > self._loop.time() and self._stands(known[1]):
            return known[1]
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        target = self._by_ids(address) if "@" in address else self._by_names(address)
        self._known[address] = (self._loop.time() + KNOWN_S, target)
        return target

    async def link_to(self, target: Target, *, timeout_s: float) -> Link:
        """A link to the node that hosts it, or to one of the contact's whose agent it is. Raises Unreachable or Refused."""
        if not target.formation:
            return await self._node.link_to(target.node, timeout_s)
        contact = self._node.contacts.directory.of(node=target.node, formation=target.formation)
        if contact is None:
            raise Refused("the agent's formation is no contact any more", code=Code.NOT_GRANTED, hint=_CONTACTS)
        return await self._node.envoy.link_to(contact, timeout_s)

    def _stands(self, target: Target) -> bool:
        """An agent of this node may be gone a moment after."""
        return bool(target.formation) or target.node != self._node.key.public or self._node.host.get(target.agent) is not None

    def _by_ids(self, address: str) -> Target:
        target = target_of(address)
        return Target(target.agent, target.node) if target.formation == self._node.formation else target

    def _by_names(self, address: str) -> Target:
        parts = address.split("/")
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise UsageError(f"{address[:100]!r} is no address of an agent", hint="write AGENT, NODE/AGENT or CONTACT/AGENT")
        name = parts[-1]
        ours = [info for info in views.agents(self._node) if name in (info.name, info.id)]
        if len(parts) == 1:
            own = [info for info in ours if info.local]
            return self._one(own if len(own) == 1 and len(ours) == 1 else ours, address, "")
        if len(parts) == 2 and (here := [info for info in ours if _is_node(info, parts[0])]):
            return self._one(here, address, "")
        contact = self._node.contacts.directory.contacts.get(parts[0])
        if contact is None:
            nodes = ", ".join(info.name or info.id[:SHORT_CHARACTERS] for info in views.nodes(self._node))
            if len(parts) == 2 and any(parts[0] in (info.name, info.id) for info in views.nodes(self._node)):
                raise Refused(f"no agent {name!r} on the node {parts[0]!r}", code=Code.UNKNOWN_MEMBER, hint=_AGENTS)
            raise Refused(
                f"there is no contact {parts[0]!r}" + (f", and no node of that name; the nodes are: {nodes}" if len(parts) == 2 else ""),
                code=Code.UNKNOWN_MEMBER,
                hint=_CONTACTS,
            )
        theirs = [info for info in self._node.foreign_agents.infos() if info.contact == contact.name and name in (info.name, info.id)]
        if len(parts) == 3:
            theirs = [info for info in theirs if _is_node(info, parts[1])]
        return self._one(theirs, address, contact.name)

    def _one(self, found: list[AgentInfo], address: str, contact: str) -> Target:
        if len(found) == 1:
            info = found[0]
            return Target(info.id, bytes.fromhex(info.node), bytes.fromhex(info.formation))
        if found:
            prefix = f"{contact}/" if contact else ""
            choices = ", ".join(f"{prefix}{info.node_name}/{info.name}" for info in found[:NAMES_SHOWN])
            raise Refused(f"{address!r} is {len(found)} agents: {choices}", code=Code.CONFLICT, hint="say which node: NODE/AGENT")
        infos = self._node.foreign_agents.infos() if contact else views.agents(self._node)
        names = sorted({info.name for info in infos if info.contact == contact})
        there = ", ".join(names[:NAMES_SHOWN]) or "none"
        raise Refused(f"there is no agent {address!r}; there are: {there}", code=Code.UNKNOWN_MEMBER, hint=_AGENTS)


def _is_node(info: AgentInfo, name: str) -> bool:
    return name in (info.node_name, info.node) or (len(name) >= SHORT_CHARACTERS and info.node.startswith(name))


def address_of(target: Target) -> str:
    """A target as text, as a letter's `reply_to` has it: `agent@node[@formation]`."""
    return "@".join(filter(None, (target.agent, target.node.hex(), target.formation.hex())))


def target_of(address: str) -> Target:
    """The same, back. Raises Refused(peer_spec) where it is none."""
    agent, _, rest = address.partition("@")
    node, _, formation = rest.partition("@")
    try:
        found = Target(bytes.fromhex(agent).hex(), bytes.fromhex(node), bytes.fromhex(formation))
    except ValueError:
        found = Target("", b"")
    if len(found.agent) != 2 * ID_BYTES or len(found.node) != KEY_BYTES or len(found.formation) not in (0, KEY_BYTES):
        raise Refused(f"{address[:100]!r} is no address of an agent", code=Code.PEER_SPEC, hint="an address by ids is AGENT@NODE")
    return found


_AGENTS = "`skerry agent list` shows them"
_CONTACTS = "`skerry contact list` shows who is a contact"
