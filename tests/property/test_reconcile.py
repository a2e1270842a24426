"""Two sets find out what they do not share, whatever they hold; and nobody makes a comparison cost more than its bounds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.errors import ProtocolError
from skerry.records import reconcile
from skerry.records.items import END, ITEM_BYTES, START, Items, bound_between, item_of
from skerry.records.reconcile import Answer, Part, Range, Reconciliation, View, answer

FEW_STAMPS = st.integers(0, 3)  # equal stamps are common
STAMPS = FEW_STAMPS | st.integers(0, 2**64 - 1)
ITEMS = st.builds(item_of, STAMPS, st.integers(0, 2**16).map(lambda n: n.to_bytes(32, "big")) | st.binary(min_size=32, max_size=32))
SETS = st.sets(ITEMS, max_size=80)
BOUNDS = st.just(START) | st.just(END) | ITEMS | st.binary(max_size=ITEM_BYTES)


def items_of(found: Iterable[bytes]) -> Items:
    items = Items()
    for item in found:
        items.add(item)
    return items


def view_of(*sets: Iterable[bytes]) -> View:
    return View([items_of(one) for one in sets])


def compared(ours: View, theirs: View, *, size_bytes_max: int = reconcile.ANSWER_BYTES_MAX) -> Reconciliation:
    driver = Reconciliation(ours)
    while ranges := driver.asks():
        driver.hears(*answer(theirs, ranges, size_bytes_max=size_bytes_max))
    return driver


def refusal(work: Callable[[], object]) -> str:
    """What a ProtocolError said, "" where there was none; anything else fails the test."""
    try:
        work()
    except ProtocolError as error:
        return error.message
    return ""


def drawn(seed: int, count: int) -> list[bytes]:
    chance = random.Random(seed)
    return [item_of(chance.getrandbits(44), chance.randbytes(32)) for _ in range(count)]


@given(found=st.lists(ITEMS, max_size=150), gone=st.data(), low=BOUNDS, high=BOUNDS)
def test_a_fingerprint_follows_from_the_set_alone(found: list[bytes], gone: st.DataObject, low: bytes, high: bytes) -> None:
    items = items_of(found)
    left = set(found)
    for item in gone.draw(st.lists(st.sampled_from(found), max_size=50)) if found else []:
        assert items.remove(item) == (item in left)
        left.discard(item)
    inside = sorted(item for item in left if low <= item < high)
    assert len(items) == len(left)
    assert items.between(low, high) == inside
    assert items.sum_count(low, high) == len(inside)
    assert items.sum(low, high) == items_of(reversed(inside)).sum()
    assert all((item in items) == (item in left) for item in found)


@given(found=SETS, parts=st.integers(1, 70), low=BOUNDS, high=BOUNDS)
def test_cuts_divide_a_range_into_runs_of_one_length(found: set[bytes], parts: int, low: bytes, high: bytes) -> None:
    items = items_of(found)
    bounds = items.cuts(low, high, parts)
    assert bounds == sorted(set(bounds))
    assert all(low < bound < high for bound in bounds)
    ends = [low, *bounds, high]
    runs = [items.sum_count(one, other) for one, other in pairwise(ends)]
    assert max(runs) - min(runs) <= 1 or max(runs) <= 1 or not bounds


@given(one=ITEMS, other=ITEMS)
def test_a_bound_lies_between(one: bytes, other: bytes) -> None:
    if one != other:
        assert min(one, other) < bound_between(min(one, other), max(one, other)) <= max(one, other)


@given(shared=SETS, ours=SETS, theirs=SETS)
def test_what_is_found_is_the_difference_of_the_sets(shared: set[bytes], ours: set[bytes], theirs: set[bytes]) -> None:
    driver = compared(view_of(shared | ours), view_of(shared | theirs))
    assert set(driver.lacking) == theirs - ours - shared
    assert set(driver.extra) == ours - theirs - shared
    assert len(driver.lacking) + len(driver.extra) == len(set(driver.lacking) | set(driver.extra))


@given(
    seed=st.integers(0, 2**32),
    shared=st.integers(0, 2000),
    lost=st.integers(0, 60),
    more=st.integers(0, 60),
    size=st.integers(6000, 50_000),
)
@settings(max_examples=settings().max_examples // 2)
def test_it_finds_everything_in_large_sets_and_small_answers(seed: int, shared: int, lost: int, more: int, size: int) -> None:
    items = drawn(seed, shared + lost + more)
    ours, theirs = set(items[lost:]), set(items[: shared + lost])
    driver = compared(view_of(ours), view_of(theirs), size_bytes_max=size)
    assert set(driver.lacking) == theirs - ours
    assert set(driver.extra) == ours - theirs


@given(shared=SETS, ours=SETS, theirs=SETS, data=st.data())
def test_a_view_of_several_sets_is_their_union(shared: set[bytes], ours: set[bytes], theirs: set[bytes], data: st.DataObject) -> None:
    mine = shared | ours
    apart = {item for item in mine if data.draw(st.booleans())} if len(mine) < 40 else {item for item in mine if item[-1] & 1}
    driver = compared(view_of(mine - apart, apart), view_of(theirs | shared))
    assert set(driver.lacking) == theirs - ours - shared
    assert set(driver.extra) == ours - theirs - shared


@pytest.mark.parametrize(("ours", "theirs"), [(0, 400), (400, 0), (0, 0), (1, 1), (5000, 1), (1, 5000)])
def test_empty_sides_and_huge_skew(ours: int, theirs: int) -> None:
    mine, others = set(drawn(1, ours)), set(drawn(2, theirs))
    driver = compared(view_of(mine), view_of(others))
    assert set(driver.lacking) == others
    assert set(driver.extra) == mine


def test_equal_sets_cost_one_range() -> None:
    items = drawn(1, 3000)
    driver = compared(view_of(items), view_of(reversed(items)))
    assert (driver.rounds, driver.size_bytes, driver.lacking, driver.extra) == (1, 0, [], [])


def test_ten_among_ten_thousand_take_two_rounds() -> None:
    items = drawn(1, 10_010)
    driver = compared(view_of(items[5:]), view_of(items[:-5]))
    assert sorted(driver.lacking) == sorted(items[:5])
    assert sorted(driver.extra) == sorted(items[-5:])
    assert driver.rounds == 2, "the third carries the records"
    assert driver.size_bytes < 0.02 * 400 * 10_000 / 2


def test_sets_with_too_little_in_common_are_not_listed() -> None:
    driver = compared(view_of(drawn(1, 20_000)), view_of(drawn(2, 20_000)))
    assert driver.too_much
    assert driver.asks() == []
    assert driver.rounds < reconcile.ROUNDS_MAX


# --- peers that lie ---------------------------------------------------------------------------------------------------------------

OURS = drawn(3, 2000)


def _wrong_digests(ranges: list[Range]) -> tuple[list[Answer], int]:
    found, answered = answer(view_of(drawn(4, 2000)), ranges)
    return [a._replace(parts=[p._replace(digest=bytes(32)) for p in a.parts]) for a in found], answered


def _endless(ranges: list[Range]) -> tuple[list[Answer], int]:
    """Divides what it is asked about, for ever."""
    answers = []
    for number, (low, high, _, _) in enumerate(ranges):
        inside = low + b"\x00" * (ITEM_BYTES - len(low)) if low else b"\x01"
        if low < inside < (high or END):
            answers.append(Answer(number, [Part(inside, 10**9, bytes(32)), Part(high, 10**9, bytes(32))], b""))
    return answers, len(ranges)


def _one_at_a_time(ranges: list[Range]) -> tuple[list[Answer], int]:
    """Stalls: never gets further than one range, and makes two of it."""
    chance = random.Random(repr(ranges[0]))
    low, high = ranges[0].low, ranges[0].high
    for _ in range(100):
        inside = chance.randbytes(4)
        if low < inside < (high or END):
            return [Answer(0, [Part(inside, 1000, bytes(32)), Part(high, 1000, bytes(32))], b"")], 1
    return [], 1


def _invented(ranges: list[Range]) -> tuple[list[Answer], int]:
    """Has items for whatever it is asked about."""
    answers = []
    for number, (low, high, _, _) in enumerate(ranges):
        items = sorted({low + random.Random(n).randbytes(ITEM_BYTES - len(low)) for n in range(reconcile.LISTED_MAX)})
        answers.append(Answer(number, [], b"".join(item for item in items if low <= item < (high or END))))
    return answers, len(ranges)


@pytest.mark.parametrize("lie", [_wrong_digests, _endless, _one_at_a_time, _invented])
def test_a_peer_that_lies_costs_a_bounded_amount(lie: Callable[[list[Range]], tuple[list[Answer], int]]) -> None:
    driver = Reconciliation(view_of(OURS))

    def play() -> None:
        while ranges := driver.asks():
            assert len(ranges) <= reconcile.RANGES_MAX
            driver.hears(*lie(ranges))

    refused = refusal(play)
    assert refused == "" or "comparison of records" in refused
    assert driver.rounds <= reconcile.ROUNDS_MAX
    assert driver.size_bytes <= reconcile.BYTES_MAX + reconcile.ANSWER_BYTES_MAX
    assert len(driver.lacking) <= reconcile.LACKING_MAX + reconcile.RANGES_MAX * reconcile.LISTED_MAX
    assert len(driver.extra) <= reconcile.EXTRA_MAX


WHOLE = Range(b"", b"", 0, bytes(32))


@pytest.mark.parametrize(
    ("answers", "answered", "field"),
    [
        ([], 0, "answered"),
        ([], 2, "answered"),
        ([Answer(1, [], b"")], 1, "answers[0].number"),
        ([Answer(-1, [], b"")], 1, "answers[0].number"),
        ([Answer(0, [], b""), Answer(0, [], b"")], 1, "answers[1].number"),
        ([Answer(0, [], b"x")], 1, "answers[0].items"),
        ([Answer(0, [], bytes(40) * 2)], 1, "answers[0].items"),
        ([Answer(0, [], b"\x01" * 40 + bytes(40))], 1, "answers[0].items"),
        ([Answer(0, [], bytes(40 * 600))], 1, "answers[0].items"),
        ([Answer(0, [Part(b"", 1, bytes(32))], b"")], 1, "answers[0].parts"),
        ([Answer(0, [Part(b"", 1, bytes(32))] * 65, b"")], 1, "answers[0].parts"),
        ([Answer(0, [Part(b"a", 1, bytes(32)), Part(b"", 1, bytes(32))], bytes(40))], 1, "answers[0]"),
        ([Answer(0, [Part(b"b", 1, bytes(32)), Part(b"a", 1, bytes(32))], b"")], 1, "answers[0].parts[1].high"),
        ([Answer(0, [Part(b"b", 1, bytes(32)), Part(b"c", 1, bytes(32))], b"")], 1, "answers[0].parts[1].high"),
        ([Answer(0, [Part(b"", 1, bytes(32)), Part(b"c", 1, bytes(32))], b"")], 1, "answers[0].parts[0].high"),
        ([Answer(0, [Part(b"b" * 41, 1, bytes(32)), Part(b"", 1, bytes(32))], b"")], 1, "answers[0].parts[0].high"),
        ([Answer(0, [Part(b"b", -1, bytes(32)), Part(b"", 1, bytes(32))], b"")], 1, "answers[0].parts[0].holds"),
        ([Answer(0, [Part(b"b", 1, b"short"), Part(b"", 1, bytes(32))], b"")], 1, "answers[0].parts[0].digest"),
    ],
)
def test_a_malformed_answer_is_refused_by_the_name_of_its_field(answers: list[Answer], answered: int, field: str) -> None:
    driver = Reconciliation(view_of(OURS))
    driver.asks()
    with pytest.raises(ProtocolError) as refused:
        driver.hears(answers, answered)
    assert f"a wrong {field}:" in refused.value.message


@pytest.mark.parametrize(
    ("ranges", "field"),
    [
        ([], "ranges"),
        ([WHOLE] * 257, "ranges"),
        ([WHOLE, WHOLE], "ranges[1].low"),
        ([WHOLE._replace(low=b"b", high=b"a")], "ranges[0].high"),
        ([WHOLE._replace(low=b"b", high=b"b")], "ranges[0].high"),
        ([WHOLE._replace(low=b"b" * 41)], "ranges[0].low"),
        ([WHOLE._replace(high=b"b" * 41)], "ranges[0].high"),
        ([WHOLE._replace(holds=-1)], "ranges[0].holds"),
        ([WHOLE._replace(digest=b"short")], "ranges[0].digest"),
        ([WHOLE._replace(high=b"b"), WHOLE._replace(low=b"a")], "ranges[1].low"),
    ],
)
def test_a_malformed_request_is_refused_by_the_name_of_its_field(ranges: list[Range], field: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        answer(view_of(OURS), ranges)
    assert f"a wrong {field}:" in refused.value.message


DIGESTS = st.binary(min_size=32, max_size=32) | st.binary(max_size=40)
SHAPES = st.builds(Range, BOUNDS, st.just(b"") | BOUNDS, st.integers(-2, 2**64), DIGESTS)
PARTS = st.builds(Part, st.just(b"") | BOUNDS, st.integers(-2, 2**64), DIGESTS)
ANSWERS = st.builds(
    Answer,
    st.integers(-1, 3),
    st.lists(PARTS, max_size=4),
    st.just(b"") | st.lists(ITEMS, max_size=3).map(b"".join) | st.binary(max_size=90),
)


@given(ranges=st.lists(SHAPES, max_size=4))
def test_any_request_is_answered_or_refused(ranges: list[Range]) -> None:
    answers: list[Answer] = []
    refused = refusal(lambda: answers.extend(answer(view_of(OURS[:300]), ranges)[0]))
    assert refused == "" or "a wrong ranges" in refused
    assert all(0 <= found.number < len(ranges) for found in answers)


@given(said=st.lists(st.tuples(st.lists(ANSWERS, max_size=4), st.integers(-1, 4)), max_size=6))
def test_any_answer_is_taken_or_refused(said: list[tuple[list[Answer], int]]) -> None:
    driver = Reconciliation(view_of(OURS[:300]))

    def play() -> None:
        for answers, answered in said:
            if driver.asks():
                driver.hears(answers, answered)

    refused = refusal(play)
    assert refused == "" or "a wrong answer" in refused
