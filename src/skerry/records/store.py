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
from pathlib import Path
from typing import Any

from skerry.errors import Code, StorageError
from skerry.ports import Row

SCHEMA_VERSION = 2
APPLICATION_ID = 0x536B7279  # "Skry": tells our file from any other program's SQLite database
SEQ_LEASE = 10_000  # numbers reserved by one FULL commit (0.2 ms); a restart skips at most so many out of 2^63
BUSY_TIMEOUT_MS = 250  # a process that is just ending may hold the lock for a moment; the event loop waits meanwhile

_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE facts (space TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID",
    """CREATE TABLE records (seq INTEGER PRIMARY KEY, author BLOB NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, stamp INTEGER NOT NULL,
       expires INTEGER NOT NULL, hash BLOB NOT NULL, signed BLOB NOT NULL, tombstone INTEGER NOT NULL,
       formation BLOB NOT NULL DEFAULT x'')""",
    "CREATE UNIQUE INDEX records_by_identity ON records (formation, author, kind, name)",
    "CREATE INDEX records_by_kind ON records (formation, kind, name, author)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
# From each older format to the next one.
_MIGRATIONS = {
    1: (  # records of other formations came to lie beside the home's own
        "ALTER TABLE records ADD COLUMN formation BLOB NOT NULL DEFAULT x''",
        "DROP INDEX records_by_identity",
        "DROP INDEX records_by_kind",
        "CREATE UNIQUE INDEX records_by_identity ON records (formation, author, kind, name)",
        "CREATE INDEX records_by_kind ON records (formation, kind, name, author)",
        "PRAGMA user_version = 2",
    ),
}
_COLUMNS = "author, kind, name, stamp, expires, hash, signed, tombstone, seq, formation"
_PUT = f"INSERT OR REPLACE INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM records WHERE formation = ? AND author = ? AND kind = ? AND name = ?"
_GET = f"SELECT {_COLUMNS} FROM records WHERE formation = ? AND author = ? AND kind = ? AND name = ?"
_SINCE = (
    f"SELECT {_COLUMNS} FROM records WHERE seq > ? AND +formation = ? ORDER BY seq LIMIT ?"  # "+": by the order of seq, never by an index
)
_OF_KIND = f"SELECT {_COLUMNS} FROM records WHERE formation = ? AND kind = ? ORDER BY name, author"
_COUNT = "SELECT count(*) FROM records WHERE formation = ? AND author = ? AND kind = ?"
_FORMATIONS = "SELECT DISTINCT formation FROM records ORDER BY formation"
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
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: its fsync alone does not reach the disk; elsewhere this does nothing
        db.execute("PRAGMA cache_spill = OFF")  # pages reach the disk at a commit only: there is one place where it can be full
        db.execute("PRAGMA temp_store = MEMORY")
        self._keep_a_copy(self._number("PRAGMA user_version"))
        db.execute("BEGIN IMMEDIATE")  # takes the lock that stays, and sees an empty file even if its maker was killed half-way
        try:
            if self._number("PRAGMA user_version") == 0:
                for statement in _SCHEMA:
                    db.execute(statement)
                db.executemany(_SET_META, (("incarnation", incarnation), ("seq_lease_end", 0)))
            while (version := self._number("PRAGMA user_version")) != SCHEMA_VERSION:
                for statement in _MIGRATIONS[version]:
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
        values = (row.author, row.kind, row.name, row.stamp, row.expires, row.hash, row.signed, int(row.tombstone), seq, row.formation)
        self._write(_PUT, values, durable=durable)
        return seq

    def get(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> Row | None:
        rows = self._rows(_GET, formation, author, kind, name)
        return rows[0] if rows else None

    def since(self, seq: int, limit: int, *, formation: bytes = b"") -> list[Row]:
        return self._rows(_SINCE, seq, formation, limit)

    def of_kind(self, kind: str, *, formation: bytes = b"") -> list[Row]:
        return self._rows(_OF_KIND, formation, kind)

    def count(self, author: bytes, kind: str, *, formation: bytes = b"") -> int:
        found: int = self._read(_COUNT, formation, author, kind)[0][0]
        return found

    def delete(self, author: bytes, kind: str, name: str, *, formation: bytes = b"") -> None:
        self._write(_DELETE, (formation, author, kind, name), durable=False)

    def formations(self) -> list[bytes]:
        return [formation for (formation,) in self._read(_FORMATIONS)]

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

    def _write(self, sql: str, values: tuple[Any, ...], *, durable: bool) -> None:
        if durable:
            self._write_through(sql, values)
            return
        try:
            if not self._open_db().in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failure("write to", error, then=self._write_again()) from error
        self._group.append((sql, values))

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
            return "; what was written since the last commit is gone too"
        return ""

    def _write_through(self, sql: str, values: tuple[Any, ...]) -> None:
        """One write, synced. SQLite takes no other sync level inside a transaction, so the open one ends first; the sync covers it too."""
        self.commit()
        try:
            self._db.execute("PRAGMA synchronous = FULL")
            try:
                self._db.execute(sql, values)
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


def _row(
    author: bytes, kind: str, name: str, stamp: int, expires: int, digest: bytes, signed: bytes, tombstone: int, seq: int, formation: bytes
) -> Row:
    return Row(author, kind, name, stamp, expires, digest, signed, bool(tombstone), seq, formation)
