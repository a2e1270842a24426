"""What a simulated host keeps when its node dies: records and facts, keys, blobs.

A `SimDisk` outlives the nodes that use it, as a disk does. Each start of a node opens the store anew; the store of the node before is
dead from then on, so that whatever its dying tasks still try to write goes nowhere.

A commit is on the disk for good when something durable was written after it, or the system has had time to write it back; until then it
outlives the process but not the power. A disk can be full, and slow: then its node stands still while it reads or commits.

The rule: after a kill exactly the last commit is there; after a loss of power one of those since the last sync, and nothing of what came
later; what was written durably always. A `seq` that was ever given is never given again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from skerry.errors import Code, StorageError
from skerry.ports import Row
from skerry.sim.clock import SimRandom
from skerry.sim.process import CURRENT

UNSYNCED_MAX = 32  # commits that the system has not written back; it does so by itself after a while
SEQ_SKIP = 10_000  # numbers left out at each opening, as the leases of the real store do


class _Identity(NamedTuple):
    formation: bytes
    author: bytes
    kind: str
    name: str


def _identity(row: Row) -> _Identity:
    return _Identity(row.formation, row.author, row.kind, row.name)


@dataclass(frozen=True, slots=True)
class Slowness:
    """How long things take: a commit up to `commit_s`; a read that is not in memory, of which `misses` is the share, up to `read_s`."""

    commit_s: float
    read_s: float
    misses: float


@dataclass(frozen=True, slots=True)
class Image:
    """A copy of all that a disk holds, as a backup keeps it."""

    incarnation: str
    rows: tuple[Row, ...]  # by seq
    facts: dict[str, dict[str, bytes]]
    seq: int
    seeds: dict[str, bytes]
    paths: dict[str, Path]


class SimDisk:
    """A host's disk. `is_full` makes every write fail until it is taken back; `slowness` makes whoever uses it wait."""

    def __init__(self, *, incarnation: str = "sim") -> None:
        self.incarnation = incarnation
        self.is_full = False
        self.slowness: Slowness | None = None
        self._random = SimRandom(f"{incarnation}/disk")
        self.keyring = SimKeyring(self)
        self.blobs = SimBlobs(self)
        self._store: SimStore | None = None

    def open(self) -> SimStore:
        """The store as of its last commit, for a node that starts. Any earlier one is dead."""
        before = self._store
        if before is not None:
            before.crash()
        self._store = SimStore(self, before)
        return self._store

    @property
    def is_open(self) -> bool:
        """Whether somebody uses the store."""
        return self._store is not None and self._store.is_open

    def lose_process(self) -> None:
        """What is not committed is gone, and whoever still uses the store writes nowhere."""
        if self._store is not None:
            self._store.crash()

    def lose_power(self) -> int:
        """The same, and of the commits since the last sync only the first few are there; returns how many are not."""
        self.lose_process()
        store = self._store
        return store.lose_unsynced(self._random.randint(0, store.unsynced)) if store is not None else 0

    def reads(self) -> None:
        """Whoever reads waits for it, where the disk is slow; who looks from outside does not."""
        slow, process = self.slowness, CURRENT.get()
        if slow is not None and process is not None and self._random.random() < slow.misses:
            process.stall(self._random.uniform(slow.read_s / 4, slow.read_s))

    def commits(self) -> None:
        slow, process = self.slowness, CURRENT.get()
        if slow is not None and process is not None:
            process.stall(self._random.uniform(slow.commit_s / 4, slow.commit_s))

    def fact(self, space: str, key: str) -> bytes | None:
        """A fact as it stands on the disk, whoever uses the store; for those who look from outside."""
        return self._store.peek_fact(space, key) if self._store is not None else None

    def holds(self, kind: str, name: str) -> bool:
        """Whether anybody's record of that kind and name is here."""
        return self._store is not None and self._store.peek_record(kind, name)

    def image(self) -> Image:
        """What a backup would hold now: the last commit."""
        store = self._store
        assert store is not None, "nothing was ever stored"
        rows, facts, seq = store.committed()
        return Image(self.incarnation, rows, facts, seq, dict(self.keyring.seeds), dict(self.blobs.paths))

    def restore(self, image: Image) -> None:
        """Everything is as it was then, whatever came since."""
        self.lose_process()
        self.incarnation = image.incarnation
        self.keyring.seeds = dict(image.seeds)
        self.blobs.paths = dict(image.paths)
        self._store = SimStore.of(self, image)

    def check_space(self) -> None:
        if self.is_full:
            raise StorageError(f"can't write to disk {self.incarnation}: the disk is full", code=Code.DISK_FULL, hint="Free some space.")


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
        self._counts: dict[tuple[bytes, bytes, str], int] = before._counts if before else {}
        self._facts: dict[str, dict[str, bytes]] = before._facts if before else {}
        self._seq: int = before._seq + SEQ_SKIP if before else 0

    @classmethod
    def of(cls, disk: SimDisk, image: Image) -> SimStore:
        """A store that is closed, and holds what the image does."""
        store = cls(disk, None)
        for row in image.rows:
            store._swap(None, row)
        store._facts = {space: dict(facts) for space, facts in image.facts.items()}
        store._seq = image.seq
        store.is_open = False
        return store

    def peek_fact(self, space: str, key: str) -> bytes | None:
        return self._facts.get(space, {}).get(key)

    def peek_record(self, kind: str, name: str) -> bool:
        return any(identity.name == name for identity in self._by_kind.get((b"", kind), {}))

    def committed(self) -> tuple[tuple[Row, ...], dict[str, dict[str, bytes]], int]:
        """Rows, facts and the last seq as of the last commit; what is under way stays so."""
        copy = SimStore.of(self._disk, Image("", tuple(self._by_seq.values()), self._facts, self._seq, {}, {}))
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
        row = replace(row, seq=self._seq)
        before = self._rows.get(_identity(row))
        self._swap(before, row)
        self._undo.append(lambda store: store._swap(row, before))
        if durable:
            self._sync()
        return row.seq

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

    def of_kind(self, kind: str, *, formation: bytes = b"") -> list[Row]:
        self._check_readable()
        return sorted(self._by_kind.get((formation, kind), {}).values(), key=lambda row: (row.name, row.author))

    def count(self, author: bytes, kind: str, *, formation: bytes = b"") -> int:
        self._check_readable()
        return self._counts.get((formation, author, kind), 0)

    def formations(self) -> list[bytes]:
        self._check_readable()
        return sorted({formation for (formation, _), rows in self._by_kind.items() if rows})

    def delete(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> None:
        self._check_writable()
        before = self._rows.get(_Identity(formation, author, kind, name))
        if before is not None:
            self._swap(before, None)
            self._undo.append(lambda store: store._swap(None, before))

    def last_seq(self) -> int:
        return self._seq

    def _swap(self, old: Row | None, new: Row | None) -> None:
        if old is not None:
            identity = _identity(old)
            del self._rows[identity], self._by_seq[old.seq], self._by_kind[old.formation, old.kind][identity]
            self._counts[old.formation, old.author, old.kind] -= 1
        if new is not None:
            identity = _identity(new)
            of_kind = self._by_kind.setdefault((new.formation, new.kind), {})
            self._rows[identity] = self._by_seq[new.seq] = of_kind[identity] = new
            counted = (new.formation, new.author, new.kind)
            self._counts[counted] = self._counts.get(counted, 0) + 1

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


class SimKeyring:
    """`ports.Keyring` in memory; a key is on the disk once `save` returns."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self.seeds: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        return self.seeds.get(name)

    def save(self, name: str, seed: bytes) -> None:
        self._disk.check_space()
        self.seeds[name] = seed

    def delete(self, name: str) -> None:
        self.seeds.pop(name, None)


class SimBlobs:
    """`ports.Blobs` in memory: reads what it is given to name it, and keeps no more of it. Nobody opens what it names.

    The path is the same on every machine, wherever the source lies, so that a trace is too.
    """

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self.paths: dict[str, Path] = {}

    async def put(self, source: Path) -> str:
        self._disk.check_space()
        digest = blake3(source.read_bytes()).hexdigest()
        self.paths[digest] = Path("/blobs") / digest / source.name
        return digest

    def path(self, digest: str) -> Path | None:
        return self.paths.get(digest)

    async def drop(self, digest: str) -> None:
        self.paths.pop(digest, None)
