"""What two sets of records do not share, found by comparing ranges of them (as negentropy and Meyer's range-based reconciliation do).

One side drives. It sends ranges with its fingerprints; the other answers for those that differ, with its items where it has few in the
range and with a finer division where it has many. The driver compares that division with its own and asks on. Equal sets cost one range
each way; ten differences among ten thousand cost two round trips and a third that carries the records. The side that answers keeps
nothing between two requests, so there is nothing in it for a peer to fill or to stall.

What belongs to the set follows from the records alone and is the caller's to say (`View`); here are items and bounds only.

The rule: a peer decides how far it is believed, never what it costs. A driver ends after `ROUNDS_MAX` requests, `BYTES_MAX` of answers
or `LACKING_MAX` items; whatever is not nested, ordered and in bounds is a ProtocolError that says which field.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from skerry.errors import Code, ProtocolError
from skerry.records.items import DIGEST_BYTES, END, ITEM_BYTES, START, Items, Sum

RANGES_MAX = 256  # in one request: each may cost 0.1 ms to look at
PARTS_MAX = 64  # of one range in one answer
LISTED_MAX = 512  # items of one range in one answer
FEW = 32  # a range with no more is listed rather than divided: its items are fewer bytes than another round's fingerprints
RUN_ITEMS = 16  # what a division aims at: half of `FEW`, since the other side's runs are of other lengths
PARTS = 16  # how finely a range is divided ...
LARGE = 4096  # ... and above so many items by PARTS_MAX: 64 * 16 * 16 items are two levels
ROUNDS_MAX = 40  # a million items all different at their ends take 12
BYTES_MAX = 1024 * 1024  # of answers
ANSWER_BYTES_MAX = 40 * 1024  # so that a reply stays one frame
LACKING_MAX = 5000  # above it a copy of everything is the cheaper way
EXTRA_MAX = 5000  # what the other side lacks; the rest comes next time
WAITING_MAX = 20_000  # ranges still to be asked about
_PART_BYTES = DIGEST_BYTES + 10  # beside its bound


class Range(NamedTuple):
    """[low, high) and what the sender has in it. An empty `high` is the end of everything."""

    low: bytes
    high: bytes
    holds: int
    digest: bytes


class Part(NamedTuple):
    """A division of a range: from where the part before it ended up to `high`."""

    high: bytes
    holds: int
    digest: bytes


class Answer(NamedTuple):
    """For the range of that number in the request, which differs: its parts, or its items, packed. Neither: nothing is there."""

    number: int
    parts: list[Part]
    items: bytes


class View:
    """The set as one peer and we share it: what all of `sets` hold. They have no item in common."""

    def __init__(self, sets: Sequence[Items]) -> None:
        self._sets = [one for one in sets if len(one)]

    def __len__(self) -> int:
        return sum(map(len, self._sets))

    def sum(self, low: bytes = START, high: bytes = END) -> Sum:
        found = Sum()
        for one in self._sets:
            found += one.sum(low, high)
        return found

    def between(self, low: bytes, high: bytes) -> list[bytes]:
        found = [one.between(low, high) for one in self._sets]
        return found[0] if len(found) == 1 else sorted(item for items in found for item in items)

    def cuts(self, low: bytes, high: bytes, parts: int) -> list[bytes]:
        largest = max(self._sets, key=lambda one: one.sum_count(low, high), default=None)
        return largest.cuts(low, high, parts) if largest is not None else []


def answer(view: View, ranges: Sequence[Range], *, size_bytes_max: int = ANSWER_BYTES_MAX) -> tuple[list[Answer], int]:
    """What differs, and how many of the ranges that covers: all, unless the answer is full. Raises ProtocolError for a malformed range."""
    _check_ranges(ranges)
    answers: list[Answer] = []
    size = 0
    for number, (low, high, holds, digest) in enumerate(ranges):
        if size >= size_bytes_max:
            return answers, number
        end = high or END
        ours = view.sum(low, end)
        if ours.count == holds and ours.digest() == digest:
            continue
        if ours.count <= (LISTED_MAX if holds == 0 else FEW):
            found = Answer(number, [], b"".join(view.between(low, end)))
        else:
            found = Answer(number, _divided(view, low, end, ours.count), b"")
        size += len(found.items) + sum(len(part.high) + _PART_BYTES for part in found.parts) + 8
        answers.append(found)
    return answers, len(ranges)


def _divided(view: View, low: bytes, end: bytes, count: int) -> list[Part]:
    parts = []
    for bound in [*view.cuts(low, end, _fineness(count)), end]:
        here = view.sum(low, bound)
        parts.append(Part(b"" if bound == END else bound, here.count, here.digest()))
        low = bound
    return parts


def _fineness(count: int) -> int:
    return PARTS_MAX if count > LARGE else max(2, min(PARTS, -(-count // RUN_ITEMS)))


def _check_ranges(ranges: Sequence[Range]) -> None:
    if not 0 < len(ranges) <= RANGES_MAX:
        raise _wrong("ranges", f"1 to {RANGES_MAX} are wanted, here are {len(ranges)}")
    reached = START
    for number, (low, high, holds, digest) in enumerate(ranges):
        where = f"ranges[{number}]"
        if len(low) > ITEM_BYTES or len(high) > ITEM_BYTES:
            raise _wrong(f"{where}.{'low' if len(low) > ITEM_BYTES else 'high'}", f"a bound has at most {ITEM_BYTES} bytes")
        if low < reached:
            raise _wrong(f"{where}.low", "ranges come in order and do not overlap")
        if low >= (high or END):
            raise _wrong(f"{where}.high", "it lies above low")
        if holds < 0:
            raise _wrong(f"{where}.holds", "a number of items is wanted")
        if len(digest) != DIGEST_BYTES:
            raise _wrong(f"{where}.digest", f"{DIGEST_BYTES} bytes are wanted")
        reached = high or END


class Reconciliation:
    """The driver's side of one comparison: `asks` until it returns nothing, with `hears` between.

    lacking     items that the other side has and we have not
    extra       items that we have and the other side has not
    too_much    the two differ by more than is worth listing: copy everything instead
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._asked: list[Range] = []
        whole = view.sum()
        self._waiting: list[Range] = [Range(START, b"", whole.count, whole.digest())]
        self.rounds = 0
        self.size_bytes = 0
        self.lacking: list[bytes] = []
        self.extra: list[bytes] = []
        self.too_much = False

    def asks(self) -> list[Range]:
        """The next request; empty where there is nothing more to ask. Raises ProtocolError where the peer leads nowhere."""
        if self.too_much or not self._waiting:
            return []
        if self.rounds == ROUNDS_MAX:
            raise ProtocolError(f"the comparison of records came to no end within {ROUNDS_MAX} rounds", hint=_LIES)
        self.rounds += 1
        self._asked = sorted(self._waiting[-RANGES_MAX:])
        del self._waiting[-RANGES_MAX:]
        return self._asked

    def hears(self, answers: Sequence[Answer], answered: int) -> None:
        """What the other side said to the last request. Raises ProtocolError that says which field is wrong."""
        asked, self._asked = self._asked, []
        if not 0 < answered <= len(asked):
            raise _wrong("answered", f"1 to {len(asked)} are wanted, not {answered}")
        self._waiting.extend(reversed(asked[answered:]))
        next_number = 0
        for place, found in enumerate(answers):
            where = f"answers[{place}]"
            if not next_number <= found.number < answered:
                raise _wrong(f"{where}.number", "ranges that were asked about, in order, are wanted")
            next_number = found.number + 1
            self.size_bytes += len(found.items) + sum(len(part.high) + _PART_BYTES for part in found.parts)
            if self.size_bytes > BYTES_MAX:
                raise ProtocolError(f"the comparison of records took more than {BYTES_MAX} bytes", hint=_LIES)
            if found.parts and found.items:
                raise _wrong(where, "parts or items are wanted, not both")
            if found.parts:
                self._divide(asked[found.number], found.parts, where)
            else:
                self._compare(asked[found.number], found.items, where)
        if len(self.lacking) > LACKING_MAX or len(self._waiting) > WAITING_MAX:
            self.too_much = True

    def _compare(self, asked: Range, packed: bytes, where: str) -> None:
        if len(packed) % ITEM_BYTES or len(packed) > LISTED_MAX * ITEM_BYTES:
            raise _wrong(f"{where}.items", f"up to {LISTED_MAX} items of {ITEM_BYTES} bytes are wanted")
        theirs = [packed[at : at + ITEM_BYTES] for at in range(0, len(packed), ITEM_BYTES)]
        end = asked.high or END
        if theirs and (theirs[0] < asked.low or theirs[-1] >= end):
            raise _wrong(f"{where}.items", "they lie in the range that was asked about")
        if any(one >= other for one, other in pairwise(theirs)):
            raise _wrong(f"{where}.items", "they come in order, each once")
        ours = self._view.between(asked.low, end)
        has, lacks = set(ours), set(theirs)
        self.lacking.extend(item for item in theirs if item not in has)
        room = EXTRA_MAX - len(self.extra)
        if room > 0:
            self.extra.extend([item for item in ours if item not in lacks][:room])

    def _divide(self, asked: Range, parts: Sequence[Part], where: str) -> None:
        if not 2 <= len(parts) <= PARTS_MAX:
            raise _wrong(f"{where}.parts", f"2 to {PARTS_MAX} are wanted, here are {len(parts)}")
        low, end = asked.low, asked.high or END
        for number, (high, holds, digest) in enumerate(parts):
            bound, field = high or END, f"{where}.parts[{number}]"
            if not low < bound <= end or len(high) > ITEM_BYTES or (bound == end) != (number == len(parts) - 1):
                raise _wrong(f"{field}.high", "parts come in order and end where the range that was asked about does")
            if holds < 0 or len(digest) != DIGEST_BYTES:
                raise _wrong(f"{field}.{'holds' if holds < 0 else 'digest'}", f"a number of items, and {DIGEST_BYTES} bytes, are wanted")
            ours = self._view.sum(low, bound)
            if ours.count != holds or ours.digest() != digest:
                self._ask_about(low, bound, ours, holds)
            low = bound

    def _ask_about(self, low: bytes, end: bytes, ours: Sum, theirs: int) -> None:
        """A range differs: ask about it as it is where the other side will list it, else in parts."""
        if theirs > FEW and ours.count > FEW:
            for high, holds, digest in _divided(self._view, low, end, ours.count):
                self._waiting.append(Range(low, high, holds, digest))
                low = high
        else:
            self._waiting.append(Range(low, b"" if end == END else end, ours.count, ours.digest()))


_LIES = "the other node is faulty or lies; what it holds is taken from others"


def _wrong(field: str, wanted: str) -> ProtocolError:
    return ProtocolError(f"a comparison of records with a wrong {field}: {wanted}", code=Code.DECODE)
