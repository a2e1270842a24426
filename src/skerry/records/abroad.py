"""Records across formations: what of ours a contact may have, and what we hold of theirs.

`Shared` makes the pages that a contact, or anybody, may have: agent records with the audience `public`, or `contacts` where the author's
own list names that contact; and with them the grants of their authors, so that the receiver can judge, and revocations of those. Nothing
else leaves. Who was dropped from a list gets the tombstone that its author signed for that, for as long as it lives.

`Abroad` holds, for each formation that is a contact, one small replica with a roster of its own, in a partition of the store. What is in it
is never part of our formation's records: it is shown, called, and forgotten with the contact.

The rule: the records of two formations never mix, and each side's bounds hold whatever the other one says. `now_ms` is a parameter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Protocol

from skerry.errors import ProtocolError
from skerry.identity.grants import Role, Roster, Standing, State
from skerry.identity.keys import short
from skerry.identity.statement import Statement, parse_unverified
from skerry.ports import Row, Store
from skerry.records.partition import Partition
from skerry.records.record import TRUST, Refusal, Rejection
from skerry.records.replica import PURGE_MAX, Identity, Replica

AGENTS_MAX = 1000  # agents that one formation may have here; with their largest cards 48 MiB
TOMBSTONES_MAX = 4 * AGENTS_MAX  # so many more it may have taken back within 30 days; of more the first goes, as in `quotas.py`
TRUST_MAX = 4000  # grants, revocations and departures of one formation here
BYTES_MAX = 16 * 1024 * 1024  # of all of one formation's records here
PAGE_RECORDS_MAX = 200
PAGE_BYTES_MAX = 256 * 1024
PAGE_ROWS_LOOKED_AT = 2000  # 10 ms of the loop; where most are for others the next page goes on
SHOWN_KINDS = ("agent",)  # what leaves at all, beside what it is judged by
ENDS = ("revocation", "departure")  # of their authors


class ShareLists(Protocol):
    """To whom the authors of `contacts` records give them: `records/confidence.py`."""

    def gives(self, author: bytes, name: str, contact: bytes) -> bool:
        """Whether that contact is on the author's list."""
        ...

    def taken_back(self, author: bytes, name: str, contact: bytes) -> bytes | None:
        """The signed tombstone for a contact that had it (empty: for anybody)."""
        ...


class Shared:
    """What of our formation's records others may have. `believed` tells whether an author belongs to us now."""

    def __init__(self, replica: Replica, store: Store, roster: Roster, *, lists: ShareLists, believed: Callable[[bytes], bool]) -> None:
        self._replica = replica
        self._store = store
        self._roster = roster
        self._lists = lists
        self._believed = believed
        self._identities: set[Identity] = set()  # of records that somebody outside may have, or may have had
        self._order: list[tuple[int, Identity]] | None = None  # the same by their place; None where something changed since
        for kind in SHOWN_KINDS:
            for row in store.of_kind(kind):
                self._note(parse_unverified(row.signed)[0])
        for kind in ENDS:
            for row in store.of_kind(kind):
                self._note(parse_unverified(row.signed)[0])
        replica.watch(lambda statement, _: self._note(statement))
        replica.watch_forgetting(self._forgotten)

    def page(self, cursor: str, *, contact: bytes, limit: int = PAGE_RECORDS_MAX) -> tuple[list[bytes], str, bool]:
        """What that contact may have (empty: anybody) and came after `cursor`: signed records, the next cursor, whether there is more.
        The grants of the authors stand before what they said, and do not count towards `limit`."""
        after = self._replica.place_of(cursor)
        limit = max(1, min(limit, PAGE_RECORDS_MAX))
        page: list[bytes] = []
        judged: dict[bytes, bytes] = {}  # author -> its grant
        size = count = 0
        for looked, row in enumerate(self._rows(after)):
            signed = self._shown(row, contact)
            if signed is not None:
                grant = self._grant_of(row.author) if row.kind in SHOWN_KINDS else b""
                added = len(signed) + (len(grant) if row.author not in judged else 0)
                if count == limit or (page and size + added > PAGE_BYTES_MAX):
                    return [*filter(None, judged.values()), *page], self._replica.cursor_at(after), True
                page.append(signed)
                judged.setdefault(row.author, grant)
                size, count = size + added, count + 1
            after = row.seq
            if looked == PAGE_ROWS_LOOKED_AT:
                return [*filter(None, judged.values()), *page], self._replica.cursor_at(after), True
        return [*filter(None, judged.values()), *page], self._replica.cursor_at(after), False

    def may_have(self, author: bytes, agent: str, contact: bytes) -> bool:
        """Whether that contact may have, and so may call, an agent of ours now."""
        row = self._store.get(author, "agent", agent)
        if row is None or row.tombstone or not self._believed(author):
            return False
        return self._is_for(parse_unverified(row.signed)[0], contact)

    def authors_of(self, agent: str) -> list[bytes]:
        """The nodes that say they host an agent which somebody outside may have."""
        return sorted(author for author, kind, name in self._identities if kind == "agent" and name == agent)

    def keep(self, author: bytes, agent: str) -> None:
        """An agent was shown to somebody once, whatever its record says now."""
        self._identities.add((author, "agent", agent))
        self._order = None

    def touch(self, author: bytes, agent: str) -> None:
        """To whom an agent is shown has changed: its record comes again for those who are past it."""
        self.keep(author, agent)
        row = self._store.get(author, "agent", agent)
        if row is not None:
            self._store.put(row)
            self._order = None

    def _forgotten(self, row: Row) -> None:
        self._identities.discard((row.author, row.kind, row.name))
        self._order = None

    def _note(self, statement: Statement) -> None:
        if statement.identity in self._identities:
            self._order = None
        is_shown = statement.kind in SHOWN_KINDS and statement.audience in ("contacts", "public")
        if is_shown or (statement.kind in ENDS and self._is_author(bytes.fromhex(statement.name))):
            self._identities.add(statement.identity)
            self._order = None

    def _rows(self, after: int) -> Iterator[Row]:
        """Those that came after a place, in their order. Sorted when something changed, and not for everybody who asks."""
        if self._order is None:
            rows = (self._store.get(*identity) for identity in self._identities)
            self._order = sorted((row.seq, (row.author, row.kind, row.name)) for row in rows if row is not None)
        for _, identity in self._order[bisect_right(self._order, after, key=lambda one: one[0]) :]:
            row = self._store.get(*identity)
            if row is not None:
                yield row

    def _is_author(self, node: bytes) -> bool:
        return any(author == node and kind in SHOWN_KINDS for author, kind, _ in self._identities)

    def _shown(self, row: Row, contact: bytes) -> bytes | None:
        """What a contact gets of a row: the record, the tombstone of one that was taken back from it, or nothing."""
        if row.kind not in SHOWN_KINDS:
            subject = bytes.fromhex(row.name)
            had = [name for author, kind, name in self._identities if author == subject and kind in SHOWN_KINDS]
            return row.signed if any(self._was_for(subject, name, contact) for name in had) else None
        if not self._believed(row.author):
            return None
        if self._is_for(parse_unverified(row.signed)[0], contact):
            return row.signed
        return self._lists.taken_back(row.author, row.name, contact)

    def _is_for(self, statement: Statement, contact: bytes) -> bool:
        if statement.audience == "public":
            return True
        return statement.audience == "contacts" and bool(contact) and self._lists.gives(statement.author, statement.name, contact)

    def _was_for(self, author: bytes, agent: str, contact: bytes) -> bool:
        row = self._store.get(author, "agent", agent)
        is_for = row is not None and self._is_for(parse_unverified(row.signed)[0], contact)
        return is_for or self._lists.taken_back(author, agent, contact) is not None

    def _grant_of(self, author: bytes) -> bytes:
        grants = [grant for grant in self._roster.grants_of(author) if self._roster.revocation_of(grant.issuer) is None]
        return max(grants, key=lambda grant: grant.expires_ms).statement.signed if grants else b""


# --- what we hold of others -------------------------------------------------------------------------------------------------------


class Foreign:
    """One other formation, as far as we were told: its grants, and the records that it shares with us."""

    def __init__(self, store: Store, formation: bytes) -> None:
        self.formation = formation
        self.roster = Roster(formation)
        self._store = Partition(store, formation)
        self.replica = Replica(self._store, formation=formation, roster=self.roster, ours=b"")
        self._size: dict[Identity, int] = {}
        self._gone: dict[Identity, int] = {}  # tombstones among them, and their stamps
        self._trust: set[Identity] = set()  # grants, revocations and departures among them
        self.size_bytes = 0
        for kind in (*TRUST, *SHOWN_KINDS):
            for row in self._store.of_kind(kind):
                self._note(row)
        self.replica.watch_rows(lambda _, row: self._note(row) if row is not None else None)
        self.replica.watch_forgetting(self._forgotten)

    def ingest(self, signed: bytes, *, now_ms: int, only_of: bytes | None = None) -> Statement | Refusal:
        """Take in what the formation told us. `only_of`: our contact is one node, and nobody else speaks to us through it."""
        try:
            told = parse_unverified(signed)[0]
        except ProtocolError as error:
            return Refusal(Rejection.MALFORMED, error.message)
        refusal = self._may_hold(told, only_of)
        if refusal is not None:
            return refusal
        outcome = self.replica.ingest(signed, now_ms=now_ms)
        if len(self._gone) > TOMBSTONES_MAX:
            row = self._store.get(*min(self._gone, key=lambda one: self._gone[one]))
            self.replica.forget([row] if row is not None else [])
        return outcome

    def agents(self, *, now_ms: int) -> Iterator[Statement]:
        """The agents that are shared with us, by nodes that belong to it now."""
        for statement in self.replica.living("agent", now_ms=now_ms):
            if self.belongs(statement.author, now_ms=now_ms):
                yield statement

    def rows(self) -> Iterator[Row]:
        """All that is held of it, also what stands no more."""
        for author, kind, name in sorted(self._size):
            row = self._store.get(author, kind, name)
            if row is not None:
                yield row

    def since(self, after: int, limit: int) -> list[Row]:
        """What came after a place in the order of the store that it lies in."""
        return self._store.since(after, limit)

    def last_seq(self) -> int:
        return self._store.last_seq()

    def identities(self, kind: str) -> list[tuple[bytes, str]]:
        """Author and name of all of a kind that is here."""
        return sorted((author, name) for author, of_kind, name in self._size if of_kind == kind)

    def belongs(self, node: bytes, *, now_ms: int) -> bool:
        """Whether a node is one of that formation's now. A lapsed grant serves at home, not here."""
        return belongs(self.roster.standing(node, now_ms=now_ms))

    def _note(self, row: Row) -> None:
        self._forgotten(row)
        identity = (row.author, row.kind, row.name)
        self._size[identity] = len(row.signed)
        self.size_bytes += len(row.signed)
        if row.tombstone:
            self._gone[identity] = row.stamp
        elif row.kind in TRUST:
            self._trust.add(identity)

    def _forgotten(self, row: Row) -> None:
        identity = (row.author, row.kind, row.name)
        self.size_bytes -= self._size.pop(identity, 0)
        self._gone.pop(identity, None)
        self._trust.discard(identity)

    def forget(self) -> None:
        """Nothing of it stays here."""
        for author, kind, name in list(self._size):
            self._store.delete(author, kind, name)
        self._size.clear()
        self._gone.clear()
        self._trust.clear()
        self.size_bytes = 0

    def _may_hold(self, told: Statement, only_of: bytes | None) -> Refusal | None:
        if told.kind not in TRUST and told.kind not in SHOWN_KINDS:
            return Refusal(Rejection.UNKNOWN_KIND, f"records of kind {told.kind!r} are not taken from other formations")
        if told.kind in SHOWN_KINDS:
            if told.audience not in ("contacts", "public") and not told.tombstone:
                return Refusal(Rejection.NOT_GRANTED, "the record is for its own formation alone")
            if not self.roster.knows(told.author):
                return Refusal(Rejection.NOT_GRANTED, "no grant of its author came with it")
            if only_of not in (None, told.author):
                return Refusal(Rejection.NOT_GRANTED, f"our contact is the node {short(only_of or b'')} alone, and this is another's")
        if not told.tombstone and (told.identity not in self._size or told.identity in self._gone):
            standing = len(self._size) - len(self._trust) - len(self._gone)
            full = len(self._trust) >= TRUST_MAX if told.kind in TRUST else standing >= AGENTS_MAX
            if full:
                return Refusal(Rejection.OVER_QUOTA, f"the formation {short(self.formation)} has as much here as it may")
        if self.size_bytes - self._size.get(told.identity, 0) + len(told.signed) > BYTES_MAX:
            return Refusal(Rejection.OVER_QUOTA, f"the records of the formation {short(self.formation)} take {BYTES_MAX >> 20} MiB already")
        return None


def belongs(standing: Standing) -> bool:
    """Whether who stands so is a node of another formation now."""
    return standing.state is State.VALID and standing.role is not Role.CLIENT


class Abroad:
    """All formations that we hold anything of. Watchers hear of every record that is new, and of its formation."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watchers: list[Callable[[bytes, Statement], None]] = []
        self._forgetters: list[Callable[[bytes, str], None]] = []
        self._foreign: dict[bytes, Foreign] = {}
        for formation in store.formations():
            if formation:
                self.of(formation)

    def watch(self, watcher: Callable[[bytes, Statement], None]) -> None:
        self._watchers.append(watcher)

    def watch_forgetting(self, forgetter: Callable[[bytes, str], None]) -> None:
        """Hear of agents (author, name) that are here no more, without a tombstone."""
        self._forgetters.append(forgetter)

    def formations(self) -> list[bytes]:
        return sorted(self._foreign)

    def find(self, formation: bytes) -> Foreign | None:
        return self._foreign.get(formation)

    def of(self, formation: bytes) -> Foreign:
        """That formation's place here, made where there is none: only for one that is a contact."""
        found = self._foreign.get(formation)
        if found is None:
            found = self._foreign[formation] = Foreign(self._store, formation)
            found.replica.watch(lambda statement, _: self._tell(formation, statement))
            found.replica.watch_forgetting(self._forgotten)
        return found

    def drop(self, formation: bytes) -> None:
        """It is no contact any more: nothing of it stays."""
        found = self._foreign.pop(formation, None)
        if found is not None:
            agents = found.identities("agent")
            found.forget()
            for author, name in agents:
                self._say_forgotten(author, name)

    def purge(self, *, now_ms: int, limit: int = PURGE_MAX) -> int:
        """Forget what is over, up to `limit` records; returns how many."""
        gone = 0
        for foreign in self._foreign.values():
            gone += foreign.replica.purge(now_ms=now_ms, limit=limit - gone)
        return gone

    def _forgotten(self, row: Row) -> None:
        if row.kind == "agent":
            self._say_forgotten(row.author, row.name)

    def _say_forgotten(self, author: bytes, name: str) -> None:
        for forgetter in self._forgetters:
            forgetter(author, name)

    def _tell(self, formation: bytes, statement: Statement) -> None:
        for watcher in self._watchers:
            watcher(formation, statement)
