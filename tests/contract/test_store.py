"""What every Store does: SqliteStore here, in a process that is killed, and the simulated one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skerry.errors import Code, StorageError
from skerry.ports import Row, Store
from skerry.records.store import SqliteStore
from skerry.sim.disk import SimDisk
from tests.contract.store_process import StoreProcess

EVE, KIM = b"\x01" * 32, b"\x02" * 32


def row(
    name: str = "here", *, author: bytes = EVE, kind: str = "agent", stamp: int = 1, size_bytes: int = 100, formation: bytes = b""
) -> Row:
    signed = bytes([stamp]) * size_bytes
    return Row(author, kind, name, stamp, stamp + 1000, bytes([stamp]) * 32, signed, tombstone=stamp == 7, formation=formation)


def names(rows: list[Row]) -> list[str]:
    return [found.name for found in rows]


class Disk(Protocol):
    """A disk that outlives its stores."""

    def open(self, *, is_full: bool = False) -> Store:
        """The store of a node that starts; the one before was closed, or has crashed."""
        ...

    def crash(self) -> None: ...

    def end(self) -> None:
        """The test is over."""
        ...


class RealDisk:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.db"
        self.process: StoreProcess | None = None

    def open(self, *, is_full: bool = False) -> Store:
        self.end()
        # a limit below what the file has already means: not one page more
        self.process = StoreProcess(self.path, max_pages=1 if is_full else None)
        return cast("Store", self.process)

    def crash(self) -> None:
        assert self.process is not None
        self.process.kill()

    def end(self) -> None:
        if self.process is not None:
            self.process.stop()


class InMemory:
    def __init__(self, folder: Path) -> None:
        self.disk = SimDisk(incarnation=str(folder))

    def open(self, *, is_full: bool = False) -> Store:
        self.disk.is_full = is_full
        return self.disk.open()

    def crash(self) -> None:
        self.disk.open()

    def end(self) -> None:
        self.disk.open()


DISKS: dict[str, Callable[[Path], Disk]] = {"sqlite": RealDisk, "sim": InMemory}


@pytest.fixture(params=DISKS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    made = DISKS[request.param](tmp_path)
    yield made
    made.end()


def test_a_new_store_is_empty(disk: Disk) -> None:
    store = disk.open()
    assert store.get(EVE, "agent", "here") is None
    assert store.since(0, 10) == store.of_kind("agent") == []
    assert store.facts("tickets") == []
    assert store.count(EVE, "agent") == store.last_seq() == 0
    assert store.fact("tickets", "a") is None


def test_a_row_comes_back_as_it_went_in_with_its_number(disk: Disk) -> None:
    store = disk.open()
    told = row("here", stamp=7)
    seq = store.put(told)
    assert seq == store.last_seq() > 0
    assert store.get(EVE, "agent", "here") == told._replace(seq=seq)


def test_replacing_gives_a_new_number_and_one_row(disk: Disk) -> None:
    store = disk.open()
    first, other = store.put(row("here", stamp=1)), store.put(row("there"))
    second = store.put(row("here", stamp=2))
    assert first < other < second
    assert names(store.since(0, 10)) == ["there", "here"]
    assert store.count(EVE, "agent") == 2


def test_since_gives_pages_in_order(disk: Disk) -> None:
    store = disk.open()
    seqs = [store.put(row(str(number))) for number in range(10)]
    page = store.since(seqs[2], 3)
    assert names(page) == ["3", "4", "5"]
    assert names(store.since(page[-1].seq, 100)) == ["6", "7", "8", "9"]
    assert store.since(store.last_seq(), 10) == []


def test_a_kind_is_ordered_by_name_then_author(disk: Disk) -> None:
    store = disk.open()
    for name, author in (("b", EVE), ("a", KIM), ("ä", EVE), ("a", EVE)):
        store.put(row(name, author=author))
    store.put(row("a", kind="node"))
    assert [(found.name, found.author) for found in store.of_kind("agent")] == [("a", EVE), ("a", KIM), ("b", EVE), ("ä", EVE)]
    assert names(store.of_kind("node")) == ["a"]
    assert [(found.name, found.author) for found in store.of_kind("agent", author=EVE)] == [("a", EVE), ("b", EVE), ("ä", EVE)]
    assert names(store.of_kind("node", author=KIM)) == names(store.of_kind("agent", author=EVE, formation=KIM)) == []


def test_count_is_by_author_and_kind(disk: Disk) -> None:
    store = disk.open()
    for name, author, kind in (("a", EVE, "agent"), ("b", EVE, "agent"), ("a", EVE, "node"), ("a", KIM, "agent")):
        store.put(row(name, author=author, kind=kind))
    store.delete(EVE, "agent", "b")
    store.delete(EVE, "agent", "never there")
    assert (store.count(EVE, "agent"), store.count(EVE, "node"), store.count(KIM, "agent"), store.count(KIM, "node")) == (1, 1, 1, 0)


def test_tombstones_are_counted_apart_and_the_first_said_is_found(disk: Disk) -> None:
    store = disk.open()
    for name, stamp, tombstone in (("a", 1, False), ("b", 3, True), ("c", 2, True), ("d", 9, True)):
        store.put(row(name, stamp=stamp)._replace(tombstone=tombstone))
    store.put(row("other", author=KIM, stamp=1)._replace(tombstone=True))
    assert (store.count(EVE, "agent"), store.count(EVE, "agent", tombstone=True)) == (1, 3)
    first = store.first_tombstone(EVE, "agent")
    assert first is not None
    assert first.name == "c"
    store.put(row("c", stamp=10))
    assert (store.count(EVE, "agent"), store.count(EVE, "agent", tombstone=True)) == (2, 2)
    assert store.first_tombstone(EVE, "node") is None


def test_what_agents_offer_is_found_by_capability(disk: Disk) -> None:
    store = disk.open()
    for name, author in (("a", EVE), ("a", KIM), ("b", EVE)):
        store.put(row(name, author=author))
    store.set_offers(EVE, "a", ["x:1", "x:2", "x:2"])
    store.set_offers(KIM, "a", ["x:2"])
    store.set_offers(EVE, "never there", ["x:2"])
    assert sorted(found.author for found in store.offering("x:2", "x:2\0")) == sorted([EVE, KIM])
    assert len(store.offering("x:", "x:\U0010ffff")) == 2, "each once"
    store.commit()
    store.set_offers(EVE, "a", ["y"])
    disk.crash()
    store = disk.open()
    assert [found.author for found in store.offering("x:1", "x:1\0")] == [EVE], "it goes and comes with the records"
    store.set_offers(EVE, "a", [])
    store.delete(KIM, "agent", "a")
    assert store.offering("", "\U0010ffff") == []


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_added_never_replaces(disk: Disk, durable: bool) -> None:
    store = disk.open()
    first = store.put(row("here", stamp=1))
    assert store.add(row("here", stamp=2), durable=durable) is None
    found = store.get(EVE, "agent", "here")
    assert found is not None
    assert (found.stamp, found.seq) == (1, first)
    added = store.add(row("there", stamp=2), durable=durable)
    assert added == store.last_seq()
    assert added > first
    assert names(store.since(0, 10)) == ["here", "there"]


def test_a_row_is_found_by_stamp_and_hash_as_long_as_it_stands(disk: Disk) -> None:
    store = disk.open()
    store.put(row("one", stamp=2))
    store.put(row("two", stamp=2)._replace(hash=b"\x09" * 32))
    found = store.at(2, b"\x09" * 32)
    assert found is not None
    assert found.name == "two"
    store.put(row("two", stamp=3))
    assert store.at(2, b"\x09" * 32) is None
    store.delete(EVE, "agent", "one")
    assert store.at(2, b"\x02" * 32) is None


def test_what_an_author_said_later_comes_in_order_and_in_pages(disk: Disk) -> None:
    store = disk.open()
    for name, stamp in (("c", 3), ("a", 1), ("b", 2), ("d", 4)):
        store.put(row(name, stamp=stamp))
    store.put(row("x", author=KIM, stamp=5))
    assert names(store.of_author(EVE, after_stamp=1, limit=9)) == ["b", "c", "d"]
    assert names(store.of_author(EVE, after_stamp=1, limit=2)) == ["b", "c"]


def test_the_newest_stamp_and_all_authors(disk: Disk) -> None:
    store = disk.open()
    assert (store.newest_stamp(), store.authors()) == (0, [])
    for name, author, stamp in (("a", EVE, 3), ("b", KIM, 9), ("c", EVE, 4)):
        store.put(row(name, author=author, stamp=stamp))
    assert (store.newest_stamp(), sorted(store.authors())) == (9, [EVE, KIM])
    store.delete(KIM, "agent", "b")
    assert (store.newest_stamp(), store.authors()) == (4, [EVE])


def test_what_ends_comes_in_the_order_in_which_it_ends(disk: Disk) -> None:
    store = disk.open()
    for name, stamp in (("c", 3), ("a", 1), ("b", 2)):  # they expire at 1000 and their stamp
        store.put(row(name, stamp=stamp))
    store.put(row("other", kind="node", stamp=2))
    assert names(store.ending("agent", after_ms=0, until_ms=5000, limit=9)) == ["a", "b", "c"]
    assert names(store.ending("agent", after_ms=1001, until_ms=1002, limit=9)) == ["b"]
    assert names(store.ending("agent", after_ms=0, until_ms=5000, limit=2)) == ["a", "b"]
    store.put(row("a", stamp=9))
    store.delete(EVE, "agent", "b")
    assert names(store.ending("agent", after_ms=0, until_ms=1008, limit=9)) == ["c"]


def test_formations_lie_apart(disk: Disk) -> None:
    store = disk.open()
    assert store.formations() == []
    store.put(row("a"))
    store.put(row("a", formation=KIM))
    store.put(row("b", formation=KIM))
    store.put(row("c", formation=EVE))
    assert store.formations() == [b"", EVE, KIM]
    assert names(store.of_kind("agent")) == ["a"]
    assert names(store.of_kind("agent", formation=KIM)) == ["a", "b"]
    assert names(store.since(0, 10)) == ["a"]
    assert names(store.since(0, 1, formation=EVE)) == ["c"], "what lies elsewhere takes no place in a page"
    assert (store.count(EVE, "agent"), store.count(EVE, "agent", formation=KIM)) == (1, 2)
    assert store.get(EVE, "agent", "b") is None
    there = store.get(EVE, "agent", "b", formation=KIM)
    assert there is not None
    assert there.formation == KIM
    store.delete(EVE, "agent", "a", formation=KIM)
    assert store.get(EVE, "agent", "a") is not None, "the other one of that name stays"
    store.delete(EVE, "agent", "b", formation=KIM)
    assert store.formations() == [b"", EVE]
    store.close()
    assert disk.open().formations() == [b"", EVE]


def test_each_question_is_put_to_one_formation(disk: Disk) -> None:
    store = disk.open()
    store.put(row("ours", stamp=3))
    store.put(row("gone", stamp=7))
    for name, author, stamp in (("ours", EVE, 9), ("theirs", KIM, 4), ("gone", EVE, 7), ("gone too", EVE, 7)):
        assert store.add(row(name, author=author, stamp=stamp, formation=KIM)) is not None, (
            "that of another formation does not stand in its way"
        )
    assert store.add(row("theirs", author=KIM, formation=KIM)) is None
    assert (store.newest_stamp(), store.newest_stamp(formation=KIM), store.newest_stamp(formation=EVE)) == (7, 9, 0)
    assert (store.authors(), sorted(store.authors(formation=KIM)), store.authors(formation=EVE)) == ([EVE], [EVE, KIM], [])
    assert names(store.of_author(EVE, after_stamp=0, limit=9)) == ["ours", "gone"]
    assert sorted(names(store.of_author(EVE, after_stamp=0, limit=9, formation=KIM))) == ["gone", "gone too", "ours"]
    assert names(store.ending("agent", after_ms=0, until_ms=5000, limit=9)) == ["ours", "gone"]
    assert names(store.ending("agent", after_ms=0, until_ms=1004, limit=9, formation=KIM)) == ["theirs"]
    assert store.at(4, b"\x04" * 32) is None
    found = store.at(4, b"\x04" * 32, formation=KIM)
    assert found is not None
    assert (found.name, found.formation) == ("theirs", KIM)
    assert [store.count(EVE, "agent", tombstone=gone, formation=of) for of in (b"", KIM) for gone in (False, True)] == [1, 1, 1, 2]
    first = store.first_tombstone(EVE, "agent", formation=KIM)
    assert first is not None
    assert first.formation == KIM
    assert store.first_tombstone(EVE, "agent", formation=EVE) is None


def test_what_agents_of_another_formation_offer_is_not_ours(disk: Disk) -> None:
    store = disk.open()
    for formation in (b"", KIM):
        store.put(row("a", formation=formation))
    store.set_offers(EVE, "a", ["x:1"], formation=KIM)
    assert store.offering("x:1", "x:1\0") == []
    assert [found.formation for found in store.offering("x:1", "x:1\0", formation=KIM)] == [KIM]
    store.set_offers(EVE, "a", ["x:2"])
    store.set_offers(EVE, "a", [], formation=KIM)
    assert store.offering("", "\U0010ffff", formation=KIM) == []
    assert [found.formation for found in store.offering("x:2", "x:2\0")] == [b""]


def test_facts_are_kept_by_space_and_ordered_by_key(disk: Disk) -> None:
    store = disk.open()
    for key in ("b", "a", "c"):
        store.set_fact("tickets", key, key.encode())
    store.set_fact("peers", "a", b"elsewhere")
    store.set_fact("tickets", "b", None)
    store.set_fact("tickets", "a", b"newer")
    assert store.facts("tickets") == [("a", b"newer"), ("c", b"c")]
    assert store.fact("peers", "a") == b"elsewhere"
    assert store.fact("tickets", "b") is None


def test_a_crash_leaves_the_last_commit(disk: Disk) -> None:
    store = disk.open()
    store.put(row("kept"))
    store.set_fact("space", "kept", b"1")
    store.commit()
    store.put(row("kept", stamp=2))
    store.put(row("lost"))
    store.set_fact("space", "kept", None)
    store.set_fact("space", "lost", b"1")
    disk.crash()
    store = disk.open()
    assert [(found.name, found.stamp) for found in store.since(0, 10)] == [("kept", 1)]
    assert store.facts("space") == [("kept", b"1")]


def test_a_durable_write_takes_what_went_before_with_it(disk: Disk) -> None:
    store = disk.open()
    store.put(row("before"))
    store.put(row("revoked"), durable=True)
    store.put(row("after"))
    disk.crash()
    store = disk.open()
    assert names(store.since(0, 10)) == ["before", "revoked"]
    store.put(row("again"))
    store.set_fact("space", "key", b"1", durable=True)
    disk.crash()
    assert names(disk.open().since(0, 10)) == ["before", "revoked", "again"]


def test_closing_commits(disk: Disk) -> None:
    store = disk.open()
    store.put(row("kept"))
    store.close()
    store.close()
    assert names(disk.open().since(0, 10)) == ["kept"]


@pytest.mark.parametrize("is_crash", [False, True])
def test_no_number_is_given_twice(disk: Disk, is_crash: bool) -> None:
    """A peer may hold the number of a row that was deleted, or lost before its commit, as its cursor."""
    store = disk.open()
    store.put(row("first"), durable=True)
    store.put(row("last"))
    store.delete(EVE, "agent", "last")
    given = store.put(row("uncommitted"))
    if is_crash:
        disk.crash()
    else:
        store.delete(EVE, "agent", "uncommitted")
        store.close()
    store = disk.open()
    assert store.last_seq() >= given
    assert store.put(row("next")) > given


def test_a_store_keeps_its_name_and_others_have_another(disk: Disk, tmp_path: Path) -> None:
    name = disk.open().incarnation
    disk.crash()
    assert disk.open().incarnation == name
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = type(disk)(elsewhere)  # type: ignore[call-arg] # both kinds take the folder
    assert other.open().incarnation != name
    other.crash()


def test_a_full_disk_refuses_and_keeps_what_it_had(disk: Disk) -> None:
    store = disk.open()
    store.put(row("old", stamp=1))
    store.close()
    store = disk.open(is_full=True)
    written: list[str] = []
    with pytest.raises(StorageError) as refusal:
        for number in range(100):
            store.put(row(f"new{number}", size_bytes=1000))
            written.append(f"new{number}")
    assert refusal.value.code == Code.DISK_FULL
    assert refusal.value.hint
    assert names(store.since(0, 1000)) == ["old", *written]
    with pytest.raises(StorageError) as refusal:
        store.put(row("old", stamp=2, size_bytes=20_000), durable=True)
    assert refusal.value.code == Code.DISK_FULL
    kept = store.get(EVE, "agent", "old")
    assert kept is not None
    assert kept.stamp == 1, "the row that could not be replaced is the old one still"
    store.close()
    store = disk.open()
    store.put(row("old", stamp=2, size_bytes=20_000), durable=True)
    assert names(store.since(0, 1000)) == [*written, "old"]


def test_a_closed_store_says_so(disk: Disk) -> None:
    store = disk.open()
    store.close()
    if isinstance(disk, RealDisk):  # the process of a closed store has ended: asked here, in this one
        assert disk.process is not None
        disk.process.kill()
        store = SqliteStore(disk.path)
        store.close()
    for attempt in (lambda: store.get(EVE, "agent", "a"), lambda: store.put(row()), lambda: store.set_fact("a", "b", b"c")):
        with pytest.raises(StorageError, match="closed"):
            attempt()


AUTHORS = st.sampled_from([EVE, KIM])
KINDS = st.sampled_from(["agent", "node"])
NAMES = st.sampled_from(["", "a", "b", "ä", "\U0001f5fb"])
IDENTITY = st.tuples(AUTHORS, KINDS, NAMES)
KEYS = st.sampled_from(["x", "y", "é"])


class StoreMachine(RuleBasedStateMachine):
    """A store against two dicts: what it shows, and what was there at the last commit."""

    kind = "sim"

    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        self.disk = DISKS[self.kind](Path(self.folder.name))
        self.store: Store = self.disk.open()
        self.rows: dict[tuple[bytes, str, str], Row] = {}
        self.facts: dict[tuple[str, str], bytes] = {}
        self.last_seq = 0
        self.keep()

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self.disk.end()
            self.folder.cleanup()

    def keep(self) -> None:
        self.kept_rows, self.kept_facts = dict(self.rows), dict(self.facts)

    @rule(identity=IDENTITY, stamp=st.integers(0, 2**62), signed=st.binary(max_size=40), tombstone=st.booleans(), durable=st.booleans())
    def put(self, identity: tuple[bytes, str, str], stamp: int, signed: bytes, tombstone: bool, durable: bool) -> None:
        told = Row(*identity, stamp, stamp, b"h" * 32, signed, tombstone)
        seq = self.store.put(told, durable=durable)
        assert seq > self.last_seq
        self.last_seq = seq
        self.rows[identity] = told._replace(seq=seq)
        if durable:
            self.keep()

    @rule(identity=IDENTITY, stamp=st.integers(0, 2**62), tombstone=st.booleans(), durable=st.booleans())
    def add(self, identity: tuple[bytes, str, str], stamp: int, tombstone: bool, durable: bool) -> None:
        told = Row(*identity, stamp, stamp, b"h" * 32, b"added", tombstone)
        seq = self.store.add(told, durable=durable)
        assert (seq is None) == (identity in self.rows)
        if seq is not None:
            assert seq > self.last_seq
            self.last_seq = seq
            self.rows[identity] = told._replace(seq=seq)
        if durable:
            self.keep()

    @rule(identity=IDENTITY)
    def delete(self, identity: tuple[bytes, str, str]) -> None:
        self.store.delete(*identity)
        self.rows.pop(identity, None)

    @rule(key=KEYS, value=st.none() | st.binary(max_size=10), durable=st.booleans())
    def set_fact(self, key: str, value: bytes | None, durable: bool) -> None:
        self.store.set_fact("space", key, value, durable=durable)
        if value is None:
            self.facts.pop(("space", key), None)
        else:
            self.facts["space", key] = value
        if durable:
            self.keep()

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.keep()

    @rule()
    def crash(self) -> None:
        self.disk.crash()
        self.store = self.disk.open()
        self.rows, self.facts = dict(self.kept_rows), dict(self.kept_facts)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.disk.open()
        self.keep()

    @invariant()
    def shows_what_the_model_has(self) -> None:
        if not hasattr(self, "store"):
            return
        ordered = sorted(self.rows.values(), key=lambda found: found.seq)
        assert self.store.since(0, 1000) == ordered
        middle = self.last_seq // 2
        assert self.store.since(middle, 2) == [found for found in ordered if found.seq > middle][:2]
        for kind in ("agent", "node"):
            of_kind = [found for found in ordered if found.kind == kind]
            assert self.store.of_kind(kind) == sorted(of_kind, key=lambda found: (found.name, found.author))
            for author in (EVE, KIM):
                said = sorted((found for found in of_kind if found.author == author), key=lambda found: found.name)
                assert self.store.of_kind(kind, author=author) == said
                gone = [found.tombstone for found in of_kind if found.author == author]
                assert self.store.count(author, kind, tombstone=True) == sum(gone)
                assert self.store.count(author, kind) == len(gone) - sum(gone)
        for identity, found in self.rows.items():
            assert self.store.get(*identity) == found
        assert self.store.facts("space") == sorted((key, value) for (_, key), value in self.facts.items())
        assert self.store.last_seq() >= self.last_seq


class SqliteMachine(StoreMachine):
    """The same over a process that really is killed."""

    kind = "sqlite"


TestSimMachine = StoreMachine.TestCase
TestSqliteMachine = SqliteMachine.TestCase
# each crash and restart starts a process, 0.07 s
TestSqliteMachine.settings = settings(max_examples=max(8, settings().max_examples // 50), stateful_step_count=20)


def test_what_is_kept_together_is_there_at_once_with_what_went_before(disk: Disk) -> None:
    store = disk.open()
    store.set_fact("state", "old", b"1")
    store.set_fact("outbox", "gone", b"1")
    store.keep_together([("state", "a", b"2"), ("cursors", "s", b"3"), ("outbox", "gone", None), ("outbox", "x", b"4")])
    disk.crash()
    store = disk.open()
    assert store.facts("state") == [("a", b"2"), ("old", b"1")]
    assert store.facts("cursors") == [("s", b"3")]
    assert store.facts("outbox") == [("x", b"4")]
    store.keep_together([])
    store.keep_together([("state", "a", None), ("state", "a", b"5")])
    assert store.fact("state", "a") == b"5", "in their order"


def test_a_full_disk_takes_all_of_what_belongs_together_or_nothing(disk: Disk) -> None:
    store = disk.open()
    store.keep_together([("state", "a", b"before"), ("cursors", "s", b"1")])
    store.close()
    store = disk.open(is_full=True)
    with pytest.raises(StorageError) as full:
        store.keep_together([("state", "a", b"after"), ("cursors", "s", b"2"), ("outbox", "x", bytes(200_000))])
    assert full.value.code == Code.DISK_FULL
    assert store.fact("state", "a") == b"before"
    assert store.fact("cursors", "s") == b"1"
    assert store.facts("outbox") == []
    disk.crash()
    store = disk.open()
    assert store.fact("state", "a") == b"before"
    store.keep_together([("state", "a", b"after"), ("cursors", "s", b"2"), ("outbox", "x", bytes(200_000))])
    disk.crash()
    store = disk.open()
    assert (store.fact("state", "a"), store.fact("cursors", "s")) == (b"after", b"2")
    assert len(store.facts("outbox")) == 1


def test_what_a_closed_store_is_to_keep_together_is_refused(disk: Disk) -> None:
    store = disk.open()
    store.close()
    with pytest.raises(StorageError):
        store.keep_together([("state", "a", b"1")])
