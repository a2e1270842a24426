"""What this node knows: records taken in, merged, and forgotten when their time is over.

Three steps, kept apart. *Admit*: signature, size, quota, not too far ahead of our clock, an author whom we have reason to hear. *Merge*:
newer wins. *View*: who was allowed to say this, judged when it is read, because a grant may arrive after what it allows.

The rule: a record is here exactly as it was signed, or not at all; why not is said as a value. `now_ms` is a parameter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from skerry.errors import Code, ProtocolError
from skerry.identity.grants import Roster
from skerry.identity.keys import SIGNATURE_BYTES
from skerry.identity.stamps import AHEAD_MS_MAX, EARLIEST_MS, STAMP_MAX, next_stamp, stamp_ms, too_far_ahead
from skerry.identity.statement import Statement, is_for_all, parse, parse_unverified
from skerry.ports import Row, Store
from skerry.records.quotas import Quotas
from skerry.records.record import KINDS, TRUST, Refusal, Rejection, expired, wins

UNKNOWN_AUTHORS_RECORDS_MAX = 1000  # records of authors whose grant has not come yet
RECOGNISED_MAX = 10_000  # records told by their bytes alone: 4 MiB; a formation of 200 nodes with 20 agents each has half as many
KNOWN_MAX = 1000  # statements kept as they were read: the node records of a large formation, some 3 MiB
PAGE_RECORDS_MAX = 200
PURGE_MAX = 500  # records forgotten at once: some 10 ms
PAGE_BYTES_MAX = 256 * 1024
OWN_RECORDS_MAX = sum(kind.author_max for kind in KINDS.values())  # of one author
CURSOR_DIGITS_MAX = 18  # fits what a store can count to

FACTS = "replica"  # the space of facts
SALT = "salt"

Watcher = Callable[[Statement, bytes], None]  # a record that is new here, and who sent it (empty: ourselves)
RowWatcher = Callable[[Row | None, Row | None], None]  # what stood there before, and what stands there now
Forgetter = Callable[[Row], None]  # a record that is here no more, without a tombstone: its time is over
Identity = tuple[bytes, str, str]


class Replica:
    """One formation's records over a store. Watchers hear of every record that is new here."""

    def __init__(self, store: Store, *, formation: bytes, roster: Roster, ours: bytes) -> None:
        self._store = store
        self._formation = formation
        self._roster = roster
        self._ours = ours
        self._watchers: list[Watcher] = []
        self._forgetters: list[Forgetter] = []
        self._row_watchers: list[RowWatcher] = []
        self._confirmed: set[Identity] | None = None  # what was named since a snapshot began
        self._salt = (store.fact(FACTS, SALT) or b"").decode()
        self._last_stamp = store.newest_stamp()
        self._recognised: OrderedDict[bytes, Identity] = OrderedDict()  # by their signatures: what came and was kept
        self._quotas = Quotas(store)
        self._known: OrderedDict[bytes, Statement] = OrderedDict()  # by hash
        self._unheard: set[Identity] = set()  # records of authors of whom no grant is known
        self._returned: dict[Identity, bytes] = {}  # records of our own that came from others, whatever way: their hashes
        for kind in TRUST:
            for row in store.of_kind(kind):
                if not row.tombstone:
                    self._learn(parse_unverified(row.signed)[0])
        for author in store.authors():
            if not self._has_heard_of(author) and len(self._unheard) < UNKNOWN_AUTHORS_RECORDS_MAX:
                rows = store.of_author(author, after_stamp=0, limit=UNKNOWN_AUTHORS_RECORDS_MAX - len(self._unheard))
                self._unheard.update((author, row.kind, row.name) for row in rows)

    def watch(self, watcher: Watcher) -> None:
        self._watchers.append(watcher)

    def watch_rows(self, watcher: RowWatcher) -> None:
        """Hear of every row that comes, goes or is replaced."""
        self._row_watchers.append(watcher)

    def watch_forgetting(self, forgetter: Forgetter) -> None:
        self._forgetters.append(forgetter)

    def next_stamp(self, *, now_ms: int) -> int:
        """A stamp greater than all that this node has seen or said."""
        self._last_stamp = next_stamp(self._last_stamp, now_ms=now_ms)
        return self._last_stamp

    # --- in -------------------------------------------------------------------------------------------------------------------

    def ingest(self, signed: bytes, *, now_ms: int, sender: bytes = b"", stale: bool = False) -> Statement | Refusal:
        """Admit and merge what somebody sent. May raise StorageError; then nothing changed.

        stale: the sender was away for longer than tombstones live: what it holds of third ones is not taken
        """
        statement, identity = None, self._recognise(signed)
        if identity is None:
            try:
                statement = parse(signed)
            except ProtocolError as error:
                reason = Rejection.BAD_SIGNATURE if error.code == "bad_signature" else Rejection.MALFORMED
                return Refusal(Rejection.TOO_LARGE if error.code == Code.TOO_LARGE else reason, error.message)
            identity = statement.identity
        author, kind, name = identity
        if stale and kind not in TRUST and author not in (sender, self._ours):
            return Refusal(Rejection.STALE, "its sender was away for longer than tombstones live, and is not its author")
        if self._confirmed is not None:
            self._confirmed.add(identity)
        if statement is None:
            return Refusal(Rejection.SUPERSEDED, "this very record is here already")
        has_room = self._quotas.has_room(author, kind, tombstone=statement.tombstone)
        if kind not in TRUST and has_room and self._admit(statement, now_ms=now_ms) is None:
            row = _row_of(statement)
            if self._store.add(row, durable=KINDS[kind].durable):  # most are new, and cost no look-up
                return self._came(statement, row, None, sender)
        held = self._store.get(author, kind, name)
        if held is not None and not wins(statement, held.stamp, held.hash):
            if held.signed == signed:
                self._remember(statement)
            return Refusal(Rejection.SUPERSEDED, "a newer record of that name is here already")
        refusal = self._admit(statement, now_ms=now_ms)
        if refusal is None and (held is None or held.tombstone) and not has_room:
            refusal = Refusal(Rejection.OVER_QUOTA, f"its author has {KINDS[kind].author_max} records of kind {kind} here already")
        if refusal is not None:
            return refusal
        row = _row_of(statement)
        self._store.put(row, durable=KINDS[kind].durable)
        return self._came(statement, row, held, sender)

    def _came(self, statement: Statement, row: Row, held: Row | None, sender: bytes) -> Statement:
        if statement.author == self._ours:
            self._returned[statement.identity] = statement.hash
        self._kept(statement, row, held, sender)
        return statement

    def _recognise(self, signed: bytes) -> Identity | None:
        """Whose record these bytes are, where the very same are here: in a formation each comes from every peer, and is checked once."""
        identity = self._recognised.get(signed[-SIGNATURE_BYTES:])
        held = self._store.get(*identity) if identity is not None else None
        return identity if held is not None and held.signed == signed else None

    def _remember(self, statement: Statement) -> None:
        self._recognised[statement.signed[-SIGNATURE_BYTES:]] = statement.identity
        if len(self._recognised) > RECOGNISED_MAX:
            self._recognised.popitem(last=False)

    def publish(self, statement: Statement) -> Statement:
        """Take in what this node itself says. Raises ProtocolError where it breaks a limit of its kind."""
        refusal = self._admit(statement, now_ms=stamp_ms(statement.stamp))
        if refusal is not None:
            raise ProtocolError(f"the {statement.kind} record {statement.name!r} can't be published: {refusal.detail}", code=Code.TOO_LARGE)
        held, row = self._store.get(*statement.identity), _row_of(statement)
        self._store.put(row, durable=KINDS[statement.kind].durable)
        self._kept(statement, row, held, b"")
        return statement

    def _admit(self, statement: Statement, *, now_ms: int) -> Refusal | None:
        limits = KINDS.get(statement.kind)
        if limits is None:
            return Refusal(Rejection.UNKNOWN_KIND, f"records of kind {statement.kind!r} are not known here")
        if len(statement.signed) > limits.size_bytes_max:
            return Refusal(Rejection.TOO_LARGE, f"{len(statement.signed)} bytes, {limits.size_bytes_max} are allowed for {statement.kind}")
        if statement.formation != self._formation:
            return Refusal(Rejection.WRONG_FORMATION, "the record is of another formation")
        if (said_ms := stamp_ms(statement.stamp)) > now_ms + AHEAD_MS_MAX:
            return Refusal(Rejection.TOO_FAR_AHEAD, "the record is of the future: a clock is off by more than 5 minutes")
        if now_ms > statement.expires + AHEAD_MS_MAX + limits.kept_ms:
            return Refusal(Rejection.EXPIRED, "the record's time is over")
        if statement.expires - said_ms > limits.longest_ms(tombstone=not statement.body):
            return Refusal(Rejection.TOO_LONG, f"the record is to live for longer than any of kind {statement.kind} may")
        return self._admit_author(statement)

    def _admit_author(self, statement: Statement) -> Refusal | None:
        is_full = len(self._unheard) >= UNKNOWN_AUTHORS_RECORDS_MAX
        if is_full and statement.identity not in self._unheard and self._is_unheard(statement):
            return Refusal(Rejection.NOT_GRANTED, "no grant of its author is known here")
        if statement.kind in TRUST:
            if statement.tombstone:
                return Refusal(Rejection.MALFORMED, f"a {statement.kind} can't be taken back")
            try:
                self._roster.check(statement)
            except ProtocolError as error:
                return Refusal(Rejection.NOT_GRANTED, error.message)
        return None

    def _is_unheard(self, statement: Statement) -> bool:
        return statement.kind != "grant" and not self._has_heard_of(statement.author)  # a grant brings its author's along

    def _has_heard_of(self, author: bytes) -> bool:
        return author == self._formation or self._roster.knows(author)

    def _kept(self, statement: Statement, row: Row, held: Row | None, sender: bytes) -> None:
        """It is in the store: all that follows from that."""
        self._quotas.changed(held, row)
        self._remember(statement)
        if self._is_unheard(statement):
            self._unheard.add(statement.identity)
        if statement.kind in TRUST:  # not before it is kept: what only this process knew would hold until its end, and for nobody else
            self._roster.learn(statement)
        self._last_stamp = max(self._last_stamp, statement.stamp)
        for row_watcher in self._row_watchers:
            row_watcher(held, row)
        for watcher in self._watchers:
            watcher(statement, sender)
        while row.tombstone and (surplus := self._quotas.surplus(row.author, row.kind)) is not None:
            self.forget([surplus])

    def _learn(self, statement: Statement) -> None:
        if statement.formation == self._formation:
            self._roster.learn(statement)

    # --- out ------------------------------------------------------------------------------------------------------------------

    def get(self, author: bytes, kind: str, name: str, *, now_ms: int) -> Statement | None:
        """The record as it stands: None where there is none, or it is gone or expired."""
        row = self._store.get(author, kind, name)
        return None if row is None or row.tombstone or expired(row.expires, now_ms=now_ms) else parse_unverified(row.signed)[0]

    def living(self, kind: str, *, now_ms: int, author: bytes | None = None) -> Iterator[Statement]:
        """Every record of a kind, of one author or all, neither gone nor expired, ordered by name; whoever reads it judges the author."""
        for row in self._store.of_kind(kind, author=author):
            if not row.tombstone and not expired(row.expires, now_ms=now_ms):
                yield parse_unverified(row.signed)[0]

    def held(self, kind: str) -> Iterator[Statement]:
        """Every record of a kind that is not gone, also what has expired and is kept: what was last said. Ordered by name."""
        for row in self._store.of_kind(kind):
            if not row.tombstone:
                yield self._read(row) if KINDS[kind].author_max == 1 else parse_unverified(row.signed)[0]

    def last_said(self, author: bytes, kind: str, name: str) -> Statement | None:
        """The same of one record; for kinds of which an author has one."""
        row = self._store.get(author, kind, name)
        return self._read(row) if row is not None and not row.tombstone else None

    def _read(self, row: Row) -> Statement:
        """What a row says, remembered: what each node says of itself is asked for with every link that comes or goes."""
        statement = self._known.get(row.hash)
        if statement is None or statement.signed != row.signed:
            statement = self._known[row.hash] = parse_unverified(row.signed)[0]
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return statement

    def page(self, cursor: str, *, reader: bytes, limit: int = PAGE_RECORDS_MAX) -> tuple[list[bytes], str, bool]:
        """What a member may have that came after `cursor`: the signed records, the next cursor, and whether there is more.

        A cursor is opaque, `incarnation.seq`; one of another incarnation, or none, means from the start. The first page of a full pull
        begins with what others are judged by: revocations, departures, grants. A cursor that we can't have given yet is of a life of this
        home that a backup has undone.
        """
        after = self.place_of(cursor)
        limit = min(limit, PAGE_RECORDS_MAX)
        rows = self._store.since(after, limit)
        more = len(rows) == limit
        page: list[bytes] = []
        if after == 0:
            page = [row.signed for kind in TRUST for row in self._store.of_kind(kind)]
        size = 0
        for row in rows:
            size += len(row.signed)
            if page and size > PAGE_BYTES_MAX:
                more = True
                break
            after = row.seq
            if may_have(row, reader):
                page.append(row.signed)
        return page, self.cursor_at(after), more

    def cursor(self) -> str:
        """The cursor of somebody who knows all that is here now."""
        return self.cursor_at(self._store.last_seq())

    def cursor_at(self, seq: int) -> str:
        """The cursor of somebody who knows all up to a place in our order of arrival."""
        return f"{self._name}.{seq}"

    def place_of(self, cursor: str) -> int:
        """The place that a cursor names; 0, the start, where it is none of ours as we are now."""
        incarnation, _, text = cursor.partition(".")
        number = text.isascii() and text.isdigit() and len(text) <= CURSOR_DIGITS_MAX
        seq = int(text) if incarnation == self._name and number else 0
        return seq if seq <= self._store.last_seq() else 0

    @property
    def _name(self) -> str:
        return self._store.incarnation + self._salt

    def said_by(self, author: bytes, *, after: int, limit: int = PAGE_RECORDS_MAX) -> list[Row]:
        """What an author said later than the stamp `after`, oldest first."""
        return self._store.of_author(author, after_stamp=after, limit=limit)

    # --- a home that was restored from a backup -----------------------------------------------------------------------------------

    def own_newest(self) -> int:
        """The stamp of the newest record of our own."""
        return max((row.stamp for row in self._store.of_author(self._ours, after_stamp=0, limit=OWN_RECORDS_MAX)), default=0)

    def regain(self, records: list[bytes], *, now_ms: int, sender: bytes) -> tuple[list[Statement], int]:
        """Take in records of our own that others hold and we lost. Our stamps move ahead of all of them before anything is written, and
        our cursors become others: peers remember places in an order of arrival that is gone.

        Returns what was taken in, and the newest stamp of all that came (above any, where nothing of ours did).
        """
        own: list[Statement] = []
        for signed in records:
            try:
                statement = parse(signed)
            except ProtocolError:
                continue
            if statement.author == self._ours and not too_far_ahead(statement.stamp, now_ms=now_ms):
                own.append(statement)
        self._last_stamp = max([self._last_stamp, *(statement.stamp for statement in own)])
        for statement in own:
            self.ingest(statement.signed, now_ms=now_ms, sender=sender)
        # a grant may have come already, shown in a handshake by whom it was given to
        taken = [statement for statement in own if self._returned.pop(statement.identity, None) == statement.hash]
        if taken:
            self._salt = f"-{self._last_stamp:x}"
            self._store.set_fact(FACTS, SALT, self._salt.encode(), durable=True)
        return taken, max((statement.stamp for statement in own), default=STAMP_MAX)

    # --- a clock that was wrong ------------------------------------------------------------------------------------------------------

    def is_ahead(self, *, now_ms: int, signs: frozenset[bytes]) -> bool:
        """Whether what we say next would be of the future to everybody else: our clock was ahead, and was set right. Where most others
        seem to be of the future too, it is our clock that is wrong now. Who knows of no others has but its own word to lose, and that only
        where it can sign all of it again. `signs`: the authors whose keys are here."""
        if not too_far_ahead(self._last_stamp, now_ms=now_ms):
            return False
        others = [row.stamp for row in self._store.of_kind("node") if row.author != self._ours]
        if others:
            return sum(too_far_ahead(stamp, now_ms=now_ms) for stamp in others) * 2 < len(others)
        rows = (row for kind in KINDS for row in self._store.of_kind(kind))
        return now_ms >= EARLIEST_MS and all(row.author in signs for row in rows if too_far_ahead(row.stamp, now_ms=now_ms))

    def forget_future(self, *, now_ms: int) -> list[Statement]:
        """Drop what nobody would take: what was said, here or elsewhere, by a clock that was far ahead. Returns it: our own is to be said
        again. Stamps go on from what is left."""
        rows = [row for kind in KINDS for row in self._store.of_kind(kind)]
        future = [row for row in rows if too_far_ahead(row.stamp, now_ms=now_ms)]
        self.forget(future)
        self._last_stamp = max((row.stamp for row in rows if not too_far_ahead(row.stamp, now_ms=now_ms)), default=0)
        if any(row.kind in TRUST for row in future):
            self._roster.forget()
            for kind in TRUST:
                for row in self._store.of_kind(kind):
                    self._learn(parse_unverified(row.signed)[0])
        return [parse_unverified(row.signed)[0] for row in future]

    # --- forgetting ---------------------------------------------------------------------------------------------------------------

    def purge(self, *, now_ms: int, limit: int = PURGE_MAX) -> int:
        """Forget what is over, up to `limit` records; returns how many. Tombstones carry their own end, 30 days after they were said."""
        over: list[Row] = []
        for kind, limits in KINDS.items():
            until_ms = now_ms - AHEAD_MS_MAX - limits.kept_ms - 1
            over += self._store.ending(kind, after_ms=-1, until_ms=until_ms, limit=limit - len(over))
        gone = self.forget(over)
        self._unheard = {one for one in self._unheard if not self._has_heard_of(one[0]) and self._store.get(*one) is not None}
        return gone

    def begin_snapshot(self) -> None:
        """From now on note what is named by others; `end_snapshot` forgets the rest."""
        if self._confirmed is None:
            self._confirmed = set()

    def end_snapshot(self) -> int:
        """All that others hold has come: forget what they don't, but for our own and what others are judged by; returns how many."""
        confirmed, self._confirmed = self._confirmed, None
        if confirmed is None:
            return 0
        rows = [row for kind in KINDS if kind not in TRUST for row in self._store.of_kind(kind) if row.author != self._ours]
        return self.forget([row for row in rows if (row.author, row.kind, row.name) not in confirmed])

    def forget(self, rows: list[Row]) -> int:
        """These are here no more, and leave no tombstone."""
        for row in rows:
            self._store.delete(row.author, row.kind, row.name)
            self._quotas.changed(row, None)
            for row_watcher in self._row_watchers:
                row_watcher(row, None)
            for forgetter in self._forgetters:
                forgetter(row)
        return len(rows)


def _row_of(statement: Statement) -> Row:
    return Row(
        statement.author,
        statement.kind,
        statement.name,
        statement.stamp,
        statement.expires,
        statement.hash,
        statement.signed,
        not statement.body,
    )


def may_have(row: Row, reader: bytes) -> bool:
    """Whether a member may be sent a record: all that is for the formation or for more, and what names it."""
    if is_for_all(row.signed) or reader == row.author:
        return True
    return reader in parse_unverified(row.signed)[0].audience
