"""Agents that contacts share with us: who they are, who may be called, and how to get there.

They have a catalogue of their own, so that nothing that looks for an agent of ours ever meets one of another formation.

The rule: an agent is believed to be a contact's while its node belongs to that formation and the entry stands, looked up at each call.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from skerry.agents.profile import COMES_BACK, WORKS, Status
from skerry.agents.verbs import AgentInfo, AgentQuery
from skerry.channel.link import Link
from skerry.errors import Refused, SkerryError, Unreachable
from skerry.identity.contacts import Contact
from skerry.identity.keys import SHORT_CHARACTERS
from skerry.identity.statement import Statement
from skerry.node import views
from skerry.node.advertise import candidates_of, read_agent
from skerry.node.verbs import ContactInfo
from skerry.records.abroad import Foreign
from skerry.records.card import AgentCard
from skerry.routing.catalogue import Catalogue, Where
from skerry.routing.pool import Candidate, Pool

if TYPE_CHECKING:
    from skerry.node.node import Node

_EVERYTHING = AgentQuery()
log = logging.getLogger(__name__)


class ForeignAgents:
    """What contacts share with one node's formation (`routing.elsewhere.Elsewhere`)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._catalogue = Catalogue()
        node.abroad.watch(self._read)
        node.abroad.watch_forgetting(self._withdraw)
        now_ms = node.ports.clock.now_ms()
        for formation in node.abroad.formations():
            for statement in node.abroad.of(formation).agents(now_ms=now_ms):
                self._read(formation, statement)

    def pool(self, query: str, where: Where = (), *, agent: str = "") -> Pool | None:
        """`agent`: a name, an id, or `CONTACT/NAME`."""
        if not agent:
            return self._catalogue.pool(query, where)
        contact, _, name = agent.rpartition("/")
        pool = self._catalogue.pool_of(name, query, where)
        if pool is None or not contact:
            return pool
        found = [option for option in pool.options if self.contact_of(option.candidate) == contact]
        return Pool(b"").take_in(found) if found else None

    def contact_of(self, candidate: Candidate) -> str:
        contact = self._contact_of(candidate.formation, candidate.node)
        return contact.name if contact is not None else ""

    async def link_to(self, candidate: Candidate, timeout_s: float) -> Link:
        contact = self._contact_of(candidate.formation, candidate.node)
        if contact is None:
            raise Unreachable("the agent's formation is no contact any more", hint="`skerry contact list` shows who is")
        try:
            return await self._node.envoy.link_to(contact, timeout_s)
        except Refused as error:  # nobody of the contact's was asked: another candidate may be
            raise Unreachable(error.message, hint=error.hint) from error

    def infos(self, query: AgentQuery = _EVERYTHING) -> list[AgentInfo]:
        """What contacts share with us, by contact, then name. Raises UsageError for a query that is none."""
        wanted, infos = views.wanted_of(query), []
        now_ms = self._node.ports.clock.now_ms()
        for formation in self._node.abroad.formations():
            for statement in self._node.abroad.of(formation).agents(now_ms=now_ms):
                contact = self._contact_of(formation, statement.author)
                read = _believed(statement)
                if contact is not None and read is not None:
                    where, is_up = statement.author.hex()[:SHORT_CHARACTERS], self._is_open(contact)
                    infos.append(views.carded(statement, *read, node_name=where, reachable=is_up, contact=contact.name, is_foreign=True))
        return sorted((info for info in infos if wanted.found_in(info)), key=lambda info: (info.contact, info.name, info.id))

    def public_infos(self, query: AgentQuery = _EVERYTHING) -> list[AgentInfo]:
        """What formations that are no contacts say to everybody, by formation, then name. Raises UsageError for a query that is none."""
        wanted, infos = views.wanted_of(query), []
        if self._node.federating is None:
            return []
        strangers, now_ms = self._node.federating.registry.holdings.strangers, self._node.ports.clock.now_ms()
        for formation in strangers.formations():
            for statement in strangers.of(formation).agents(now_ms=now_ms):
                read = _believed(statement)
                if read is not None:
                    where = statement.author.hex()[:SHORT_CHARACTERS]
                    infos.append(views.carded(statement, *read, node_name=where, reachable=False, is_foreign=True))
        return sorted((info for info in infos if wanted.found_in(info)), key=lambda info: (info.formation, info.name, info.id))

    def formations(self) -> list[Foreign]:
        """All other formations of which anything is held: contacts' and strangers'."""
        if self._node.federating is not None:
            return self._node.federating.registry.holdings.foreign()
        return [self._node.abroad.of(formation) for formation in self._node.abroad.formations()]

    def places(self) -> list[list[Foreign]]:
        """The same, apart: those in the node's store, and those in memory. What is in one of them came in one order."""
        contacts = [self._node.abroad.of(formation) for formation in self._node.abroad.formations()]
        return [contacts, [foreign for foreign in self.formations() if all(foreign is not one for one in contacts)]]

    def contact_infos(self) -> list[ContactInfo]:
        """Every contact, and how it stands with it."""
        shared = [info.contact for info in self.infos()]
        return [self.contact_info(contact, shared.count(contact.name)) for contact in self._node.contacts.directory.contacts.values()]

    def contact_info(self, contact: Contact, agents: int | None = None) -> ContactInfo:
        error = self._node.envoy.last_error.get(contact.id)
        is_up = self._node.envoy.link_of(contact) is not None
        link = "self" if contact.inproc else "up" if is_up else error.message if error is not None else "down"
        if not contact.inproc and not is_up and not contact.dialled():
            link = "https: records, no tasks" if contact.urls() else "has no address here: it has to dial us"
        if self._node.envoy.is_shut_out(contact) and error is None:
            link = "there we are no contact (any more)"
        kind = "inproc" if contact.inproc else "node" if contact.is_node else "formation"
        count = agents if agents is not None else sum(info.contact == contact.name for info in self.infos())
        return ContactInfo(contact.name, contact.id.hex(), kind, list(contact.addresses), contact.allow.texts(), link, count)

    def _is_open(self, contact: Contact) -> bool:
        return self._node.envoy.link_of(contact) is not None and not self._node.envoy.is_shut_out(contact)

    def _contact_of(self, formation: bytes, node: bytes) -> Contact | None:
        contact = self._node.contacts.directory.of(node=node, formation=formation)
        foreign = self._node.abroad.find(formation)
        if contact is None or foreign is None or not foreign.belongs(node, now_ms=self._node.ports.clock.now_ms()):
            return None
        return contact

    def _read(self, formation: bytes, statement: Statement) -> None:
        if statement.kind != "agent":
            return
        read = _believed(statement)
        routable = read is not None and (read[1] in WORKS or read[1] in COMES_BACK)
        found = [replace(c, formation=formation) for c in candidates_of(statement, *read)] if read is not None and routable else []
        self._catalogue.set(statement.author, statement.name, found)

    def _withdraw(self, author: bytes, agent: str) -> None:
        self._catalogue.set(author, agent, [])


def _believed(statement: Statement) -> tuple[AgentCard, Status] | None:
    try:
        card, stands = read_agent(statement)
    except SkerryError as error:
        log.warning("an agent record of another formation is not believed: %s", error)
        return None
    return (card, stands) if card is not None else None
