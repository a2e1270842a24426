"""What was sent and not handled yet: on the disk, in order, bounded; and numbers that a restored home has to find again."""

from __future__ import annotations

import pytest

from skerry.agents.letters import Letter, session_of
from skerry.errors import Code, Refused, StorageError
from skerry.identity.codec import pack
from skerry.identity.stamps import stamp_at
from skerry.sim.disk import SimDisk
from skerry.wiring import outbox as module
from skerry.wiring.outbox import BELIEVED_MAX, SPACE, Entry, Outbox, Target, forgotten

HERE, THERE = session_of(b"here", "a"), session_of(b"there", "a")
TARGET = Target("ab" * 16, b"n" * 32)
NOW_MS = 1_750_000_000_000


def send(outbox: Outbox, disk: SimDisk, session: str = HERE, *, content: bytes = b"\x01", now_ms: int = NOW_MS) -> Letter:
    """As the node does it: one commit, then it waits."""
    entry = outbox.write(session, TARGET, sender="alpha", reply_to="", content=content, now_ms=now_ms)
    store = disk._store
    assert store is not None
    try:
        store.keep_together(outbox.facts([entry]))
    except StorageError:
        outbox.forgo([entry])
        raise
    outbox.note(entry)
    return entry.letter


def head(outbox: Outbox, session: str = HERE, *, most: int = 100, bytes_max: int = 10_000) -> list[Letter]:
    return outbox.head(session, most=most, bytes_max=bytes_max)


def test_what_was_sent_is_there_after_a_restart_in_its_order() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    sent = [send(outbox, disk), send(outbox, disk, THERE), send(outbox, disk), send(outbox, disk, now_ms=NOW_MS - 5000)]
    assert [one.seq for one in sent] == sorted({one.seq for one in sent}), "also where the clock is set back"
    outbox = Outbox(disk.open())
    assert head(outbox) == [sent[0], sent[2], sent[3]]
    assert head(outbox, THERE) == [sent[1]]
    assert outbox.target(HERE) == TARGET
    assert len(outbox) == 4
    after = send(outbox, disk, now_ms=NOW_MS - 5000)
    assert after.seq > sent[-1].seq


def test_what_a_full_disk_did_not_take_does_not_wait() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    disk.is_full = True
    with pytest.raises(StorageError):
        send(outbox, disk)
    assert len(outbox) == 0
    disk.is_full = False
    sent = send(outbox, disk)
    assert head(Outbox(disk.open())) == [sent]


def test_numbers_rise_also_where_all_was_handled_before_the_restart() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    sent = send(outbox, disk)
    gone = outbox.done(HERE, sent.seq)
    store = disk._store
    assert store is not None
    store.keep_together(forgotten(gone))
    outbox = Outbox(disk.open())
    assert outbox.sessions() == []
    assert send(outbox, disk, now_ms=0).seq > sent.seq


def test_a_batch_is_at_least_one_letter_and_within_its_bounds() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    sent = [send(outbox, disk, content=bytes(size)) for size in (500, 100, 100, 100)]
    assert head(outbox, bytes_max=10) == sent[:1]
    assert head(outbox, bytes_max=700) == sent[:3]
    assert head(outbox, most=2) == sent[:2]
    assert head(outbox, "nothing") == []


def test_only_what_was_handled_goes() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    sent = [send(outbox, disk) for _ in range(3)]
    assert outbox.done(HERE, sent[0].seq - 1) == []
    assert outbox.done(HERE, sent[1].seq) == sent[:2]
    assert outbox.done(THERE, sent[1].seq) == []
    assert outbox.done(HERE, sent[2].seq) == sent[2:]
    assert (outbox.sessions(), len(outbox), outbox._size) == ([], 0, 0)


def test_a_full_session_and_a_full_outbox_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SESSION_LETTERS_MAX", 2)
    monkeypatch.setattr(module, "LETTERS_MAX", 3)
    disk = SimDisk()
    outbox = Outbox(disk.open())
    first = send(outbox, disk)
    send(outbox, disk)
    with pytest.raises(Refused, match="2 letters") as refused:
        outbox.check_room(HERE)
    assert refused.value.code == Code.BUSY
    outbox.check_room(THERE)
    send(outbox, disk, THERE)
    with pytest.raises(Refused):
        outbox.check_room(session_of(b"nobody", "a"))
    outbox.done(HERE, first.seq)
    outbox.check_room(HERE)
    monkeypatch.setattr(module, "SESSION_BYTES_MAX", 1)
    with pytest.raises(Refused):
        outbox.check_room(HERE)


def test_what_handlers_hold_may_go_beyond_the_bounds_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LETTERS_MAX", 2)
    monkeypatch.setattr(module, "BYTES_MAX", 100)
    outbox = Outbox(SimDisk().open())
    outbox.check_held([b"1"] * 4)
    with pytest.raises(Refused, match="handlers") as refused:
        outbox.check_held([b"1"] * 5)
    assert refused.value.code == Code.BUSY
    with pytest.raises(Refused, match="handlers"):
        outbox.check_held([bytes(201)])
    entries = [outbox.write(HERE, TARGET, sender="alpha", reply_to="", content=bytes(40), now_ms=NOW_MS) for _ in range(3)]
    outbox.note(entries[0])
    outbox.check_held([bytes(80)])
    with pytest.raises(Refused, match="handlers"):
        outbox.check_held([bytes(81)])
    with pytest.raises(Refused, match="handlers"):
        outbox.check_held([b"", b""])


def test_what_is_written_takes_its_room_before_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SESSION_LETTERS_MAX", 2)
    monkeypatch.setattr(module, "BYTES_MAX", 100)
    outbox = Outbox(SimDisk().open())
    entries = [outbox.write(HERE, TARGET, sender="alpha", reply_to="", content=bytes(10), now_ms=NOW_MS) for _ in range(2)]
    with pytest.raises(Refused, match="2 letters"):
        outbox.check_room(HERE)
    outbox.note(entries[0])
    with pytest.raises(Refused, match="2 letters"):
        outbox.check_room(HERE)
    outbox.forgo([entries[1]])
    outbox.check_room(HERE)
    large = outbox.write(THERE, TARGET, sender="alpha", reply_to="", content=bytes(95), now_ms=NOW_MS)
    with pytest.raises(Refused):
        outbox.check_room(session_of(b"nobody", "a"))
    outbox.forgo([large])
    outbox.forgo([large, entries[0]])
    assert (outbox._coming, outbox._coming_to, outbox._coming_bytes, outbox._size) == ({}, {}, 0, 10)


def test_what_can_not_be_delivered_makes_room() -> None:
    disk = SimDisk()
    store = disk.open()
    outbox = Outbox(store)
    sent = [send(outbox, disk) for _ in range(4)]
    assert outbox.waiting() == {TARGET.agent: 4}
    gone = outbox.give_up(HERE, most=3)
    store.keep_together(forgotten([entry.letter for entry in gone]))
    assert gone == [Entry(TARGET, letter) for letter in sent[:3]]
    assert head(outbox) == sent[3:]
    assert outbox.oldest(10) == [Entry(TARGET, sent[3])]
    assert len(store.facts(SPACE)) == 1
    assert outbox.waiting() == Outbox(disk.open()).waiting() == {TARGET.agent: 1}


# --- a home that came back from a backup --------------------------------------------------------------------------------------------


def test_letters_behind_a_cursor_that_a_restored_home_forgot_get_places_beyond_it() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    old = send(outbox, disk)
    backup = disk.image()
    newest = send(outbox, disk, now_ms=NOW_MS + 60_000)  # by a clock that was ahead; it is handled over there
    disk.restore(backup)
    store = disk.open()
    outbox = Outbox(store)
    lost = [send(outbox, disk, now_ms=NOW_MS + number) for number in (10, 20)]
    assert lost[-1].seq < newest.seq, "the receiver would take them for what it has handled"
    assert outbox.is_passed(HERE, newest.seq)
    entries, facts = outbox.renumber(HERE, newest.seq)
    store.keep_together(facts)
    outbox.renumbered(HERE, entries)
    waiting = head(outbox)
    assert waiting[0] == old, "what the backup held keeps its number: it may have been handled"
    assert [one.content for one in waiting[1:]] == [one.content for one in lost]
    assert all(one.seq > newest.seq for one in waiting[1:])
    assert not outbox.is_passed(HERE, newest.seq)
    assert outbox.done(HERE, newest.seq) == [old]
    assert head(Outbox(disk.open()))[1:] == waiting[1:]
    assert send(outbox, disk).seq > waiting[-1].seq


def test_a_cursor_that_is_one_of_ours_passes_nothing() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    sent = [send(outbox, disk) for _ in range(3)]
    assert not any(outbox.is_passed(HERE, one.seq) for one in sent)
    assert not outbox.is_passed(HERE, sent[0].seq - 1)
    assert not outbox.is_passed(THERE, sent[0].seq)
    outbox = Outbox(disk.open())
    assert not outbox.is_passed(HERE, sent[2].seq + 5), "all of them are of a former life"
    assert not outbox.is_passed(HERE, BELIEVED_MAX + 1)


def test_a_number_that_no_clock_gave_moves_nothing() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    sent = send(outbox, disk)
    assert not outbox.is_passed(HERE, BELIEVED_MAX + 1)
    assert stamp_at(NOW_MS) <= sent.seq < BELIEVED_MAX
    assert Entry(TARGET, sent).letter.is_sound


def test_a_letter_that_the_disk_damaged_keeps_the_others_and_the_node_from_nothing() -> None:
    disk = SimDisk()
    outbox = Outbox(disk.open())
    sent = [send(outbox, disk) for _ in range(4)]
    store = disk.open()
    keys = [key for key, _ in store.facts(SPACE)]
    unsound = pack([["x", b"n", b""], ["no session", 0, "a", "", b""]])
    store.keep_together([(SPACE, keys[1], b"\xff damaged"), (SPACE, keys[2], unsound)])
    outbox = Outbox(disk.open())
    assert head(outbox) == [sent[0], sent[3]]
    assert len(disk.open().facts(SPACE)) == 4, "and nothing is thrown away"
