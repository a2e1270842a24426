"""The outside world as the rest of Skerry sees it.

Nothing below this line of the house touches a clock, a socket, a disk or a process by itself: it is handed these ports. Two places
build them: `cli/serve.py` the real ones, `sim/` the simulated ones. Time that passes is the event loop's own (`loop.time()`,
`asyncio.sleep`), which the simulator replaces as a whole; `Clock` is only the wall clock, which may be wrong.

The rule: a port is as small as its users need, and both its implementations pass the same contract tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from skerry.surroundings import Dht, Http, Lan


class Clock(Protocol):
    """The wall clock of this machine. It may drift, step, or start in 1970."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...


class Random(Protocol):
    """Randomness. Real: the operating system's. Simulated: from the world's seed."""

    def token(self, size_bytes: int) -> bytes: ...

    def fraction(self) -> float:
        """Uniform in [0, 1); for jitter and choices, never for secrets."""
        ...


# --- network ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Security:
    """What a transport itself proves about a fresh connection.

    transport    "tcp" (TLS 1.3), "uds" or "inproc"
    listener     the listener's public key as its certificate shows it (32 bytes); dialler's side of "tcp" only
    binding      32 bytes that both ends see alike and nobody between can: SHA-256 of the listener's certificate; zeros without TLS
    same_owner   the operating system says that both ends belong to one user ("uds", "inproc")
    """

    transport: str
    listener: bytes | None
    binding: bytes
    same_owner: bool


class Listener(Protocol):
    """A bound address. `address` is what it really is (port 0 resolved)."""

    @property
    def address(self) -> str: ...

    async def close(self) -> None:
        """Accept no more. Connections that are open stay."""
        ...


ProtocolFactory = Callable[[], asyncio.Protocol]


class Network(Protocol):
    """Byte streams between addresses: `tcp://host:port`, `uds:///path`. `via:` is not among them: what leads over a relay is the channel's,
    which secures it end to end here."""

    async def listen(self, address: str, factory: ProtocolFactory) -> Listener:
        """Raises UsageError(port_in_use | bad_input) where the address can't be bound."""
        ...

    async def dial(self, address: str, factory: ProtocolFactory, *, timeout_s: float) -> asyncio.Protocol:
        """A connected protocol (TLS done, nothing of ours sent). Raises Unreachable with the system's own reason."""
        ...

    async def resolve(self, host: str, port: int) -> list[str]:
        """The numeric addresses of a name, in the order to try them; a number is its own. Raises Unreachable."""
        ...

    async def secure(self, transport: asyncio.Transport, factory: ProtocolFactory, *, listener: bool, timeout_s: float) -> asyncio.Protocol:
        """The same over a connection that is open, and whose other end does so too: TLS between whoever holds the two ends, whatever
        forwards their bytes. The transport becomes the new protocol's. Raises Unreachable; then the transport is closed."""
        ...

    def bare(self, transport: asyncio.Transport) -> asyncio.Transport:
        """The connection under its own TLS, for bytes that bring TLS of their own (`secure`). Nothing may be under way, and both ends do
        it at the same place of their talk; whoever asks sets the protocol in the same turn."""
        ...

    def security(self, transport: asyncio.BaseTransport) -> Security:
        """What the transport proves; for any transport that this network handed to a protocol."""
        ...


# --- store ------------------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One stored record. Identity is (author, kind, name) within a formation; `seq` is this store's own arrival number, 0 before it is
    stored. `formation` is empty for the home's own, else the id of the one that it was taken from (`records/abroad.py`). The order of the
    fields is that of the columns. A tuple, because one is made for each record that comes: a frozen dataclass costs five times as much."""

    author: bytes
    kind: str
    name: str
    stamp: int
    expires: int  # Unix ms
    hash: bytes
    signed: bytes  # the COSE bytes exactly as received
    tombstone: bool = False
    seq: int = 0
    formation: bytes = b""


Fact = tuple[str, str, bytes | None]  # space, key, value; None: gone


class Store(Protocol):
    """Records and the node's private facts, on a disk that may be full or lose what was not committed.

    Writes join an open transaction; `commit()` makes them last. `durable=True` commits at once and through to the disk. Every method
    may raise StorageError(storage | disk_full); then nothing of that write is there.

    Records lie in partitions, one for each formation: no method shows, counts or deletes what is in another one. `formation` empty is
    the home's own.
    """

    @property
    def incarnation(self) -> str:
        """Names this database file; a rebuilt store has another, so that old cursors mean nothing to it."""
        ...

    def put(self, row: Row, *, durable: bool = False) -> int:
        """Insert or replace by identity; returns the new `seq`."""
        ...

    def add(self, row: Row, *, durable: bool = False) -> int | None:
        """Insert where there is none of that identity, and return the `seq`; None, and nothing changes, where there is one."""
        ...

    def get(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> Row | None: ...

    def since(self, seq: int, limit: int, *, formation: bytes = b"") -> list[Row]:
        """Rows with a greater `seq`, in order."""
        ...

    def of_kind(self, kind: str, *, author: bytes | None = None, formation: bytes = b"") -> list[Row]:
        """All rows of a kind, of one author or of all, ordered by (name, author)."""
        ...

    def at(self, stamp: int, digest: bytes, *, formation: bytes = b"") -> Row | None:
        """The row of that stamp and hash."""
        ...

    def of_author(self, author: bytes, *, after_stamp: int, limit: int, formation: bytes = b"") -> list[Row]:
        """What an author said later than a stamp, oldest first."""
        ...

    def ending(self, kind: str, *, after_ms: int, until_ms: int, limit: int, formation: bytes = b"") -> list[Row]:
        """Rows of a kind that expire after `after_ms` and not after `until_ms`, the first to expire first."""
        ...

    def newest_stamp(self, *, formation: bytes = b"") -> int:
        """The greatest of all stamps; 0 where nothing is stored."""
        ...

    def authors(self, *, formation: bytes = b"") -> list[bytes]:
        """Everybody of whom a record is stored, each once."""
        ...

    @property
    def losses(self) -> int:
        """How often accepted writes were lost since it was opened, because a commit failed: what was derived from them is void."""
        ...

    def count(self, author: bytes, kind: str, *, tombstone: bool = False, formation: bytes = b"") -> int:
        """An author's rows of a kind, without tombstones; or its tombstones alone."""
        ...

    def first_tombstone(self, author: bytes, kind: str, *, formation: bytes = b"") -> Row | None:
        """Of an author's tombstones of a kind the one with the least stamp, then hash."""
        ...

    def delete(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> None: ...

    def formations(self) -> list[bytes]:
        """Those whose partitions hold anything, in order; the home's own (empty) among them."""
        ...

    def set_offers(self, author: bytes, agent: str, capabilities: Sequence[str], *, formation: bytes = b"") -> None:
        """Note which capabilities an agent's row offers, in place of what was noted of it."""
        ...

    def offering(self, low: str, high: str, *, formation: bytes = b"") -> list[Row]:
        """The rows of agents of which a capability in [low, high) is noted, each once."""
        ...

    def last_seq(self) -> int: ...

    def fact(self, space: str, key: str) -> bytes | None:
        """A private fact: never replicated."""
        ...

    def set_fact(self, space: str, key: str, value: bytes | None, *, durable: bool = False) -> None:
        """None deletes."""
        ...

    def keep_together(self, facts: Sequence[Fact]) -> None:
        """Write all of these and commit them, after what was written before: all are there or, where it raises, none."""
        ...

    def facts(self, space: str) -> list[tuple[str, bytes]]:
        """All of a space, ordered by key."""
        ...

    def commit(self) -> None: ...

    def close(self) -> None: ...


class Keyring(Protocol):
    """Secret keys by name (`node`, `root`, `agent-<id>`): 32-byte Ed25519 seeds. Real: 0600 files in the home."""

    def load(self, name: str) -> bytes | None:
        """Raises StorageError(unsafe_file) where others could read the key."""
        ...

    def save(self, name: str, seed: bytes) -> None: ...

    def delete(self, name: str) -> None: ...


class Blobs(Protocol):
    """Content by BLAKE3 hash: what agents were made of, kept in the home."""

    async def put(self, source: Path) -> str:
        """Copy a file or folder in; returns its hash (hex). The same content is stored once."""
        ...

    def path(self, digest: str) -> Path | None:
        """Where the content lies, or None."""
        ...

    async def drop(self, digest: str) -> None: ...


# --- processes --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """What an executor needs to start one agent's worker.

    name           the agent's name, for its log
    log            file that takes the worker's stdout and stderr (None: thrown away)
    env            further environment
    python         the interpreter of an environment of its own; "" for the node's
    readable       files and folders that it needs, where a sandbox would hide them
    work           the folder that it may write in
    memory_bytes   above this it is ended; 0: no limit
    """

    name: str
    log: Path | None = None
    env: dict[str, str] = field(default_factory=dict)
    python: str = ""
    readable: tuple[Path, ...] = ()
    work: Path | None = None
    memory_bytes: int = 0


class Worker(Protocol):
    """A running worker: the process, or its simulated twin."""

    @property
    def pid(self) -> int: ...

    @property
    def sandboxed(self) -> bool:
        """Whether it runs inside a sandbox, where it sees nothing of the node's."""
        ...

    def kill(self) -> None:
        """End it and its children at once (SIGKILL)."""
        ...

    async def wait(self) -> int:
        """Its exit status; negative is a signal."""
        ...

    def begun(self) -> int:
        """The highest turn of the tasks that it began, and 0 before the first. Once it has ended this is final, however it ended."""
        ...

    def why_ended(self) -> str:
        """Why it was ended, where the executor did it by itself (a limit); "" otherwise."""
        ...


class Executor(Protocol):
    """Starts workers. The two factories make the node's ends of the worker's connections: calls, and bulk."""

    async def spawn(self, start: WorkerStart, calls: ProtocolFactory, bulk: ProtocolFactory) -> Worker: ...


class Environments(Protocol):
    """Environments with what agents require, made once each."""

    async def ensure(self, requirements: str) -> str:
        """The interpreter of an environment that has them. Raises UsageError where they can't be installed."""
        ...

    async def keep_only(self, used: list[str]) -> None:
        """Remove the environments of all other requirements."""
        ...


class OwnersFile(Protocol):
    """A text file of the home that its owner may edit while the node runs."""

    def changed(self) -> bool:
        """Whether it is another one than when it was last read or written here."""
        ...

    def read(self) -> str | None:
        """Its text; None where there is none. Raises StorageError or UsageError where it can't be read."""
        ...

    def write(self, text: str) -> None:
        """Whole or not at all, readable by its owner alone."""
        ...

    def remove(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All that one node is handed."""

    clock: Clock
    random: Random
    network: Network
    store: Store
    keyring: Keyring
    blobs: Blobs
    executor: Executor
    environments: Environments | None = None
    http: Http | None = None  # none in simulation: there nothing is asked over HTTP
    contacts: OwnersFile | None = None  # contacts.toml
    dht: Dht | None = None
    lan: Lan | None = None


def jitter(random: Random, low: float, high: float) -> float:
    """A number between `low` and `high`: what keeps many nodes from doing the same thing at once."""
    return low + (high - low) * random.fraction()


def backoff(random: Random, *, first_s: float, most_s: float) -> Iterator[float]:
    """Jittered exponential waits: uniform in [half, whole] of first, 2 first, 4 first ... most (AWS, "Exponential Backoff And Jitter")."""
    step = first_s
    while True:
        yield jitter(random, step / 2, step)
        step = min(step * 2, most_s)
