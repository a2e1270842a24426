"""The SQLite file: who may read it, what is refused, what a durable write does, and that no question reads the whole table."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.errors import Code, StorageError
from skerry.ports import Row
from skerry.records import store as module
from skerry.records.store import PAGE_BYTES, SEQ_LEASE, SqliteStore


def row(name: str, *, size_bytes: int = 100) -> Row:
    return Row(b"a" * 32, "agent", name, 1, 2, b"h" * 32, b"s" * size_bytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


def refusal(path: Path) -> StorageError:
    with pytest.raises(StorageError) as caught:
        SqliteStore(path)
    assert str(path) in caught.value.message, "the file is named"
    assert caught.value.hint, "the next step is named"
    return caught.value


# --- the file ---------------------------------------------------------------------------------------------------------------------


def test_nobody_else_can_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        store.put(row("a"), durable=True)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"records.db": 0o600, "records.db-wal": 0o600}
    store.close()


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    SqliteStore(path).close()
    path.chmod(0o644)
    SqliteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_name_of_a_new_file_may_be_given_and_then_stays(path: Path) -> None:
    for asked in ("first", "second"):
        store = SqliteStore(path, incarnation=asked)
        assert store.incarnation == "first"
        store.close()


def test_a_file_whose_making_was_cut_short_is_made(path: Path) -> None:
    path.touch()
    store = SqliteStore(path)
    assert store.put(row("a")) == 1
    store.close()


def test_a_second_owner_is_refused_and_the_first_goes_on(path: Path) -> None:
    store = SqliteStore(path)
    assert "locked" in refusal(path).message
    store.put(row("a"), durable=True)
    store.close()
    SqliteStore(path).close()


def test_a_newer_format_is_refused_untouched(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    assert "newer" in refusal(path).message
    assert path.read_bytes() == before


def test_an_older_format_is_copied_and_brought_up_to_date(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    with sqlite3.connect(path) as db:  # as format 1 was
        db.execute("DROP TABLE records")
        db.execute(
            """CREATE TABLE records (seq INTEGER PRIMARY KEY, author BLOB NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
            stamp INTEGER NOT NULL, expires INTEGER NOT NULL, hash BLOB NOT NULL, signed BLOB NOT NULL, tombstone INTEGER NOT NULL)"""
        )
        db.execute("CREATE UNIQUE INDEX records_by_identity ON records (author, kind, name)")
        db.execute("CREATE INDEX records_by_kind ON records (kind, name, author)")
        db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (5, b"a" * 32, "agent", "old", 1, 2, b"h", b"signed", 0))
        db.execute("PRAGMA user_version = 1")
    db.close()
    copy = path.with_name("records.db.v1")
    copy.write_bytes(b"of an upgrade that was cut")
    store = SqliteStore(path)
    (found,) = store.of_kind("agent")
    assert (found.name, found.seq, found.formation) == ("old", 5, b"")
    store.put(found._replace(name="old", formation=b"f" * 32))
    assert store.formations() == [b"", b"f" * 32]
    store.close()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(copy) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT name FROM records").fetchall() == [("old",)]
    db.close()
    before = copy.read_bytes()
    SqliteStore(path).close()
    assert copy.read_bytes() == before, "what is up to date is not copied again"


def tables_of(path: Path) -> list[tuple[str, str]]:
    """Everything that a file is made of, but for the order of its columns."""
    with sqlite3.connect(path) as db:
        made = db.execute("SELECT name, sql FROM sqlite_master WHERE name != 'records' ORDER BY name").fetchall()
        columns = sorted(str(column[1:]) for column in db.execute("PRAGMA table_info(records)"))
    db.close()
    return [(name, " ".join((sql or "").split())) for name, sql in made] + [("records", column) for column in columns]


def as_format_1(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE records DROP COLUMN formation")
    db.execute("CREATE UNIQUE INDEX records_by_identity ON records (author, kind, name)")
    db.execute("CREATE INDEX records_by_kind ON records (kind, name, author)")
    db.execute("PRAGMA user_version = 1")


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_all_formats_become_what_a_new_one_is(path: Path, version: int) -> None:
    new = path.with_name("new.db")
    for one in (new, path):
        SqliteStore(one).close()
    with sqlite3.connect(path) as db:
        for name in ("records_by_stamp", "records_by_expiry", *(("records_by_identity", "records_by_kind") if version == 1 else ())):
            db.execute(f"DROP INDEX IF EXISTS {name}")
        db.execute("DROP TABLE offers")
        if version == 1:
            as_format_1(db)
    db.close()
    assert tables_of(path) != tables_of(new)
    SqliteStore(path).close()
    assert tables_of(path) == tables_of(new)


def test_a_copy_that_can_not_be_written_keeps_the_old_file(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 1")
    db.close()
    path.with_name("records.db.v1").mkdir()
    assert "before it is upgraded" in refusal(path).message
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()


def test_another_programs_database_is_refused_untouched(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()
    before = path.read_bytes()
    assert "another program" in refusal(path).message
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_untouched(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 500)
    assert "not a database" in refusal(path).message
    assert path.read_bytes() == b"Dear diary, " * 500


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere" / "records.db").message


def test_a_folder_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()
    refusal(path)


def test_damage_is_reported_when_it_is_met(path: Path) -> None:
    store = SqliteStore(path)
    for number in range(200):
        store.put(row(str(number)))
    store.close()
    content = bytearray(path.read_bytes())
    content[PAGE_BYTES * 3 :] = b"?" * (len(content) - PAGE_BYTES * 3)
    path.write_bytes(content)
    store = SqliteStore(path)
    with pytest.raises(StorageError, match="damaged") as caught:
        store.since(0, 1000)
    assert "backup" in caught.value.hint
    store.close()


# --- transactions -----------------------------------------------------------------------------------------------------------------


def test_a_durable_write_is_a_transaction_of_its_own_with_full(path: Path) -> None:
    store = SqliteStore(path)
    store.put(row("a"))
    said: list[str] = []
    store._db.set_trace_callback(said.append)
    store.put(row("b"), durable=True)
    store._db.set_trace_callback(None)
    assert [text.split(" (")[0] for text in said] == [
        "COMMIT",
        "PRAGMA synchronous = FULL",
        "INSERT OR REPLACE INTO records",
        "PRAGMA synchronous = NORMAL",
    ]
    assert store._db.execute("PRAGMA synchronous").fetchone() == (1,)
    store.close()


SYNCED = """
import os, sys
sys.path[:] = {path!r}
from dataclasses import replace
from pathlib import Path
from skerry.ports import Row
from skerry.records.store import SqliteStore
def row(name): return Row(bytes(32), "agent", name, 1, 2, bytes(32), bytes(100))
store = SqliteStore(Path({file!r}))
store.put(row("a")); store.commit()
for step in ("put", "commit", "durable put", "put", "durable fact", "end"):
    os.write(2, f"-{{step}}-".encode())
    if step == "put": store.put(row("b"))
    if step == "commit": store.commit()
    if step == "durable put": store.put(row("c"), durable=True)
    if step == "durable fact": store.set_fact("space", "key", b"value", durable=True)
os._exit(0)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows which calls reach the disk, and is not installed")
def test_the_system_is_told_to_sync_by_durable_writes_only(path: Path) -> None:
    program = SYNCED.format(path=sys.path, file=str(path))
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync,write", "-o", str(path.parent / "calls"), sys.executable, "-c", program]
    subprocess.run(command, check=True, stderr=subprocess.PIPE)
    synced: dict[str, int] = {}
    step = "open"
    for line in (path.parent / "calls").read_text().splitlines():
        if 'write(2, "-' in line:
            step = line.split('"-')[1].split('-"')[0]
        elif "sync(" in line:
            synced[step] = synced.get(step, 0) + 1
    synced.pop("open", None)
    assert synced == {"durable put": 1, "durable fact": 1}


@pytest.mark.parametrize("kind", ["records", "facts"])  # SQLite itself treats the two differently
def test_a_full_disk_in_mid_group_spares_what_the_group_wrote_before(path: Path, kind: str) -> None:
    store = SqliteStore(path, max_pages=14)
    written = 0
    with pytest.raises(StorageError) as caught:
        for number in range(1000):
            if kind == "records":
                store.put(row(str(number), size_bytes=500))
            else:
                store.set_fact("space", str(number), bytes(500))
            written += 1
    assert caught.value.code == Code.DISK_FULL
    assert written > 10
    store.commit()
    store.close()
    store = SqliteStore(path)
    assert len(store.since(0, 1000)) + len(store.facts("space")) == written
    store.close()


def test_a_disk_that_is_full_at_the_commit_loses_the_group_and_no_more(path: Path) -> None:
    """The real thing: the kernel refuses to let the file grow, as it does on a full disk."""
    store = SqliteStore(path)
    store.put(row("kept"))
    store.commit()
    given = store.put(row("lost", size_bytes=200_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
        with pytest.raises(StorageError) as caught:
            store.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert str(path) in caught.value.message
    assert store.losses == 1
    assert [found.name for found in store.since(0, 10)] == ["kept"]
    assert store.put(row("next")) > given
    store.commit()
    store.close()
    store = SqliteStore(path)
    assert [found.name for found in store.since(0, 10)] == ["kept", "next"]
    store.close()


# --- numbers ----------------------------------------------------------------------------------------------------------------------


def test_numbers_lost_in_a_power_cut_are_not_given_again(path: Path, tmp_path: Path) -> None:
    """The power cut: the files as they were after the last sync, without the commits since."""
    store = SqliteStore(path)
    store.put(row("synced"), durable=True)
    cut = tmp_path / "cut"
    cut.mkdir()
    for file in (path, path.with_name("records.db-wal")):
        shutil.copy(file, cut)
    for number in range(50):
        store.put(row(str(number)))
        store.commit()
    given = store.last_seq()
    store.close()
    after = SqliteStore(cut / "records.db")
    assert [found.name for found in after.since(0, 100)] == ["synced"]
    assert after.put(row("next")) > given
    after.close()


def test_numbers_run_on_from_lease_to_lease(path: Path) -> None:
    store = SqliteStore(path)
    seqs = [store.put(row("same")) for _ in range(SEQ_LEASE + 5)]
    assert seqs == list(range(1, SEQ_LEASE + 6))
    store.close()
    store = SqliteStore(path)
    assert store.last_seq() == 2 * SEQ_LEASE
    assert store.put(row("same")) == 2 * SEQ_LEASE + 1
    store.close()


# --- questions --------------------------------------------------------------------------------------------------------------------


QUESTIONS = ("_GET", "_AT", "_ENDING", "_NEWEST", "_SINCE", "_OF_KIND", "_COUNT", "_FACT", "_FACTS", "_DELETE", "_DROP_FACT", "_META")


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_is_an_index_look_up(path: Path, question: str) -> None:
    store = SqliteStore(path)
    sql: str = getattr(module, question)
    plan = [step[3] for step in store._db.execute(f"EXPLAIN QUERY PLAN {sql}", (b"",) * sql.count("?"))]
    assert len(plan) == 1, "no sorting besides"
    assert plan[0].startswith("SEARCH ") or "INDEX records_by_stamp" in plan[0]
    store.close()
