"""Letters that were put aside: kept with the reason, bounded, there again after a restart."""

from __future__ import annotations

import pytest

from skerry.agents.letters import Letter, session_of
from skerry.identity.codec import pack
from skerry.sim.disk import SimDisk
from skerry.wiring import aside as module
from skerry.wiring.aside import SPACE, Aside, Kept, dropped
from skerry.wiring.outbox import Target

HERE = session_of(b"me", "a")
TARGET = Target("ab" * 16, b"n" * 32)


def kept(seq: int, *, taken: bool = False) -> Kept:
    return Kept(Letter(HERE, seq, "alpha", "", pack(["hello", seq])), "no_comms", "it takes no letters", TARGET, 1000 + seq, taken)


def put(aside: Aside, disk: SimDisk, *some: Kept) -> None:
    store = disk._store
    assert store is not None
    store.keep_together(aside.facts(list(some)))
    aside.note(list(some))


def test_what_was_put_aside_is_there_with_its_reason_also_after_a_restart() -> None:
    disk = SimDisk()
    aside = Aside(disk.open())
    put(aside, disk, kept(2), kept(1, taken=True))
    for _ in range(2):
        assert len(aside) == 2
        assert {slip.id for slip in aside.slips()} == {f"{HERE}-1", f"{HERE}-2"}
        assert aside.read(f"{HERE}-2") == kept(2)
        assert aside.counts() == {TARGET.agent: 2}
        assert aside.read("nothing") is None
        aside = Aside(disk.open())
    assert [slip.taken for slip in Aside(disk.open()).slips()] == [True, False], "oldest first"


def test_there_is_an_end_to_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 3)
    disk = SimDisk()
    aside = Aside(disk.open())
    put(aside, disk, kept(1), kept(2))
    put(aside, disk, kept(3), kept(4))
    assert [slip.id for slip in aside.slips()] == [f"{HERE}-{seq}" for seq in (2, 3, 4)]
    put(aside, disk, *(kept(seq) for seq in range(5, 10)))
    assert [slip.id for slip in aside.slips()] == [f"{HERE}-{seq}" for seq in (7, 8, 9)]
    assert [key for key, _ in disk.open().facts(SPACE)] == [f"{HERE}-{seq}" for seq in (7, 8, 9)]


def test_what_is_dropped_is_gone() -> None:
    disk = SimDisk()
    aside = Aside(disk.open())
    put(aside, disk, kept(1), kept(2))
    store = disk._store
    assert store is not None
    store.keep_together([dropped(f"{HERE}-1")])
    aside.forget(f"{HERE}-1")
    assert [slip.id for slip in aside.slips()] == [slip.id for slip in Aside(disk.open()).slips()] == [f"{HERE}-2"]


def test_what_an_older_node_put_aside_is_read() -> None:
    disk = SimDisk()
    letter = kept(7).letter
    old = pack([[letter.session, letter.seq, letter.sender, letter.reply_to, letter.content], "no_comms", "it takes no letters"])
    disk.open().keep_together([(SPACE, "0000000000000007", old)])
    aside = Aside(disk.open())
    (slip,) = aside.slips()
    assert (slip.sender, slip.reason, slip.target.agent) == ("alpha", "it takes no letters", "")
    read = aside.read(slip.id)
    assert read is not None
    assert read.letter == letter
