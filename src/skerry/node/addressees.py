"""Whom an address of an agent means, and the way there: `[contact/][node/]name`, an agent's id, or ids as a letter carries them.

A name alone is looked for in our own formation. Where several nodes have an agent of it, none is chosen: the error shows the addresses.

The rule: names are for people; what is found is bound to ids, and stays the same agent whoever takes its name later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from skerry.agents.letters import ADDRESS_CHARACTERS_MAX
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


class Addressees:
    """One node's look-up of agents by address."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, tuple[float, Target]] = {}

    async def find(self, address: str) -> Target:
        """Raises Refused(unknown_member) with what there is, Refused(conflict) where it is not one, UsageError where it is no address."""
        if len(address) > ADDRESS_CHARACTERS_MAX:
            raise UsageError(f"an address of {len(address)} characters is none", hint=_ADDRESS)
        known = self._known.get(address)
        if known is not None and known[0] > self._loop.time() and self._stands(known[1]):
            return known[1]
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        target = self._by_ids(address) if "@" in address else self._by_names(address)
        if not target.formation:  # what a contact's agent may be written follows from wires and shares, which may end at any moment
            self._known[address] = (self._loop.time() + KNOWN_S, target)
        return target

    def forget(self) -> None:
        """What an address meant may be so no more."""
        self._known.clear()

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
        contact, node, name = split_address(self._node, address)
        infos = self._node.foreign_agents.infos() if contact else views.agents(self._node)
        found: dict[str, tuple[str, Target]] = {}  # by agent's id: its address in full, and who that is
        deaf: set[str] = set()
        for info in infos:
            if info.contact == contact and name in (info.name, info.id) and (not node or is_node(info, node)):
                deaf |= {info.id} if info.hears is False else set()
                found[info.id] = (_full(info), Target(info.id, bytes.fromhex(info.node), bytes.fromhex(info.formation)))
        if contact:
            found |= self._wired(address, contact)
        if len(found) == 1:
            ((shown, target),) = found.values()
            if target.agent in deaf:
                raise Refused(f"the agent {shown!r} takes no letters", code=Code.NO_COMMS, hint=DEAF)
            return target
        if found:
            choices = ", ".join([shown for shown, _ in found.values()][:NAMES_SHOWN])
            raise Refused(f"{address!r} is {len(found)} agents: {choices}", code=Code.CONFLICT, hint="say which node: NODE/AGENT")
        if contact:
            there = ", ".join(sorted(_full(info) for info in infos if info.contact == contact)[:NAMES_SHOWN]) or "none"
            raise Refused(
                f"the contact {contact!r} shares no agent {address!r} with us, and none of ours is wired to it; it shares: {there}",
                code=Code.UNKNOWN_MEMBER,
                hint=f"wire one of yours to it: skerry wire add AGENT {address}; or ask its owner: skerry agent share",
            )
        there = ", ".join(sorted({info.name for info in infos})[:NAMES_SHOWN]) or "none"
        raise Refused(f"there is no agent {address!r}; there are: {there}", code=Code.UNKNOWN_MEMBER, hint=_AGENTS)

    def _wired(self, address: str, contact: str) -> dict[str, tuple[str, Target]]:
        """Agents of a contact, shared with us or not, to which one of ours is wired."""
        wires, identity = self._node.wires, self._node.contacts.directory.contacts[contact].id
        return {
            half.peer.agent: (wires.shown(half.peer), Target(half.peer.agent, half.peer.node, half.peer.formation))
            for half in wires.halves()
            if identity in (half.peer.formation, half.peer.node) and address in wires.names_of(half)
        }


def split_address(node: Node, address: str) -> tuple[str, str, str]:
    """Contact, node and agent of `[contact/][node/]agent`, "" for what is left out. Of two parts the first is a node of ours, where there
    is one of that name, else a contact; one that is `inproc` is this very node. Raises UsageError, and Refused(unknown_member) that says
    which contact is missing."""
    parts = address.split("/")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise UsageError(f"{address[:100]!r} is no address of an agent", hint=_ADDRESS)
    if len(parts) == 1:
        return "", "", address
    infos = views.nodes(node)
    if len(parts) == 2 and any(parts[0] in (info.name, info.id) or _starts(info.id, parts[0]) for info in infos):
        return "", parts[0], parts[1]
    contact = node.contacts.directory.named(parts[0])
    if contact is None:
        nodes = ", ".join(info.name or info.id[:SHORT_CHARACTERS] for info in infos)
        also = f", and no node of that name; the nodes are: {nodes}" if len(parts) == 2 else ""
        raise Refused(f"there is no contact {parts[0]!r}{also}", code=Code.UNKNOWN_MEMBER, hint=_CONTACTS)
    if contact.inproc:
        ours = node.key.public.hex()
        if len(parts) == 3 and not any(parts[1] in (info.name, ours) or _starts(ours, parts[1]) for info in infos if info.id == ours):
            this = f"the contact {parts[0]!r} is this very node, and {parts[1]!r} is not"
            raise Refused(this, code=Code.UNKNOWN_MEMBER, hint="leave the contact out: NODE/AGENT")
        return "", ours, parts[-1]
    return contact.name, parts[1] if len(parts) == 3 else "", parts[-1]


def _starts(identity: str, prefix: str) -> bool:
    return len(prefix) >= SHORT_CHARACTERS and identity.startswith(prefix)


def _full(info: AgentInfo) -> str:
    return "/".join(filter(None, (info.contact, info.node_name, info.name)))


def is_node(info: AgentInfo, name: str) -> bool:
    return name in (info.node_name, info.node) or _starts(info.node, name)


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


DEAF = "it has no on_message; give it a task: skerry call"
_ADDRESS = "write AGENT, NODE/AGENT, CONTACT/AGENT or CONTACT/NODE/AGENT"
_AGENTS = "`skerry agent list` shows them"
_CONTACTS = "`skerry contact list` shows who is a contact"
