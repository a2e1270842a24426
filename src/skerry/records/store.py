"""What a node keeps on disk: records and private facts, in one SQLite file.

One connection, one owner: the file is locked for as long as the node runs, so a second node on the same home is refused when it opens
the store and not when it has already spoiled something. Writes join an open transaction, `commit()` ends it (WAL, synchronous NORMAL:
a killed process loses nothing that was committed, a power cut may lose the last moments but never tears the file). A durable write is
a transaction of its own with synchronous FULL: it is on the disk, with all that went before it, when the call returns.

The rule: **a `seq` is given once.** Peers remember it as their cursor, so a number that named a row which was rolled back, lost in a
power cut or deleted must never name another one. Numbers therefore come from a counter in memory, out of leases: the end of a lease is
written with FULL before the first number of it is used, and a store that opens starts where the last lease ended.

A file of an older format is copied beside itself (`skerry.db.v1`), and then brought up to date in one transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from skerry.errors import Code, StorageError
from skerry.ports import Fact, Row
from skerry.records.schema import APPLICATION_ID, INDEXES, MIGRATIONS, SCHEMA, SCHEMA_VERSION

SEQ_LEASE = 10_000  # numbers reserved by one FULL commit (0.2 ms); a restart skips at most so many out of 2^63
PAGE_BYTES = 8192  # holds ten records; SQLite's own 4096 holds four, and writes a seventh longer
BUSY_TIMEOUT_MS = 250  # a process that is just ending may hold the lock for a moment; the event loop waits meanwhile

_COLUMNS = ", ".join(Row._fields)
_SEQ = Row._fields.index("seq")
_PUT = f"INSERT OR REPLACE INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD = _PUT.replace("OR REPLACE", "OR IGNORE")
_DELETE = "DELETE FROM records WHERE formation = ? AND author = ? AND kind = ? AND name = ?"
_GET = f"SELECT {_COLUMNS} FROM records WHERE formation = ? AND author = ? AND kind = ? AND name = ?"
_SINCE = (
    f"SELECT {_COLUMNS} FROM records WHERE seq > ? AND +formation = ? ORDER BY seq LIMIT ?"  # "+": by the order of seq, never by an index
)
_OF_KIND = f"SELECT {_COLUMNS} FROM records WHERE formation = ? AND kind = ?"
_OF_ONE = f"SELECT {_COLUMNS} FROM records WHERE formation = ? AND author = ? AND kind = ?"
_AT = f"SELECT {_COLUMNS} FROM records WHERE formation = ? AND stamp = ? AND hash = ?"
_BY_AUTHOR = "records INDEXED BY records_by_identity"  # SQLite would take that of stamps, and read what all authors said
_OF_AUTHOR = f"SELECT {_COLUMNS} FROM {_BY_AUTHOR} WHERE formation = ? AND author = ? AND stamp > ? ORDER BY stamp LIMIT ?"
_ENDING = f"SELECT {_COLUMNS} FROM records WHERE formation = ? AND kind = ? AND expires > ? AND expires <= ? ORDER BY expires LIMIT ?"
_NEWEST = "SELECT stamp FROM records WHERE formation = ? ORDER BY stamp DESC LIMIT 1"
_AUTHORS = "SELECT DISTINCT author FROM records WHERE formation = ?"
_COUNT = "SELECT count(*) FROM records WHERE formation = ? AND author = ? AND kind = ? AND tombstone = ?"
_BY_NAME = attrgetter("name", "author")
_FIRST_TOMBSTONE = (
    f"SELECT {_COLUMNS} FROM {_BY_AUTHOR} WHERE formation = ? AND author = ? AND kind = ? AND tombstone = 1 ORDER BY stamp, hash LIMIT 1"
)
_FORMATIONS = "SELECT DISTINCT formation FROM records ORDER BY formation"
_OFFER = "INSERT OR IGNORE INTO offers (formation, capability, agent, author) VALUES (?, ?, ?, ?)"
_WITHDRAW = "DELETE FROM offers WHERE formation = ? AND agent = ? AND author = ?"
_OFFERED = (
    f"SELECT {_COLUMNS.replace('author', 'records.author', 1).replace('formation', 'records.formation')} FROM"
    " (SELECT DISTINCT agent, author AS by FROM offers WHERE formation = ? AND capability >= ? AND capability < ?)"
    " CROSS JOIN records INDEXED BY records_by_identity"  # CROSS: in this order
    " ON records.formation = ? AND records.author = by AND kind = 'agent' AND name = agent"
)
_FACT = "SELECT value FROM facts WHERE space = ? AND key = ?"
_FACTS = "SELECT key, value FROM facts WHERE space = ? ORDER BY key"
_SET_FACT = "INSERT OR REPLACE INTO facts (space, key, value) VALUES (?, ?, ?)"
_DROP_FACT = "DELETE FROM facts WHERE space = ? AND key = ?"
_SET_META = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
_META = "SELECT value FROM meta WHERE key = ?"

_FREE_SPACE = "Free some space on its disk; what was committed before is safe."
_OTHER_NODE = "Another process has it open: stop that node (`skerry down`), or use another --home."
_PUT_BACK = (
    "Stop the node, move the file aside and put back a copy from a backup; without one the node starts empty and "
    "takes the formation's records from its peers."
)
_UPGRADE = "Run the newer Skerry that wrote it, or use another --home."
_OTHER_FILE = "It belongs to another program, or is no database: move it aside, or use another --home."
_LOOK_AT_FILE = "Check that the file and its folder exist, belong to you, can be written, and that the disk is sound."

# SQLite's primary result codes: what became of the file in words, and what to do about it
_FAILURES: dict[int, tuple[str, Code, str]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", Code.DISK_FULL, _FREE_SPACE),
    sqlite3.SQLITE_BUSY: ("the file is locked", Code.STORAGE, _OTHER_NODE),
    sqlite3.SQLITE_LOCKED: ("the file is locked", Code.STORAGE, _OTHER_NODE),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", Code.STORAGE, _PUT_BACK),
    sqlite3.SQLITE_NOTADB: ("the file is not a database", Code.STORAGE, _OTHER_FILE),
}


class SqliteStore:
    """`ports.Store` over one SQLite file. Used from the thread that opened it."""

    def __init__(self, path: Path, *, incarnation: str | None = None, max_pages: int | None = None) -> None:
        """Open the file, or make it (0600).

        incarnation   names a file that is made now; an existing one keeps its own. Random when not given.
        max_pages     the most pages that the database may have: how tests fill the disk
        """
        self._path = path
        self._is_closed = False
        self._losses = 0
        self._group: list[tuple[str, tuple[Any, ...]]] = []  # what the open transaction holds
        self._db = self._connect()
        try:
            self._prepare(incarnation or os.urandom(8).hex())
            if max_pages is not None:
                self._db.execute(f"PRAGMA max_page_count = {max_pages}")
        except sqlite3.Error as error:
            self._db.close()
            raise self._failure("open", error) from error
        except StorageError:
            self._db.close()
            raise

    # --- opening ------------------------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        try:
            # made by us, not by SQLite, so that it is never readable by others, not even for a moment; -wal and -shm take its mode
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.fchmod(handle, 0o600)
            finally:
                os.close(handle)
            return sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
        except OSError as error:
            raise StorageError(f"can't open {self._path}: {error.strerror}", hint=_LOOK_AT_FILE) from error
        except sqlite3.Error as error:
            raise self._failure("open", error) from error

    def _prepare(self, incarnation: str) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._refuse_what_is_not_ours()
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file; before the journal's mode, which writes its first page
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: its fsync alone does not reach the disk; elsewhere this does nothing
        db.execute("PRAGMA cache_spill = OFF")  # pages reach the disk at a commit only: there is one place where it can be full
        db.execute("PRAGMA temp_store = MEMORY")
        self._keep_a_copy(self._number("PRAGMA user_version"))
        db.execute("BEGIN IMMEDIATE")  # takes the lock that stays, and sees an empty file even if its maker was killed half-way
        try:
            if self._number("PRAGMA user_version") == 0:
                for statement in SCHEMA:
                    db.execute(statement)
                db.executemany(_SET_META, (("incarnation", incarnation), ("seq_lease_end", 0)))
            while (version := self._number("PRAGMA user_version")) != SCHEMA_VERSION:
                for statement in MIGRATIONS[version]:
                    db.execute(statement)
            for statement in INDEXES:
                db.execute(statement)
            db.execute("COMMIT")
        finally:
            db.rollback()
        self._incarnation: str = db.execute(_META, ("incarnation",)).fetchone()[0]
        self._seq = self._lease_end = self._number(_META, "seq_lease_end")

    def _keep_a_copy(self, version: int) -> None:
        """A file of an older format stays as it was, beside the one that is brought up to date."""
        if not 0 < version < SCHEMA_VERSION:
            return
        copy = self._path.with_name(f"{self._path.name}.v{version}")
        try:
            copy.unlink(missing_ok=True)  # of an upgrade that was cut: this one is whole
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # made by us: never readable by others
        except OSError as error:
            raise StorageError(f"can't copy {self._path} to {copy} before it is upgraded: {error.strerror}", hint=_LOOK_AT_FILE) from error
        self._db.execute("VACUUM INTO ?", (str(copy),))

    def _refuse_what_is_not_ours(self) -> None:
        version = self._number("PRAGMA user_version")
        owner = self._number("PRAGMA application_id")
        is_empty = self._number("SELECT count(*) FROM sqlite_master") == 0
        if owner != APPLICATION_ID and not (is_empty and owner == version == 0):
            raise StorageError(f"can't open {self._path}: it is another program's database", hint=_OTHER_FILE)
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"can't open {self._path}: a newer Skerry wrote it (format {version}, this one reads up to {SCHEMA_VERSION})", hint=_UPGRADE
            )

    def _number(self, sql: str, *values: str) -> int:
        found = self._db.execute(sql, values).fetchone()[0]
        assert isinstance(found, int)
        return found

    @property
    def incarnation(self) -> str:
        return self._incarnation

    # --- records ------------------------------------------------------------------------------------------------------------------

    def put(self, row: Row, *, durable: bool = False) -> int:
        seq = self._take_seq()
        self._write(_PUT, _values(row, seq), durable=durable)
        return seq

    def add(self, row: Row, *, durable: bool = False) -> int | None:
        seq = self._take_seq()
        return seq if self._write(_ADD, _values(row, seq), durable=durable) else None

    def get(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> Row | None:
        rows = self._rows(_GET, formation, author, kind, name)
        return rows[0] if rows else None

    def since(self, seq: int, limit: int, *, formation: bytes = b"") -> list[Row]:
        return self._rows(_SINCE, seq, formation, limit)

    def of_kind(self, kind: str, *, author: bytes | None = None, formation: bytes = b"") -> list[Row]:
        rows = self._rows(_OF_KIND, formation, kind) if author is None else self._rows(_OF_ONE, formation, author, kind)
        return sorted(rows, key=_BY_NAME)

    def at(self, stamp: int, digest: bytes, *, formation: bytes = b"") -> Row | None:
        rows = self._rows(_AT, formation, stamp, digest)
        return rows[0] if rows else None

    def of_author(self, author: bytes, *, after_stamp: int, limit: int, formation: bytes = b"") -> list[Row]:
        return self._rows(_OF_AUTHOR, formation, author, after_stamp, limit)

    def ending(self, kind: str, *, after_ms: int, until_ms: int, limit: int, formation: bytes = b"") -> list[Row]:
        return self._rows(_ENDING, formation, kind, after_ms, until_ms, limit)

    def newest_stamp(self, *, formation: bytes = b"") -> int:
        found = self._read(_NEWEST, formation)
        return found[0][0] if found else 0

    def authors(self, *, formation: bytes = b"") -> list[bytes]:
        return [author for (author,) in self._read(_AUTHORS, formation)]

    @property
    def losses(self) -> int:
        return self._losses

    def count(self, author: bytes, kind: str, *, tombstone: bool = False, formation: bytes = b"") -> int:
        found: int = self._read(_COUNT, formation, author, kind, int(tombstone))[0][0]
        return found

    def first_tombstone(self, author: bytes, kind: str, *, formation: bytes = b"") -> Row | None:
        rows = self._rows(_FIRST_TOMBSTONE, formation, author, kind)
        return rows[0] if rows else None

    def delete(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> None:
        self._write(_DELETE, (formation, author, kind, name), durable=False)

    def formations(self) -> list[bytes]:
        return [formation for (formation,) in self._read(_FORMATIONS)]

    def set_offers(self, author: bytes, agent: str, capabilities: Sequence[str], *, formation: bytes = b"") -> None:
        self._write(_WITHDRAW, (formation, agent, author), durable=False)
        for capability in capabilities:
            self._write(_OFFER, (formation, capability, agent, author), durable=False)

    def offering(self, low: str, high: str, *, formation: bytes = b"") -> list[Row]:
        return self._rows(_OFFERED, formation, low, high, formation)

    def last_seq(self) -> int:
        return self._seq

    def _take_seq(self) -> int:
        if self._seq == self._lease_end:
            self._write(_SET_META, ("seq_lease_end", self._lease_end + SEQ_LEASE), durable=True)
            self._lease_end += SEQ_LEASE
        self._seq += 1
        return self._seq

    # --- facts --------------------------------------------------------------------------------------------------------------------

    def fact(self, space: str, key: str) -> bytes | None:
        found = self._read(_FACT, space, key)
        return found[0][0] if found else None

    def set_fact(self, space: str, key: str, value: bytes | None, *, durable: bool = False) -> None:
        if value is None:
            self._write(_DROP_FACT, (space, key), durable=durable)
        else:
            self._write(_SET_FACT, (space, key, value), durable=durable)

    def keep_together(self, facts: Sequence[Fact]) -> None:
        self.commit()
        try:
            self._open_db().execute("BEGIN IMMEDIATE")
            for space, key, value in facts:
                if value is None:
                    self._db.execute(_DROP_FACT, (space, key))
                else:
                    self._db.execute(_SET_FACT, (space, key, value))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._db.rollback()
            raise self._failure("write to", error) from error

    def facts(self, space: str) -> list[tuple[str, bytes]]:
        return self._read(_FACTS, space)

    # --- transactions -------------------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make the open transaction last. If that fails, all writes since the last commit are gone."""
        if not self._open_db().in_transaction:
            return
        self._group.clear()
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._db.rollback()
            self._losses += 1
            raise self._failure("commit to", error, then="; what was written since the last commit is gone") from error

    def close(self) -> None:
        if self._is_closed:
            return
        try:
            self.commit()
        finally:
            self._is_closed = True
            self._db.close()

    def _open_db(self) -> sqlite3.Connection:
        if self._is_closed:
            raise StorageError(f"can't use {self._path}: the store is closed", hint="The node has stopped; start it again.")
        return self._db

    def _write(self, sql: str, values: tuple[Any, ...], *, durable: bool) -> int:
        """How many rows it changed."""
        if durable:
            return self._write_through(sql, values)
        try:
            if not self._open_db().in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            changed = self._db.execute(sql, values).rowcount
        except sqlite3.Error as error:
            raise self._failure("write to", error, then=self._write_again()) from error
        self._group.append((sql, values))
        return changed

    def _write_again(self) -> str:
        """On a full disk SQLite takes back the whole transaction after some statements, and after others only the statement. The writes
        before it were accepted: they go in again. Returns what there is to say about it."""
        if self._db.in_transaction or not self._group:
            return ""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for sql, values in self._group:
                self._db.execute(sql, values)
        except sqlite3.Error:
            self._db.rollback()
            self._group.clear()
            self._losses += 1
            return "; what was written since the last commit is gone too"
        return ""

    def _write_through(self, sql: str, values: tuple[Any, ...]) -> int:
        """One write, synced. SQLite takes no other sync level inside a transaction, so the open one ends first; the sync covers it too."""
        self.commit()
        try:
            self._db.execute("PRAGMA synchronous = FULL")
            try:
                return self._db.execute(sql, values).rowcount
            finally:
                self._db.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise self._failure("write to", error) from error

    def _read(self, sql: str, *values: bytes | str | int) -> list[Any]:
        try:
            return self._open_db().execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._failure("read", error) from error

    def _rows(self, sql: str, *values: bytes | str | int) -> list[Row]:
        return [_row(*columns) for columns in self._read(sql, *values)]

    def _failure(self, doing: str, error: sqlite3.Error, *, then: str = "") -> StorageError:
        # sqlite_errorcode is missing where Python itself refuses, before SQLite is asked
        primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        what, code, hint = _FAILURES.get(primary, (str(error), Code.STORAGE, _LOOK_AT_FILE))
        return StorageError(f"can't {doing} {self._path}: {what}{then}", code=code, hint=hint)


def _values(row: Row, seq: int) -> tuple[Any, ...]:
    return (*row[:_SEQ], seq, row.formation)


def _row(
    author: bytes, kind: str, name: str, stamp: int, expires: int, digest: bytes, signed: bytes, tombstone: int, seq: int, formation: bytes
) -> Row:
    return Row(author, kind, name, stamp, expires, digest, signed, bool(tombstone), seq, formation)
