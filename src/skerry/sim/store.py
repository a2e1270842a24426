"""`ports.Store` in memory, on a simulated disk: what is committed is there after a crash, what is not is taken back.

The rule: it passes the contract of stores, as the real one does (`tests/contract/test_store.py`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from skerry.errors import StorageError
from skerry.ports import Fact, Row

if TYPE_CHECKING:
    from skerry.sim.disk import SimDisk

UNSYNCED_MAX = 32  # commits that the system has not written back; it does so by itself after a while
SEQ_SKIP = 10_000  # numbers left out at each opening, as the leases of the real store do


class _Identity(NamedTuple):
    formation: bytes
    author: bytes
    kind: str
    name: str


def _identity(row: Row) -> _Identity:
    return _Identity(row.formation, row.author, row.kind, row.name)


class SimStore:
    """`ports.Store` in memory. Made by `SimDisk.open`."""

    def __init__(self, disk: SimDisk, before: SimStore | None) -> None:
        self._disk = disk
        self.is_open = True
        self._undo: list[Callable[[SimStore], None]] = []  # takes back, last first, what is not committed
        self._unsynced: deque[list[Callable[[SimStore], None]]] = (
            before._unsynced if before else deque()
        )  # and each commit that may be lost
        self._rows: dict[_Identity, Row] = before._rows if before else {}
        self._by_seq: dict[int, Row] = before._by_seq if before else {}  # in order of seq: a new row has the greatest
        self._by_kind: dict[tuple[bytes, str], dict[_Identity, Row]] = before._by_kind if before else {}
        self._by_author: dict[tuple[bytes, bytes], dict[_Identity, Row]] = before._by_author if before else {}
        self._counts: dict[tuple[bytes, bytes, str, bool], int] = before._counts if before else {}
        self._at: dict[tuple[bytes, int, bytes], Row] = before._at if before else {}
        self._ends: dict[tuple[bytes, str], list[tuple[int, bytes, str]]] = before._ends if before else {}  # (expires, author, name)
        self._offers: dict[_Identity, tuple[str, ...]] = before._offers if before else {}  # capabilities of agents
        self.losses = 0
        self._facts: dict[str, dict[str, bytes]] = before._facts if before else {}
        self._seq: int = before._seq + SEQ_SKIP if before else 0

    @classmethod
    def of(cls, disk: SimDisk, rows: Iterable[Row], facts: dict[str, dict[str, bytes]], seq: int) -> SimStore:
        """A store that is closed, and holds what a backup did."""
        store = cls(disk, None)
        for row in rows:
            store._swap(None, row)
        store._facts = {space: dict(of) for space, of in facts.items() if space != "offers"}  # those are noted again
        store._seq = seq
        store.is_open = False
        return store

    def peek_fact(self, space: str, key: str) -> bytes | None:
        return self._facts.get(space, {}).get(key)

    def peek_record(self, kind: str, name: str) -> bool:
        return any(identity.name == name for identity in self._by_kind.get((b"", kind), {}))

    def committed(self) -> tuple[tuple[Row, ...], dict[str, dict[str, bytes]], int]:
        """Rows, facts and the last seq as of the last commit; what is under way stays so."""
        copy = SimStore.of(self._disk, self._by_seq.values(), self._facts, self._seq)
        for change in reversed(self._undo):
            change(copy)
        return tuple(sorted(copy._by_seq.values(), key=lambda row: row.seq)), copy._facts, self._seq

    def crash(self) -> None:
        """Back to the last commit; this store does nothing any more."""
        if self.is_open:
            self._roll_back()
            self.is_open = False

    @property
    def unsynced(self) -> int:
        """Commits that a loss of power may take."""
        return len(self._unsynced)

    def lose_unsynced(self, count: int) -> int:
        """The last so many commits are gone with what followed."""
        for _ in range(count):
            self._undo = self._unsynced.pop()
            self._roll_back()
        self._unsynced.clear()
        return count

    @property
    def incarnation(self) -> str:
        return self._disk.incarnation

    # --- records ------------------------------------------------------------------------------------------------------------------

    def put(self, row: Row, *, durable: bool = False) -> int:
        self._check_writable()
        if durable:
            self.commit()
        self._seq += 1
        row = row._replace(seq=self._seq)
        before = self._rows.get(_identity(row))
        self._swap(before, row)
        self._undo.append(lambda store: store._swap(row, before))
        if durable:
            self._sync()
        return row.seq

    def add(self, row: Row, *, durable: bool = False) -> int | None:
        self._check_writable()
        if _identity(row) not in self._rows:
            return self.put(row, durable=durable)
        if durable:
            self.commit()
        return None

    def get(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> Row | None:
        self._check_readable()
        return self._rows.get(_Identity(formation, author, kind, name))

    def since(self, seq: int, limit: int, *, formation: bytes = b"") -> list[Row]:
        self._check_readable()
        found: list[Row] = []
        for row in reversed(self._by_seq.values()):  # from the newest back: whoever asks mostly has all but the last few
            if row.seq <= seq:
                break
            if row.formation == formation:
                found.append(row)
        found.reverse()
        return found[:limit]

    def of_kind(self, kind: str, *, author: bytes | None = None, formation: bytes = b"") -> list[Row]:
        self._check_readable()
        rows = self._by_kind.get((formation, kind), {}) if author is None else self._by_author.get((formation, author), {})
        return sorted((row for row in rows.values() if row.kind == kind), key=lambda row: (row.name, row.author))

    def at(self, stamp: int, digest: bytes, *, formation: bytes = b"") -> Row | None:
        self._check_readable()
        return self._at.get((formation, stamp, digest))

    def of_author(self, author: bytes, *, after_stamp: int, limit: int, formation: bytes = b"") -> list[Row]:
        self._check_readable()
        found = [row for row in self._by_author.get((formation, author), {}).values() if row.stamp > after_stamp]
        return sorted(found, key=lambda row: row.stamp)[:limit]

    def ending(self, kind: str, *, after_ms: int, until_ms: int, limit: int, formation: bytes = b"") -> list[Row]:
        self._check_readable()
        ends = self._ends.get((formation, kind), [])
        first = bisect_left(ends, (after_ms + 1, b"", ""))
        last = bisect_left(ends, (until_ms + 1, b"", ""))
        return [self._rows[_Identity(formation, author, kind, name)] for _, author, name in ends[first : min(last, first + limit)]]

    def newest_stamp(self, *, formation: bytes = b"") -> int:
        self._check_readable()
        return max((row.stamp for row in self._rows.values() if row.formation == formation), default=0)

    def authors(self, *, formation: bytes = b"") -> list[bytes]:
        self._check_readable()
        return sorted(author for (of, author), rows in self._by_author.items() if rows and of == formation)

    def count(self, author: bytes, kind: str, *, tombstone: bool = False, formation: bytes = b"") -> int:
        self._check_readable()
        return self._counts.get((formation, author, kind, tombstone), 0)

    def first_tombstone(self, author: bytes, kind: str, *, formation: bytes = b"") -> Row | None:
        self._check_readable()
        rows = [row for row in self._by_author.get((formation, author), {}).values() if row.tombstone and row.kind == kind]
        return min(rows, key=lambda row: (row.stamp, row.hash), default=None)

    def formations(self) -> list[bytes]:
        self._check_readable()
        return sorted({formation for (formation, _), rows in self._by_kind.items() if rows})

    def delete(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> None:
        self._check_writable()
        before = self._rows.get(_Identity(formation, author, kind, name))
        if before is not None:
            self._swap(before, None)
            self._undo.append(lambda store: store._swap(None, before))

    def set_offers(self, author: bytes, agent: str, capabilities: Sequence[str], *, formation: bytes = b"") -> None:
        self._check_writable()
        whose = _Identity(formation, author, "agent", agent)
        before = self._offers.get(whose, ())
        self._swap_offers(whose, tuple(capabilities))
        self._undo.append(lambda store: store._swap_offers(whose, before))

    def offering(self, low: str, high: str, *, formation: bytes = b"") -> list[Row]:
        self._check_readable()
        ours = [(whose, offered) for whose, offered in self._offers.items() if whose.formation == formation]
        found = [whose for whose, offered in ours if any(low <= capability < high for capability in offered)]
        return [self._rows[whose] for whose in found if whose in self._rows]

    def _swap_offers(self, whose: _Identity, offered: tuple[str, ...]) -> None:
        self._offers.pop(whose, None)
        if offered:
            self._offers[whose] = offered

    def last_seq(self) -> int:
        return self._seq

    def _swap(self, old: Row | None, new: Row | None) -> None:
        if old is not None:
            identity = _identity(old)
            del self._rows[identity], self._by_seq[old.seq], self._by_kind[old.formation, old.kind][identity]
            del self._by_author[old.formation, old.author][identity]
            self._counts[old.formation, old.author, old.kind, old.tombstone] -= 1
            if self._at.get((old.formation, old.stamp, old.hash)) is old:
                del self._at[old.formation, old.stamp, old.hash]
            ends = self._ends[old.formation, old.kind]
            del ends[bisect_left(ends, (old.expires, old.author, old.name))]
        if new is not None:
            identity = _identity(new)
            of_kind = self._by_kind.setdefault((new.formation, new.kind), {})
            self._rows[identity] = self._by_seq[new.seq] = of_kind[identity] = new
            self._by_author.setdefault((new.formation, new.author), {})[identity] = new
            counted = (new.formation, new.author, new.kind, new.tombstone)
            self._counts[counted] = self._counts.get(counted, 0) + 1
            self._at[new.formation, new.stamp, new.hash] = new
            insort(self._ends.setdefault((new.formation, new.kind), []), (new.expires, new.author, new.name))

    # --- facts --------------------------------------------------------------------------------------------------------------------

    def fact(self, space: str, key: str) -> bytes | None:
        self._check_readable()
        return self._facts.get(space, {}).get(key)

    def set_fact(self, space: str, key: str, value: bytes | None, *, durable: bool = False) -> None:
        self._check_writable()
        before = self.peek_fact(space, key)
        self._swap_fact(space, key, value)
        self._undo.append(lambda store: store._swap_fact(space, key, before))
        if durable:
            self._sync()

    def keep_together(self, facts: Sequence[Fact]) -> None:
        self.commit()
        for space, key, value in facts:
            self.set_fact(space, key, value)
        self.commit()

    def facts(self, space: str) -> list[tuple[str, bytes]]:
        self._check_readable()
        return sorted(self._facts.get(space, {}).items())

    def _swap_fact(self, space: str, key: str, value: bytes | None) -> None:
        if value is None:
            self._facts.get(space, {}).pop(key, None)
        else:
            self._facts.setdefault(space, {})[key] = value

    # --- transactions -------------------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        self._check_open()
        if not self._undo:
            return
        if self._disk.is_full:
            self._roll_back()
            self.losses += 1
            self._disk.check_space()
        self._disk.commits()
        self._unsynced.append(self._undo)
        self._undo = []
        if len(self._unsynced) > UNSYNCED_MAX:
            self._unsynced.popleft()

    def _sync(self) -> None:
        """Commit, and wait until it and all before it are on the disk."""
        self.commit()
        self._unsynced.clear()

    def close(self) -> None:
        if self.is_open:
            try:
                self.commit()
            finally:
                self.is_open = False

    def _roll_back(self) -> None:
        while self._undo:
            self._undo.pop()(self)
        self._by_seq = dict(sorted(self._by_seq.items()))  # rows that came back stand at the end of it

    def _check_open(self) -> None:
        if not self.is_open:
            raise StorageError(f"can't use disk {self.incarnation}: the store is closed", hint="Open it again.")

    def _check_readable(self) -> None:
        self._check_open()
        self._disk.reads()

    def _check_writable(self) -> None:
        self._check_open()
        self._disk.check_space()
