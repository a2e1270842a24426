"""AgentRegistry: every card that this node believes, whichever formation it is from.

The registry is a view: a card is in it because a record that stands carries it, and leaves it with that record. So no route around
signature, owner and node exists: what a seed, a peer or a program hands in becomes a record first, or nothing. What formations that are no
contacts of ours say to everybody is held in memory, so much and no more, and asked for again after a start.

    registry = AgentRegistry()                     # one of its own, for a program that is no node
    federation = FederationManager(registry, seeds=["https://NODEID@mesh.example"])

The rule: of two cards of one agent the one that the agent itself signed later counts; what its node said does not change that.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from skerry.errors import Code, ProtocolError, Refused, SkerryError
from skerry.identity.grants import DAY_MS, Role, Roster, issue
from skerry.identity.keys import KEY_BYTES, KeyPair
from skerry.identity.stamps import stamp_ms
from skerry.identity.statement import Audience, Statement, parse_unverified, state
from skerry.ports import Clock
from skerry.records.abroad import Abroad, Foreign, Shared
from skerry.records.card import AgentCard, card_in, read_card, sealed_form
from skerry.records.record import KINDS, TOMBSTONE_MS, Refusal, Rejection
from skerry.records.replica import Replica
from skerry.records.search import Wanted
from skerry.records.store import SqliteStore

STRANGERS_MAX = 64  # formations that are no contacts
STRANGERS_EACH_MAX = 4  # of one source that the owner did not name
STRANGERS_PURGE_MAX = 5000  # of their records forgotten at once, once a minute: in memory 100 ms
STRANGERS_BYTES_MAX = 32 * 1024 * 1024  # of all of them together, in memory


class MemoryStore(SqliteStore):
    """A store without a file, gone with the process."""

    def __init__(self) -> None:
        super().__init__(Path(":memory:"))

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(":memory:", isolation_level=None)


class NoLists:
    """Nobody is given anything but what is public (`abroad.ShareLists`)."""

    def gives(self, author: bytes, name: str, contact: bytes) -> bool:
        return False

    def taken_back(self, author: bytes, name: str, contact: bytes) -> bytes | None:
        return None


class _WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class KnownContacts(Protocol):
    """Whose records are a contact's: `node/federating.py`."""

    def holds(self, formation: bytes) -> bool:
        """Whether it is a contact's formation, or one of whose nodes some are contacts."""
        ...

    def only_of(self, formation: bytes, author: bytes) -> bytes | None:
        """The node that alone may speak in that formation, where it is not `author`; None where the author may."""
        ...

    def met(self, node: bytes, grant: bytes) -> None:
        """A listener with that node's key gave a grant for it, which is not checked yet."""
        ...


class NoContacts:
    """A registry that knows of none."""

    def holds(self, formation: bytes) -> bool:
        return False

    def only_of(self, formation: bytes, author: bytes) -> bytes | None:
        return None

    def met(self, node: bytes, grant: bytes) -> None:
        """Nobody is."""


@dataclass(slots=True)
class Holdings:
    """What one node holds of all formations.

    contacts     what contacts share with us; `known`: who they are
    strangers    what all others say to everybody
    """

    key: KeyPair
    formation: bytes
    clock: Clock
    replica: Replica
    roster: Roster
    shared: Shared
    contacts: Abroad
    known: KnownContacts
    strangers: Abroad = field(default_factory=lambda: Abroad(MemoryStore()))
    _source_of: dict[bytes, str] = field(default_factory=dict)  # who brought a stranger's formation

    def take(self, signed: bytes, *, source: str, node: bytes = b"") -> Statement | Refusal:
        """A record that a seed or a peer gave. `source`: who did, "" for one that the owner named; `node`: whose key it proved."""
        try:
            told = parse_unverified(signed)[0]
        except ProtocolError as error:
            return Refusal(Rejection.MALFORMED, error.message)
        if told.formation == self.formation:
            return Refusal(Rejection.WRONG_FORMATION, "records of our own formation come by its own nodes alone")
        now_ms = self.clock.now_ms()
        if told.kind == "grant" and node and told.name == node.hex():
            self.known.met(node, signed)
        if self.known.holds(told.formation):
            only_of = self.known.only_of(told.formation, told.author)
            return self.contacts.of(told.formation).ingest(signed, now_ms=now_ms, only_of=only_of)
        if told.kind not in ("grant", "revocation", "departure") and told.audience != "public" and not told.tombstone:
            return Refusal(Rejection.NOT_GRANTED, "the record is not for everybody")
        known = self.strangers.find(told.formation)
        if known is None:
            refusal = self._make_room(source)
            if refusal is not None:
                return refusal
            self._source_of[told.formation] = source
        elif sum(self._sizes()) + len(signed) > STRANGERS_BYTES_MAX:
            return Refusal(Rejection.OVER_QUOTA, f"public records of others take {STRANGERS_BYTES_MAX >> 20} MiB already")
        outcome = self.strangers.of(told.formation).ingest(signed, now_ms=now_ms)
        if known is None and isinstance(outcome, Refusal):
            self._drop(told.formation)
        return outcome

    def living(self) -> Iterator[Statement]:
        """Every agent record that stands, of every formation."""
        now_ms = self.clock.now_ms()
        for statement in self.replica.living("agent", now_ms=now_ms):
            if self.roster.standing(statement.author, now_ms=now_ms).belongs:
                yield statement
        for foreign in self.foreign():
            yield from foreign.agents(now_ms=now_ms)

    def foreign(self) -> list[Foreign]:
        found = [(place, formation) for place in (self.contacts, self.strangers) for formation in place.formations()]
        return [foreign for place, formation in found if (foreign := place.find(formation)) is not None]

    def purge(self) -> None:
        """Forget what is over. A formation of which only tombstones are left stays: what was deleted must not come back."""
        self.strangers.purge(now_ms=self.clock.now_ms(), limit=STRANGERS_PURGE_MAX)
        for formation in self.strangers.formations():
            if self.known.holds(formation):
                self._drop(formation)

    def say(self, sealed: bytes, card: AgentCard, *, audience: Audience) -> Statement:
        """Vouch for a card: an agent record under this node's key."""
        stamp = self.replica.next_stamp(now_ms=self.clock.now_ms())
        return self.replica.publish(
            state(
                self.key,
                kind="agent",
                name=card.id,
                formation=self.formation,
                audience=audience,
                stamp=stamp,
                expires=stamp_ms(stamp) + KINDS["agent"].lifetime_ms,
                body={"card": sealed, "status": "available"},
            )
        )

    def take_back(self, identity: str) -> None:
        """A tombstone for a card that this node said, to whoever had it."""
        held = self.replica.get(self.key.public, "agent", identity, now_ms=self.clock.now_ms())
        if held is None:
            raise Refused(f"no agent {identity[:40]!r} was registered here", code=Code.UNKNOWN_AGENT)
        stamp = self.replica.next_stamp(now_ms=self.clock.now_ms())
        gone = state(
            self.key,
            kind="agent",
            name=identity,
            formation=self.formation,
            audience=held.audience,
            stamp=stamp,
            expires=stamp_ms(stamp) + TOMBSTONE_MS,
            body={},
        )
        self.replica.publish(gone)

    def _make_room(self, source: str) -> Refusal | None:
        if source and sum(one == source for one in self._source_of.values()) >= STRANGERS_EACH_MAX:
            return Refusal(Rejection.OVER_QUOTA, f"{source[:80]} told of {STRANGERS_EACH_MAX} formations already")
        if len(self.strangers.formations()) >= STRANGERS_MAX:
            self._drop_silent()
        if len(self.strangers.formations()) >= STRANGERS_MAX:
            return Refusal(Rejection.OVER_QUOTA, f"{STRANGERS_MAX} formations of others are known here already")
        return None

    def _drop_silent(self) -> None:
        """Formations that have no agent now make room for those that may."""
        now_ms = self.clock.now_ms()
        for formation in self.strangers.formations():
            foreign = self.strangers.find(formation)
            if foreign is not None and not any(foreign.agents(now_ms=now_ms)):
                self._drop(formation)

    def _sizes(self) -> list[int]:
        return [foreign.size_bytes for one in self.strangers.formations() if (foreign := self.strangers.find(one)) is not None]

    def _drop(self, formation: bytes) -> None:
        self.strangers.drop(formation)
        self._source_of.pop(formation, None)


class AgentRegistry:
    """Cards to look at and to look for. Without `holdings` it is one of its own, in memory, with a key and a formation of its own."""

    def __init__(self, holdings: Holdings | None = None) -> None:
        self.holdings = holdings or _of_its_own()

    @property
    def node(self) -> str:
        """The id that the endpoint of a card must name to be registered here."""
        return self.holdings.key.public.hex()

    async def register_agent(self, card: AgentCard | bytes, *, audience: Audience = "public") -> AgentCard:
        """Take in a card that its agent signed (or its sealed bytes), and say it to others. Raises ProtocolError for one that is no
        card, Refused for one that is another node's to say, or older than what is here."""
        sealed = card if isinstance(card, bytes) else sealed_form(card)
        read = read_card(sealed)
        if read.node != self.node:
            raise Refused(
                f"the card of {read.name!r} names another node (endpoint) than this one",
                code=Code.NOT_GRANTED,
                hint=f"an agent registers at the node where it is: skerry://{self.node}/{read.name}",
            )
        before = next((held for held in await self.list_agents() if held.id == read.id), None)
        if before is not None and before.updated_at > read.updated_at:
            raise Refused(f"a later card of {read.name!r} (updated_at) is here already", code=Code.CONFLICT, hint="sign it anew")
        self.holdings.say(sealed, read, audience=audience)
        return read

    async def remove_agent(self, identity: str) -> None:
        """Take back what was registered here; whoever had it hears of it."""
        self.holdings.take_back(str(identity))

    async def list_agents(self) -> list[AgentCard]:
        """Every card, once, in the order of names."""
        newest: dict[str, tuple[int, int, AgentCard]] = {}
        for statement in self.holdings.living():
            try:
                card = card_in(statement)
            except SkerryError:
                continue
            if card is not None and (card.id not in newest or (card.updated_at, statement.stamp) > newest[card.id][:2]):
                newest[card.id] = (card.updated_at, statement.stamp, card)
        return sorted((card for _, _, card in newest.values()), key=lambda card: (card.name, card.id))

    async def search(self, *, capability: str = "", skill: str = "", tag: str = "", words: str = "") -> list[AgentCard]:
        """The cards that have all that is asked for (`search.Wanted`). Raises UsageError that names the field."""
        wanted = Wanted(capability, skill, tag, words)
        wanted.check()
        return [card for card in await self.list_agents() if wanted.found_in(card)]


def _of_its_own() -> Holdings:
    key, root = KeyPair.from_seed(os.urandom(KEY_BYTES)), KeyPair.from_seed(os.urandom(KEY_BYTES))
    store, clock, roster = MemoryStore(), _WallClock(), Roster(root.public)
    replica = Replica(store, formation=root.public, roster=roster, ours=key.public)
    stamp = replica.next_stamp(now_ms=clock.now_ms())
    lifetime_ms = 365 * DAY_MS
    replica.publish(issue(root, formation=root.public, subject=key.public, role=Role.OPERATOR, stamp=stamp, lifetime_ms=lifetime_ms))
    shared = Shared(replica, store, roster, lists=NoLists(), believed=lambda author: author == key.public)
    return Holdings(key, root.public, clock, replica, roster, shared, Abroad(MemoryStore()), NoContacts())
