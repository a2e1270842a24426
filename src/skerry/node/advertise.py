"""What this node says of itself and its agents, and the catalogue that follows from what all nodes say.

The rule: a node's records say what is so now: they change with it, are renewed at half their life, and end with it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from skerry.agents.about import combined
from skerry.agents.capability import name_of
from skerry.agents.host import Host
from skerry.agents.profile import COMES_BACK, WORKS, Status
from skerry.agents.resident import Resident
from skerry.agents.runtimes.contract import Offer
from skerry.agents.spec import Spec
from skerry.errors import ProtocolError, SkerryError, StorageError
from skerry.identity.stamps import stamp_ms
from skerry.identity.statement import Audience, Statement, state
from skerry.node.trust import Trust
from skerry.ports import Ports, Row
from skerry.records.card import AgentCard, CardOffer, card_in, sign_card
from skerry.records.offers import Offers
from skerry.records.record import KINDS, TOMBSTONE_MS, renewal_due
from skerry.records.replica import Replica
from skerry.routing.catalogue import Catalogue
from skerry.routing.pool import Candidate
from skerry.wiring.wires import KIND as WIRE
from skerry.wiring.wires import End, half_body

NODE_NAME = "node"  # the name of the one node record that each node has
ANSWERS_MAX = 3  # times that one record is said again within a minute because it came from elsewhere
ANSWERS_MS = 60_000
log = logging.getLogger(__name__)


class Advertiser:
    """Writes this node's records; reads everybody's agent records into the catalogue."""

    def __init__(
        self, trust: Trust, replica: Replica, catalogue: Catalogue, *, ports: Ports, node_body: Callable[[], dict[str, Any]]
    ) -> None:
        self._trust = trust
        self._replica = replica
        self._catalogue = catalogue
        self._clock = ports.clock
        self.offers = Offers(ports.store)
        self._node_body = node_body
        self.host: Host | None = None
        self.audience: Callable[[Spec], str] = lambda _: "formation"  # of an agent's record
        self.on_contested: Callable[[], None] | None = None  # somebody else says our records
        self._silent = True  # until what we said before is known
        self._withheld: dict[tuple[str, str], dict[str, Any]] = {}
        self._answered: dict[tuple[str, str], deque[int]] = {}  # when we said something again because it came from elsewhere
        replica.watch(self._learned)
        replica.watch_forgetting(self._forgotten)
        are_noted = self.offers.are_noted
        for statement in list(replica.living("agent", now_ms=ports.clock.now_ms())):
            self._read(statement, is_noted=are_noted)
        if not are_noted:
            self.offers.all_noted()

    # --- writing --------------------------------------------------------------------------------------------------------------

    def speak(self) -> None:
        """From now on say what is so, and what was withheld until now."""
        self._silent = False
        try:
            self.renew()
        except StorageError as error:  # the next round of chores says it
            log.error("this node's records can't be written: %s", error)

    def take_back_all(self) -> None:
        """This node leaves: a tombstone for all that it said."""
        for kind in ("circle", "entry", "charter", "agent", WIRE, "node"):
            for statement in self._said(kind):
                self._say(kind, statement.name, {})
        self._silent = True

    def say_node(self) -> None:
        """This node's own record, where it changed or half of its life is over."""
        self._say("node", NODE_NAME, self._node_body())

    def say_agent(self, resident: Resident, *, anew: bool = False) -> None:
        """An agent's record, as it stands now. `anew`: also where it says nothing new."""
        try:
            sealed = self._card_kept(resident) or self._card_now(resident)
            body: dict[str, Any] = {"card": sealed, "status": resident.status.value}
            if resident.hears is not None:
                body["hears"] = resident.hears  # so that nobody sends letters to one that takes none
            self._say("agent", resident.spec.id, body, always=anew, audience=self.audience(resident.spec))
        except ProtocolError as error:
            log.error("the agent %s can't be advertised: %s", resident.spec.name, error)
            resident.detail = error.message
        except StorageError as error:  # the agent lives on, and the next round of chores says it again
            log.error("how the agent %s stands can't be written: %s", resident.spec.name, error)

    def card_said(self, identity: str) -> AgentCard | None:
        """The card of an agent of this node, as this node last said it."""
        return _readable_card(self._replica.get(self._trust.key.public, "agent", identity, now_ms=self._clock.now_ms()))

    def take_back_agent(self, spec: Spec) -> None:
        """A removed agent's tombstone."""
        self._say("agent", spec.id, {})

    def say_wire(self, name: str, own: End, peer: End) -> None:
        """Our half of a wire."""
        self._say(WIRE, name, half_body(own, peer), audience=tuple(sorted({own.node, peer.node})))

    def take_back_wire(self, name: str) -> None:
        self._say(WIRE, name, {})

    def renew(self) -> None:
        """Say again what has lived for half its time or could not be said, and take back what was left standing when a node ended in the
        middle of a removal."""
        if not self._silent:
            self._say_withheld()
        self.say_node()
        residents = self.host.all() if self.host is not None else []
        for resident in residents:
            self.say_agent(resident)
        here = {resident.spec.id for resident in residents}
        for statement in self._said("agent"):
            if statement.name not in here:
                self._say("agent", statement.name, {})
        for statement in self._said(WIRE):
            self._say(WIRE, statement.name, statement.body)

    def _say_withheld(self) -> None:
        """What stands is said anew anyway; what was taken back is not forgotten, even if the disk is full now."""
        for (kind, name), body in list(self._withheld.items()):
            if not body:
                self._say(kind, name, body)
            del self._withheld[kind, name]

    def reassert(self, statement: Statement) -> None:
        """A record of our own came from elsewhere, newer than ours (a restored backup): say again what is so now. Not without end: where
        two processes use our key, each would answer the other for ever."""
        now_ms = self._clock.now_ms()
        answered = self._answered.setdefault((statement.kind, statement.name), deque(maxlen=ANSWERS_MAX))
        lately = [at for at in answered if now_ms - at < ANSWERS_MS]
        if lately and self.on_contested is not None:
            self.on_contested()  # a home that was restored hears each of its records once
        if len(lately) == ANSWERS_MAX:
            return
        answered.append(now_ms)
        if statement.kind == "node":
            self._say("node", NODE_NAME, self._node_body(), always=True)
        elif statement.kind == "agent":
            resident = self.host.get(statement.name) if self.host is not None else None
            if resident is not None:
                self.say_agent(resident)
            elif not statement.tombstone:
                self._say("agent", statement.name, {})

    def say(self, kind: str, name: str, body: dict[str, Any], *, audience: Audience | None = None) -> None:
        """A record of another part of this node, where it says something new or half of its life is over; an empty body takes it back."""
        self._say(kind, name, body, audience=audience)

    def _said(self, kind: str) -> list[Statement]:
        """What this node says of a kind."""
        return list(self._replica.living(kind, now_ms=self._clock.now_ms(), author=self._trust.key.public))

    def _say(self, kind: str, name: str, body: dict[str, Any], *, always: bool = False, audience: Audience | None = None) -> None:
        """`audience` None: that of what was said before; so a tombstone reaches all who had it."""
        if self._silent:
            self._withheld[kind, name] = body
            return
        if body:
            self._withheld.pop((kind, name), None)  # it stands again
        now_ms = self._clock.now_ms()
        held = self._replica.get(self._trust.key.public, kind, name, now_ms=now_ms)
        if audience is None:
            audience = held.audience if held is not None else "formation"
        is_said = held is not None and held.body == body and held.audience == audience
        if held is not None and is_said and not always and not renewal_due(stamp_ms(held.stamp), held.expires, now_ms=now_ms):
            return
        if held is None and not body:
            return
        lifetime_ms = KINDS[kind].lifetime_ms if body else TOMBSTONE_MS
        stamp = self._replica.next_stamp(now_ms=now_ms)
        statement = state(
            self._trust.key,
            kind=kind,
            name=name,
            formation=self._trust.formation,
            audience=audience,
            stamp=stamp,
            expires=max(now_ms, stamp_ms(stamp)) + lifetime_ms,
            body=body,
        )
        self._replica.publish(statement)

    def _card_kept(self, resident: Resident) -> bytes | None:
        """The card as it was, while an agent comes back and does not know yet what it offers: whoever asks meanwhile may wait."""
        if resident.offers or resident.status not in COMES_BACK:
            return None
        held = self._replica.get(self._trust.key.public, "agent", resident.spec.id, now_ms=self._clock.now_ms())
        card = held.body.get("card") if held is not None else None
        return card if isinstance(card, bytes) else None

    def _card_now(self, resident: Resident) -> bytes:
        """The card as it is now. Its time moves when what it says does, so that of two cards the later one is known by itself."""
        card = self._card(resident)
        before = self.card_said(resident.spec.id)
        if before is not None and replace(before, manifest_signature=b"", updated_at=0) == replace(card, updated_at=0):
            card = replace(card, updated_at=before.updated_at)
        elif before is not None:
            card = replace(card, updated_at=max(self._clock.now_ms(), before.updated_at + 1))
        return sign_card(card, resident.key)[1]

    def _card(self, resident: Resident) -> AgentCard:
        spec = resident.spec
        names = [name_of(offer.capability) or offer.capability for offer in resident.offers]
        said = combined(
            resident.about, spec.about, runtime=spec.runtime, offered=names, described=(offer.description for offer in resident.offers)
        )
        return AgentCard(
            id=spec.id,
            name=spec.name,
            public_key=resident.key.public,
            endpoint=f"skerry://{self._trust.key.public.hex()}/{spec.name}",
            version=said.version,
            description=said.description,
            skills=said.skills,
            tags=said.tags,
            capabilities=tuple(offer.capability for offer in resident.offers),
            models=tuple(name_of(offer.capability) for offer in resident.offers if not offer.capability.startswith("custom:")),
            offers=tuple(_on_card(offer) for offer in resident.offers),
            created_at=spec.created_at,
            updated_at=spec.created_at,
        )

    # --- reading --------------------------------------------------------------------------------------------------------------

    def _learned(self, statement: Statement, sender: bytes) -> None:
        if statement.kind == "agent":
            self._read(statement)
        if sender and statement.author == self._trust.key.public:
            self.reassert(statement)

    def _forgotten(self, row: Row) -> None:
        if row.kind == "agent":
            self._catalogue.set(row.author, row.name, [])
            self.offers.note(row.author, row.name, ())

    def _read(self, statement: Statement, *, is_noted: bool = False) -> None:
        node, identity = statement.author, statement.name
        try:
            card, status = read_agent(statement)
        except SkerryError as error:
            log.warning("an agent record of %s is not believed: %s", node.hex()[:10], error)
            card, status = None, Status.UNHEALTHY
        if not is_noted:
            self.offers.note(node, identity, card.capabilities if card is not None else ())
        routable = card is not None and (status in WORKS or status in COMES_BACK)
        self._catalogue.set(node, identity, candidates_of(statement, card, status) if routable and card is not None else [])


def read_agent(statement: Statement) -> tuple[AgentCard | None, Status]:
    """The card in an agent record, and its node's word on how it stands; None for a tombstone. Raises ProtocolError."""
    card = card_in(statement)
    if card is None:
        return None, Status.STOPPED
    status = statement.body.get("status")
    if not isinstance(status, str):
        raise ProtocolError("an agent record has a status")
    return card, Status(status) if status in tuple(Status) else Status.UNHEALTHY


def _readable_card(statement: Statement | None) -> AgentCard | None:
    try:
        return card_in(statement) if statement is not None else None
    except SkerryError:
        return None  # of an older release, or damaged: what is said now takes its place


def candidates_of(statement: Statement, card: AgentCard, status: Status) -> list[Candidate]:
    return [
        Candidate(
            agent=card.id,
            name=card.name,
            node=statement.author,
            capability=offer.capability,
            idempotent=offer.idempotent,
            expires=statement.expires,
            description=offer.description,
            streams=offer.streams,
            restarting=status in COMES_BACK,
            payload=offer.payload,
            result=offer.result,
            example=offer.example,
            attributes=offer.attributes,
        )
        for offer in card.offers
    ]


def _on_card(offer: Offer) -> CardOffer:
    return CardOffer(
        offer.capability,
        offer.idempotent,
        offer.streams,
        offer.description,
        offer.payload,
        offer.result,
        offer.example,
        dict(offer.attributes),
    )
