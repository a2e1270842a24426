"""This node's view of the formation's contacts: who they are, whose node somebody is, and how all our nodes come to know the same.

An operator's word about a contact is signed and told to every node (`records/confidence.py`). `contacts.toml` in the home shows what
holds; where its owner edits it at an operator's node, what was changed is said as if by `skerry contact`. At a member's node an edit
changes nothing.

The rule: nobody outside learns of a contact, and a peer is a contact's only by a chain to its root key, or by the very key that was named.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from skerry.channel.handshake import Peer
from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, ProtocolError, Refused, SkerryError, StorageError, UsageError
from skerry.identity.contacts import FILE_NAME, Contact, ContactDirectory, parse_contacts
from skerry.identity.grants import NEVER_MS, Roster
from skerry.identity.keys import short
from skerry.identity.statement import Statement, parse, parse_unverified
from skerry.node.verbs import PrivatePullReply, PrivatePullRequest, PrivatePushRequest
from skerry.records.abroad import belongs
from skerry.records.confidence import CONTACT, REMOVED_MS, contact_body, contact_key
from skerry.records.record import Refusal

if TYPE_CHECKING:
    from skerry.node.node import Node

FACTS = "contacts"  # the space of facts
WRITTEN = "written"  # the file as we last wrote it: what differs was changed by its owner
NODE_OF = "node/"  # facts: of which formation a contact is that is one node
LOOK_S = 1.0  # how often we look whether the file was edited
TELL_TIMEOUT_S = 5.0
PUSH_STATEMENTS_MAX = 20  # in one message
log = logging.getLogger(__name__)


class Contacts:
    """The contacts, as one node of the formation knows them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._file = node.ports.contacts
        self.problem = ""  # what is wrong with the file, where it can't be taken as it is
        self._look: asyncio.TimerHandle | None = None
        self._telling: list[bytes] = []
        self._taking = False  # the owner's edits: the file is not written meanwhile
        self.directory = ContactDirectory(node.confidence.contacts())
        node.confidence.watch(self._learned)

    def start(self) -> None:
        """Take what was edited while the node was down, and look from now on."""
        self._look_at_file()
        self._drop_strangers()

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()

    # --- whose node is that ---------------------------------------------------------------------------------------------------

    def meet(self, peer: Peer, *, again: bool = False) -> None:
        """A peer that is none of ours proved its key: take in the grant that it shows, where it may be a contact's. `again`: it did so
        before, and was perhaps no contact then."""
        formation = formation_shown(peer)
        contact = self.directory.of(node=peer.id, formation=formation) if formation else None
        if contact is None or peer.is_owner or formation == self._node.formation:
            return
        foreign = self._node.abroad.find(formation)
        if again and foreign is not None and foreign.roster.knows(peer.id):
            return
        foreign, now_ms = self._node.abroad.of(formation), self._node.ports.clock.now_ms()
        outcome = foreign.ingest(peer.grant, now_ms=now_ms)
        if isinstance(outcome, Refusal) and outcome.reason.value != "superseded":
            log.info("the grant of %s is not believed: %s", short(peer.id), outcome.detail)
        if contact.is_node and foreign.belongs(peer.id, now_ms=now_ms):  # anybody can write a grant that names a formation
            self._note_formation(peer.id, formation)
        elif not self.are_of(formation):
            self._node.abroad.drop(formation)

    def of_peer(self, peer: Peer) -> Contact | None:
        """The contact whose node that is now, if it is one's."""
        if peer.is_owner or not self.directory.contacts:
            return None
        formation = formation_shown(peer)
        contact = self.directory.of(node=peer.id, formation=formation)
        if contact is None or contact.is_node:
            return contact
        foreign = self._node.abroad.find(formation)
        now_ms = self._node.ports.clock.now_ms()
        return contact if foreign is not None and foreign.belongs(peer.id, now_ms=now_ms) else None

    def met(self, node: bytes, grant: bytes) -> None:
        """A node proved its key over HTTP, and showed that grant: it may be one that is a contact by itself."""
        formation = parse_unverified(grant)[0].formation
        contact = self.directory.of(node=node, formation=formation)
        if contact is None or not contact.is_node or formation == self._node.formation:
            return
        roster = Roster(formation)
        try:
            statement = parse(grant)
            roster.check(statement)
        except ProtocolError as error:
            log.info("the grant of %s is not believed: %s", short(node), error)
            return
        roster.learn(statement)
        if belongs(roster.standing(node, now_ms=self._node.ports.clock.now_ms())):
            self._note_formation(node, formation)

    def whose(self, node: bytes, formation: bytes) -> Contact | None:
        """The contact for which a node of that formation speaks: the one that it is by itself, or its formation."""
        contact = self.directory.of(node=node, formation=formation)
        return contact if contact is not None and self.formation_of(contact) == formation else None

    def are_of(self, formation: bytes) -> list[Contact]:
        """The contacts whose records are that formation's."""
        return [contact for contact in self.directory.contacts.values() if formation and self.formation_of(contact) == formation]

    def formation_of(self, contact: Contact) -> bytes:
        """The formation whose records a contact's are; empty where it is one node that has not proved to us of which it is."""
        if not contact.is_node:
            return contact.id
        return self._node.ports.store.fact(FACTS, NODE_OF + contact.id.hex()) or b""

    def _note_formation(self, node: bytes, formation: bytes) -> None:
        key = NODE_OF + node.hex()
        if self._node.ports.store.fact(FACTS, key) != formation:
            self._node.ports.store.set_fact(FACTS, key, formation)

    def named(self, name: str) -> Contact:
        """By name, or by id or its start. Raises Refused where there is none."""
        found = self.directory.named(name)
        alike = [c for c in self.directory.contacts.values() if len(name) >= 4 and c.id.hex().startswith(name.lower())]
        if found is None and len(alike) == 1:
            found = alike[0]
        if found is None:
            known = ", ".join(self.directory.contacts) or "none"
            raise Refused(f"no contact {name!r} is known; there are: {known}", code=Code.NOT_FOUND, hint="`skerry contact list` shows them")
        return found

    # --- changes --------------------------------------------------------------------------------------------------------------

    def put(self, contact: Contact) -> Contact:
        """Add a contact, or change the one with its id. Raises Refused or UsageError where that can't be."""
        self._check_operator()
        if contact.id in (self._node.formation, self._node.key.public) or (contact.is_node and self._node.roster.knows(contact.id)):
            raise UsageError(f"the contact {contact.name!r} is of this very formation", hint="its nodes are no contacts")
        held = self.directory.named(contact.name)
        if held is not None and held.id != contact.id:
            raise Refused(f"the name {contact.name!r} is another contact's", code=Code.NAME_TAKEN, hint="choose another")
        others = [one for one in self.directory.contacts.values() if contact_key(one) != contact_key(contact)]
        ContactDirectory([*others, contact])  # whether they can stand beside each other
        self._say(contact_key(contact), contact)
        return contact

    def remove(self, contact: Contact) -> None:
        """It is no contact any more: its rights are gone, its links end, what it shared is forgotten."""
        self._check_operator()
        self._say(contact_key(contact), None)

    def take_over(self, author: bytes) -> int:
        """Say again what an operator said that is about to be revoked; returns how many contacts that kept."""
        mine = 0
        held = {contact_key(contact): contact for contact in self.directory.contacts.values()}
        for statement in self._node.confidence.by(author, CONTACT):
            contact = held.get(statement.name)
            if contact is not None:
                self._say(statement.name, contact)
                mine += 1
        return mine

    def _check_operator(self) -> None:
        if not self._node.trust.may_invite():
            raise Refused("only an operator's node changes the contacts", code=Code.NOT_GRANTED, hint="do it at an operator's node")

    def _say(self, name: str, contact: Contact | None) -> None:
        now_ms = self._node.ports.clock.now_ms()
        body = contact_body(contact) if contact is not None else {}
        self._node.confidence.say(CONTACT, name, body, expires=NEVER_MS if contact is not None else now_ms + REMOVED_MS, now_ms=now_ms)

    # --- all our nodes know the same ------------------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A node of ours is connected: compare what we were told."""
        self._node.spawn(self._compare(link))

    async def compare_with_one(self) -> None:
        """From time to time, in case a push was lost."""
        links = self._node.links.nodes()
        if links:
            await self._compare(links[int(self._node.ports.random.fraction() * len(links)) % len(links)])

    def serve_pull(self, request: PrivatePullRequest) -> PrivatePullReply:
        confidence = self._node.confidence
        return PrivatePullReply([] if request.digest == confidence.digest() else confidence.all())

    def serve_push(self, request: PrivatePushRequest) -> None:
        for signed in request.statements:
            self._take(signed)

    async def _compare(self, link: Link) -> None:
        request = PrivatePullRequest(self._node.confidence.digest())
        try:
            body = await link.call("private.pull", pack_message(request), timeout_s=TELL_TIMEOUT_S)
            for signed in unpack_message(PrivatePullReply, body).statements:
                self._take(signed)
        except SkerryError as error:
            log.info("%s did not tell its contacts: %s", short(link.id), error)

    def _take(self, signed: bytes) -> None:
        outcome = self._node.confidence.ingest(signed, now_ms=self._node.ports.clock.now_ms())
        if isinstance(outcome, Refusal) and outcome.reason.value != "superseded":
            log.warning("what was told in confidence is not believed: %s", outcome.detail)

    def _learned(self, statement: Statement) -> None:
        """New here, by us or by another node of ours."""
        if statement.author == self._node.key.public:
            if not self._telling and self._node.running:
                self._node.spawn(self._tell_all())
            self._telling.append(statement.signed)
        if statement.kind == CONTACT:
            self.refresh()
        else:
            self._node.sharing.learned(statement)

    async def _tell_all(self) -> None:
        await asyncio.sleep(0)  # what is said in one turn goes together
        told, self._telling = self._telling, []
        messages = [pack_message(PrivatePushRequest(told[n : n + PUSH_STATEMENTS_MAX])) for n in range(0, len(told), PUSH_STATEMENTS_MAX)]
        links = self._node.links.nodes()
        await asyncio.gather(*(self._tell(link, message) for link in links for message in messages))

    async def _tell(self, link: Link, message: bytes) -> None:
        try:
            await link.call("private.push", message, timeout_s=TELL_TIMEOUT_S)
        except SkerryError as error:
            log.info("%s could not be told in confidence: %s", short(link.id), error)  # it compares when it is back

    def refresh(self) -> None:
        """The operators' word changed, or who is one: everything that hangs on it follows."""
        directory = ContactDirectory(self._node.confidence.contacts())
        if directory.contacts == self.directory.contacts:
            return
        gone = {c.id for c in self.directory.contacts.values()} - {c.id for c in directory.contacts.values()}
        self.directory = directory
        for identity in sorted(gone):
            self._node.sharing.forget_contact(identity)
        self._node.household.refresh()
        self._drop_strangers()
        self._node.envoy.look()
        self._node.wires.look()
        if self._node.federating is not None:
            self._node.federating.refresh()
        self._write_file()

    def _drop_strangers(self) -> None:
        """Formations of which nobody is a contact any more leave nothing here."""
        store = self._node.ports.store
        for key, _ in store.facts(FACTS):
            if key.startswith(NODE_OF) and self.directory.of(node=bytes.fromhex(key.removeprefix(NODE_OF)), formation=b"") is None:
                store.set_fact(FACTS, key, None)
        known = {self.formation_of(contact) for contact in self.directory.contacts.values()}
        for formation in self._node.abroad.formations():
            if formation not in known:
                self._node.abroad.drop(formation)

    # --- the file -------------------------------------------------------------------------------------------------------------

    def _look_at_file(self) -> None:
        if self._file is None:
            return
        self._look = asyncio.get_running_loop().call_later(LOOK_S, self._look_at_file)
        if not self._file.changed():
            return
        try:
            self._take_edits(self._file.read())
            self.problem = ""
        except SkerryError as error:
            self.problem = error.message
            log.warning("%s is not taken as it is: %s", FILE_NAME, error)
        self._note_problem()

    def _note_problem(self) -> None:
        if self.problem:
            self._node.warnings["contacts"] = f"{self.problem}; what held before still holds"
        else:
            self._node.warnings.pop("contacts", None)

    def _take_edits(self, text: str | None) -> None:
        """What the owner changed since the file was last written is said to all our nodes."""
        if text is None:
            self._write_file(anew=True)
            return
        before = self._written()
        old = {contact_key(contact): contact for contact in before.contacts.values()}
        new = {contact_key(contact): contact for contact in parse_contacts(text).contacts.values()}
        changed = [contact for key, contact in new.items() if old.get(key) != contact]
        held = {contact_key(contact): contact for contact in self.directory.contacts.values()}
        gone = [held[key] for key in old if key not in new and key in held]
        if changed or gone:
            self._check_operator()
        self._taking = True
        try:
            for contact in gone:
                self.remove(contact)
            for contact in changed:
                self.put(contact)
        finally:
            self._taking = False
        self._note_written(text)
        self._write_file()

    def _write_file(self, *, anew: bool = False) -> None:
        """The file shows what holds; not where its owner has edits in it that could not be taken. What says the same stays as it is."""
        if self._file is None or self._taking:
            return
        is_same = self._written().contacts == self.directory.contacts
        if (is_same and not (anew and self.directory.contacts)) or self.problem or (self._file.changed() and not anew):
            return
        text = self.directory.to_toml()
        try:
            self._file.write(text)
            self._note_written(text)
        except StorageError as error:
            log.warning("%s can't be written: %s", FILE_NAME, error)

    def _written(self) -> ContactDirectory:
        """What the file said when it was last written. Nothing, where an older release wrote what this one refuses."""
        try:
            return parse_contacts((self._node.ports.store.fact(FACTS, WRITTEN) or b"").decode())
        except UsageError:
            return ContactDirectory()

    def _note_written(self, text: str) -> None:
        self._node.ports.store.set_fact(FACTS, WRITTEN, text.encode())


def formation_shown(peer: Peer) -> bytes:
    """The formation of the grant that a peer showed; unproven, empty where it showed none."""
    if not peer.grant:
        return b""
    try:
        return parse_unverified(peer.grant)[0].formation
    except ProtocolError:
        return b""
