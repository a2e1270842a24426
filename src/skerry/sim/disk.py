"""What a simulated host keeps when its node dies: records and facts, keys, blobs.

A `SimDisk` outlives the nodes that use it, as a disk does. Each start of a node opens the store anew; the store of the node before is
dead from then on, so that whatever its dying tasks still try to write goes nowhere.

A commit is on the disk for good when something durable was written after it, or the system has had time to write it back; until then it
outlives the process but not the power. A disk can be full, and slow: then its node stands still while it reads or commits.

The rule: after a kill exactly the last commit is there; after a loss of power one of those since the last sync, and nothing of what came
later; what was written durably always. A `seq` that was ever given is never given again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from skerry.errors import Code, StorageError
from skerry.ports import Row
from skerry.sim.clock import SimRandom
from skerry.sim.process import CURRENT
from skerry.sim.store import SimStore


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
        self._store = SimStore.of(self, image.rows, image.facts, image.seq)

    def check_space(self) -> None:
        if self.is_full:
            raise StorageError(f"can't write to disk {self.incarnation}: the disk is full", code=Code.DISK_FULL, hint="Free some space.")


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
