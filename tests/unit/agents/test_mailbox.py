"""What an agent was sent: each letter once, in order for each session, bounded; also after any sequence of failures and repeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.agents.letters import ADDRESS_CHARACTERS_MAX, LETTER_BYTES_MAX, SEQ_MAX, Letter, session_of, shown_session
from skerry.agents.mailbox import BYTES_MAX, LETTERS_MAX, PASSING_MS, SESSIONS_MAX, TRIES_MAX, Cursor, Mailbox
from skerry.errors import Code, Refused, StorageError

NOW_MS = 1_750_000_000_000
HERE, THERE = session_of(b"here", "a"), session_of(b"there", "a")
URGENT = session_of(b"here", "a", urgent=True)


def letter(seq: int, session: str = HERE, *, content: bytes = b"\x01", sender: str = "alpha", reply_to: str = "") -> Letter:
    return Letter(session, seq, sender, reply_to, content)


def letters(*seqs: int, session: str = HERE) -> list[Letter]:
    return [letter(seq, session) for seq in seqs]


def seqs(found: list[Letter]) -> list[int]:
    return [one.seq for one in found]


def test_what_comes_again_is_taken_once() -> None:
    box = Mailbox("a", [])
    box.take(letters(1, 2))
    box.take(letters(1, 2, 3))
    assert seqs(box.next(10)) == [1, 2, 3]
    box.take(letters(3))
    assert box.next(10) == [], "it is being handled"
    box.handled(letters(1, 2, 3), now_ms=5)
    box.take(letters(1, 2, 3))
    assert box.next(10) == [], "it was handled"
    assert (len(box), box.size_bytes) == (0, 0)


def test_a_cursor_that_was_kept_says_what_was_handled() -> None:
    first = Mailbox("a", [])
    first.take(letters(1, 2))
    kept = first.after(letters(1, 2), now_ms=7)
    assert first.cursor(HERE) == 0, "nothing changes before it is on the disk"
    again = Mailbox("a", kept)
    assert again.cursor(HERE) == 2
    again.take(letters(1, 2, 3))
    assert seqs(again.next(10)) == [3]
    assert Cursor.from_bytes(kept[0][1]) == Cursor(2, 7)


def test_what_interrupts_comes_first_and_sessions_do_not_wait_for_each_other() -> None:
    box = Mailbox("a", [])
    box.take(letters(1, 2))
    box.take(letters(9, session=THERE))
    box.take(letters(5, session=URGENT))
    assert [(one.session, one.seq) for one in box.next(10)] == [(URGENT, 5), (HERE, 1), (HERE, 2), (THERE, 9)]
    assert shown_session(URGENT) == HERE


def test_what_is_put_back_keeps_its_place() -> None:
    box = Mailbox("a", [])
    box.take(letters(1, 2, 3))
    box.take(letters(5, session=URGENT))
    batch = box.next(3)
    box.take(letters(6, session=URGENT))
    box.put_back(batch)
    assert [one.seq for one in box.next(10)] == [5, 6, 1, 2, 3]


def test_one_that_failed_goes_alone_until_its_last_try() -> None:
    box = Mailbox("a", [])
    box.take(letters(1, 2, 3))
    batch = box.next(10)
    assert not box.failed(batch[1], now_ms=NOW_MS)
    box.put_back(batch)
    assert seqs(box.next(10)) == [1]
    box.handled(letters(1), now_ms=0)
    for _ in range(TRIES_MAX - 2):
        (bad,) = box.next(10)
        assert bad.seq == 2
        assert not box.failed(bad, now_ms=NOW_MS)
        box.put_back([bad])
    (bad,) = box.next(10)
    assert box.failed(bad, now_ms=NOW_MS)
    box.handled([bad], now_ms=0)
    assert seqs(box.next(10)) == [3]
    box.handled(letters(3), now_ms=0)
    assert box._tries == {}
    assert box._came == {}


def test_one_that_lacks_somebody_else_is_tried_for_as_long_as_that_may_take() -> None:
    box = Mailbox("a", [])
    box.take(letters(1, 2, 3))
    batch = box.next(10)
    for after_ms in (0, 100, PASSING_MS - 1):
        assert not box.failed(batch[1], now_ms=NOW_MS + after_ms, passing=True)
    box.put_back(batch)
    assert seqs(box.next(10)) == [1]
    box.handled(letters(1), now_ms=0)
    (lacks,) = box.next(10)
    assert not box.failed(lacks, now_ms=NOW_MS + PASSING_MS), "its own fault, the first time"
    assert box.failed(lacks, now_ms=NOW_MS + PASSING_MS, passing=True)


def test_too_many_and_too_large_are_refused_whole() -> None:
    box = Mailbox("a", [])
    box.take(letters(*range(1, LETTERS_MAX + 1)))
    with pytest.raises(Refused, match="'a' already") as refused:
        box.take(letters(1, session=THERE))
    assert refused.value.code == Code.BUSY
    box.take(letters(5))  # what waits already is no more of it
    box = Mailbox("a", [])
    large = [letter(seq, content=bytes(LETTER_BYTES_MAX)) for seq in range(1, BYTES_MAX // LETTER_BYTES_MAX + 2)]
    with pytest.raises(Refused):
        box.take(large)
    assert (len(box), box.size_bytes) == (0, 0)
    box.take(large[:-1])


def test_sessions_that_nobody_uses_are_forgotten_the_oldest_first() -> None:
    box = Mailbox("a", [(f"{number:032x}", Cursor(1, 100 + number).to_bytes()) for number in range(SESSIONS_MAX + 2)])
    waits = f"{0:032x}"
    box.take([letter(2, waits)])
    assert box.surplus() == [f"{1:032x}", f"{2:032x}"], "where something waits the cursor stays"
    assert box.surplus() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": "x" * 32},
        {"session": HERE + "!!"},
        {"session": HERE * 2},
        {"seq": 0},
        {"seq": -1},
        {"seq": SEQ_MAX + 1},
        {"content": bytes(LETTER_BYTES_MAX + 1)},
        {"sender": "x" * (ADDRESS_CHARACTERS_MAX + 1)},
        {"reply_to": "x" * (ADDRESS_CHARACTERS_MAX + 1)},
    ],
)
def test_a_letter_out_of_its_bounds_is_not_sound(wrong: dict[str, object]) -> None:
    fields = {"session": HERE, "seq": 1, "sender": "alpha", "reply_to": "", "content": b""}
    assert Letter(**fields).is_sound  # type: ignore[arg-type]
    assert Letter(**{**fields, "session": URGENT}).is_sound  # type: ignore[arg-type]
    assert not Letter(**{**fields, **wrong}).is_sound  # type: ignore[arg-type]


OFFERS = st.tuples(st.just("offer"), st.sampled_from([HERE, THERE, URGENT]), st.integers(1, 8), st.integers(0, 6))
STEPS = st.one_of(OFFERS, st.tuples(st.sampled_from(["handle", "fail", "put back", "restart"]), st.integers(0, 5)))


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_each_session_is_handled_in_order_and_each_letter_once(steps: list[tuple[object, ...]]) -> None:
    """The sender offers from its first letter that was not handled on, as carriers do; the receiver handles, fails and starts again."""
    box, kept, done = Mailbox("a", []), dict[str, bytes](), dict[str, list[int]]()
    for step in steps:
        if step[0] == "offer":
            _, session, count, _ = step
            assert isinstance(session, str)
            assert isinstance(count, int)
            first = box.cursor(session) + 1
            box.take(letters(*range(first, first + count), session=session))
            continue
        if step[0] == "restart":
            box = Mailbox("a", kept.items())
            continue
        assert isinstance(step[1], int)
        batch = box.next(step[1])
        if step[0] == "handle":
            kept.update(box.after(batch, now_ms=0))
            box.handled(batch, now_ms=0)
            for one in batch:
                done.setdefault(one.session, []).append(one.seq)
            continue
        if step[0] == "fail" and batch:
            box.failed(batch[-1], now_ms=NOW_MS)
        box.put_back(batch)
    for session, found in done.items():
        assert found == list(range(1, len(found) + 1)), session
        assert box.cursor(session) == len(found)
    assert box.size_bytes == sum(len(one.content) for one in [*box._urgent, *box._queue])


@pytest.mark.parametrize("data", [b"", b"x", bytes(15), bytes(17)])
def test_a_cursor_that_the_disk_damaged_is_said_and_no_letter_is_counted_again(data: bytes) -> None:
    with pytest.raises(StorageError) as caught:
        Mailbox("desk", [("session", data)])
    assert caught.value.hint
