"""What was refused is remembered apart, for a while, and within bounds."""

from __future__ import annotations

from skerry.records.items import item_of
from skerry.records.record import Rejection
from skerry.records.refusals import ALL_MAX, FIRST_MS, MOST_MS, PEER_MAX, Refusals

ALICE, BOB = b"a" * 32, b"b" * 32
NOW_MS = 1_750_000_000_000


def item(number: int) -> bytes:
    return item_of(number, bytes(32))


def test_a_refusal_counts_as_known_to_its_peer_alone_until_it_is_tried_again() -> None:
    refusals = Refusals()
    refusals.note(ALICE, item(1), Rejection.OVER_QUOTA, "too many", now_ms=NOW_MS)
    assert item(1) in refusals.known(ALICE, now_ms=NOW_MS)
    assert item(1) not in refusals.known(BOB, now_ms=NOW_MS)
    assert item(1) not in refusals.known(ALICE, now_ms=NOW_MS + FIRST_MS)
    (refused,) = refusals.all()
    assert (refused.reason, refused.detail, refused.times, refused.retry_ms) == (Rejection.OVER_QUOTA, "too many", 1, NOW_MS + FIRST_MS)


def test_waits_double_up_to_a_day() -> None:
    refusals = Refusals()
    waits = []
    for _ in range(20):
        refusals.note(ALICE, item(1), Rejection.NOT_GRANTED, "", now_ms=NOW_MS)
        waits.append(refusals.all()[0].retry_ms - NOW_MS)
    assert waits[:3] == [FIRST_MS, 2 * FIRST_MS, 4 * FIRST_MS]
    assert waits[-1] == MOST_MS


def test_what_came_after_all_is_refused_by_nobody() -> None:
    refusals = Refusals()
    for peer in (ALICE, BOB):
        refusals.note(peer, item(1), Rejection.NOT_GRANTED, "", now_ms=NOW_MS)
    refusals.forget(item(1), peer=ALICE)
    assert [refused.peer for refused in refusals.all()] == [BOB]
    refusals.forget(item(1))
    refusals.forget(item(2))
    assert len(refusals) == 0


def test_nobody_fills_the_memory() -> None:
    refusals = Refusals()
    for number in range(PEER_MAX + 10):
        refusals.note(ALICE, item(number), Rejection.NOT_GRANTED, "", now_ms=NOW_MS)
    assert len(refusals) == PEER_MAX
    assert item(9) not in refusals.known(ALICE, now_ms=NOW_MS)
    assert item(10) in refusals.known(ALICE, now_ms=NOW_MS)
    for peer in range(12):
        for number in range(PEER_MAX):
            refusals.note(bytes([peer]) * 32, item(number), Rejection.NOT_GRANTED, "", now_ms=NOW_MS)
    assert len(refusals) == ALL_MAX
