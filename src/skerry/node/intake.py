"""What is taken of letters that others deliver: from a node of ours for whom it speaks, from a contact what its entry and its wires allow.

A node of ours hands on what came to it from a contact. What the contact may is looked up here once more, where the agent lives, and its
sessions get a place of their own, so that neither it nor who hands on touches any other.

The rule: nobody writes in a session that is another's, and the name that a receiver sees is the one under which it would find the sender.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from skerry.agents.letters import Letter, session_of
from skerry.errors import Code, Refused
from skerry.identity.contacts import Contact
from skerry.identity.keys import short
from skerry.node import views
from skerry.node.addressees import target_of
from skerry.wiring import vouchers
from skerry.wiring.outbox import Target
from skerry.wiring.verbs import DeliverRequest

if TYPE_CHECKING:
    from skerry.node.node import Node

VOUCHED_MAX = 10_000  # vouchers that are known to be good: a check costs 60 us, and one sender shows the same with each batch
NAMES_S = 2.0  # how long the names of nodes are taken as they were


class Intake:
    """One node's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._vouched: set[tuple[bytes, bytes, str, str, str]] = set()
        self._names: dict[bytes, str] = {}
        self._names_until = 0.0

    def checked(self, request: DeliverRequest, *, caller: bytes) -> list[Letter]:
        """The letters, as the agent may see them. Raises Refused with what is wrong with them."""
        if request.contact:
            return self._of_contact(request)
        self.check_voucher(request, node=caller)
        is_agents = vouchers.is_agents(request.voucher)
        return [self._named(letter, caller, is_agents=is_agents) for letter in request.letters]

    def check_voucher(self, request: DeliverRequest, *, node: bytes) -> None:
        """Whether that node speaks for their sender. Raises Refused(peer_spec)."""
        if not request.letters:
            raise Refused("no letters to deliver", code=Code.BAD_PAYLOAD)
        marks = {(node, request.voucher, request.agent, letter.session, letter.reply_to) for letter in request.letters}
        if marks <= self._vouched:
            return
        vouchers.check_voucher(request.voucher, request.letters, agent=request.agent, node=node)
        if len(self._vouched) + len(marks) > VOUCHED_MAX:
            self._vouched.clear()
        self._vouched |= marks

    def _named(self, letter: Letter, node: bytes, *, is_agents: bool) -> Letter:
        """With the name that its node has here; a contact's stays, for which that node speaks at our border."""
        if self._loop.time() >= self._names_until:
            self._names, self._names_until = views.node_names(self._node), self._loop.time() + NAMES_S
        said, name = letter.sender, self._names.get(node) or short(node)
        if is_agents:
            sender = f"{name}/{said.rpartition('/')[2]}"
        else:
            sender = said if said in self._node.contacts.directory.contacts else name
        return letter if sender == said else msgspec.structs.replace(letter, sender=sender)

    def _of_contact(self, request: DeliverRequest) -> list[Letter]:
        contact = self._node.contacts.directory.with_id(request.contact)
        if contact is None:
            raise Refused("this node has not heard of that contact", code=Code.BUSY, hint="try again in a moment")
        resident = self._node.host.get(request.agent)
        name = resident.spec.name if resident is not None else ""
        for letter in request.letters:
            self._check_of_contact(letter, contact, request.agent, name)
        return [
            msgspec.structs.replace(letter, session=session_of(contact.id, letter.session, urgent=letter.urgent))
            for letter in request.letters
        ]

    def _check_of_contact(self, letter: Letter, contact: Contact, agent: str, name: str) -> None:
        peer = target_of(letter.reply_to) if letter.reply_to else None
        if not letter.sender.startswith(f"{contact.name}/") or (peer is not None and peer.formation in (b"", self._node.formation)):
            raise Refused("a contact's letter bears the name of somebody else", code=Code.PEER_SPEC)
        if name and not contact.allow.may("inject", name) and not (contact.allow.may("wire", name) and self._is_wired(agent, peer)):
            raise Refused("a letter by an agent that is not wired to this one", code=Code.NOT_GRANTED, hint=_WIRE)

    def _is_wired(self, agent: str, peer: Target | None) -> bool:
        half = self._node.wires.standing(own=agent, peer=peer.agent) if peer is not None else None
        return half is not None and peer is not None and half.peer.formation == peer.formation


_WIRE = "wire them (`skerry wire add`), or allow the contact inject:AGENT"
