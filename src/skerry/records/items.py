"""The items of a set of records, in order, and the fingerprint of any range of them.

An item is 40 bytes: a record's stamp (8, big-endian), then its hash (32), so that items in order are records in order of time. A range
is half open, [low, high); a bound is an item or the start of one. Items lie packed in blocks of up to `BLOCK_ITEMS_MAX`, and each block
keeps the sum of its items' elements: a record that comes or goes changes one block, and the fingerprint of a range adds up the blocks
inside it and looks into the two at its ends alone.

An item's element is BLAKE3 of the item, drawn out to 2048 bits; elements add modulo 2^2048; a fingerprint is BLAKE3 of the count and the
sum, 32 bytes. Sums of 256 bits, as others have them, do not stand up to somebody who chooses the items: with k items of his own he finds
two sets of one sum in about k * 2^(bits / (1 + log2 k)) steps (Wagner, "A Generalized Birthday Problem"), which for 256 bits and the 256
agents that a node may have is 2^36, a day's work, and would hide a record from a neighbour. With 2048 bits and a million items it is
2^117; to hit 32 bytes of digest takes 2^128. The wider sum costs 0.1 us more per item and 256 bytes per block.

The rule: a fingerprint follows from the set alone, never from the order in which it came to be.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from blake3 import blake3

STAMP_BYTES = 8
HASH_BYTES = 32
ITEM_BYTES = STAMP_BYTES + HASH_BYTES
START = b""  # before every item
END = b"\xff" * (ITEM_BYTES + 1)  # after every item
DIGEST_BYTES = 32
ELEMENT_BYTES = 256  # see above
BLOCK_ITEMS_MAX = 128  # a boundary inside a block costs up to half as many hashes, 0.7 us each
_BLOCK_BYTES_MAX = BLOCK_ITEMS_MAX * ITEM_BYTES
_MODULUS = 1 << (8 * ELEMENT_BYTES)
_COUNT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Sum:
    """What a range adds up to: sums of ranges that share no item add."""

    count: int = 0
    total: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.count + other.count, (self.total + other.total) % _MODULUS)

    def digest(self) -> bytes:
        return blake3(self.count.to_bytes(_COUNT_BYTES, "big") + self.total.to_bytes(ELEMENT_BYTES, "big")).digest()


def item_of(stamp: int, digest: bytes) -> bytes:
    """The item of a record."""
    return stamp.to_bytes(STAMP_BYTES, "big") + digest


def parts_of(item: bytes) -> tuple[int, bytes]:
    """An item's stamp and hash."""
    return int.from_bytes(item[:STAMP_BYTES], "big"), item[STAMP_BYTES:]


def bound_between(before: bytes, item: bytes) -> bytes:
    """The shortest bound that `item` is not below and `before`, which is below `item`, is."""
    length = 1
    while before[:length] == item[:length]:
        length += 1
    return item[:length]


def _element(item: bytes) -> int:
    return int.from_bytes(blake3(item).digest(length=ELEMENT_BYTES), "big")


def _total(packed: bytes | bytearray) -> int:
    return sum(_element(bytes(packed[at : at + ITEM_BYTES])) for at in range(0, len(packed), ITEM_BYTES)) % _MODULUS


class Items:
    """A set of items."""

    def __init__(self) -> None:
        self._blocks: list[bytearray] = []
        self._firsts: list[bytes] = []  # the first item of each block
        self._totals: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, item: bytes) -> bool:
        number = bisect_right(self._firsts, item) - 1
        if number < 0:
            return False
        at = _place(self._blocks[number], item)
        return self._blocks[number][at : at + ITEM_BYTES] == item

    def add(self, item: bytes) -> bool:
        """Put an item in. False: it was there."""
        assert len(item) == ITEM_BYTES, "an item is a stamp and a hash"
        if not self._blocks:
            self._blocks, self._firsts, self._totals, self._count = [bytearray(item)], [item], [_element(item)], 1
            return True
        number = max(bisect_right(self._firsts, item) - 1, 0)
        block = self._blocks[number]
        at = _place(block, item)
        if block[at : at + ITEM_BYTES] == item:
            return False
        block[at:at] = item
        self._totals[number] = (self._totals[number] + _element(item)) % _MODULUS
        self._count += 1
        if at == 0:
            self._firsts[number] = item
        if len(block) > _BLOCK_BYTES_MAX:
            self._split(number)
        return True

    def remove(self, item: bytes) -> bool:
        """Take an item out. False: it was not there."""
        number = bisect_right(self._firsts, item) - 1
        if number < 0:
            return False
        block = self._blocks[number]
        at = _place(block, item)
        if block[at : at + ITEM_BYTES] != item:
            return False
        del block[at : at + ITEM_BYTES]
        self._count -= 1
        if not block:
            del self._blocks[number], self._firsts[number], self._totals[number]
            return True
        self._totals[number] = (self._totals[number] - _element(item)) % _MODULUS
        if at == 0:
            self._firsts[number] = bytes(block[:ITEM_BYTES])
        return True

    def sum(self, low: bytes = START, high: bytes = END) -> Sum:
        """Of the items in [low, high)."""
        if low >= high or not self._blocks:
            return Sum()
        first = max(bisect_right(self._firsts, low) - 1, 0)
        last = max(bisect_right(self._firsts, high) - 1, 0)
        if first == last:
            block = self._blocks[first]
            return self._part(first, _place(block, low), _place(block, high))
        head, tail = self._blocks[first], self._blocks[last]
        ends = self._part(first, _place(head, low), len(head)) + self._part(last, 0, _place(tail, high))
        count = sum(map(len, self._blocks[first + 1 : last])) // ITEM_BYTES
        return ends + Sum(count, sum(self._totals[first + 1 : last]) % _MODULUS)

    def between(self, low: bytes, high: bytes) -> list[bytes]:
        """The items in [low, high), in order."""
        found: list[bytes] = []
        if low >= high or not self._blocks:
            return found
        number = max(bisect_right(self._firsts, low) - 1, 0)
        while number < len(self._blocks) and self._firsts[number] < high:
            block = self._blocks[number]
            begin, end = _place(block, low), _place(block, high)
            found.extend(bytes(block[at : at + ITEM_BYTES]) for at in range(begin, end, ITEM_BYTES))
            number += 1
        return found

    def cuts(self, low: bytes, high: bytes, parts: int) -> list[bytes]:
        """Bounds inside (low, high), in order, that cut its items into about `parts` runs of one length; fewer where it has few."""
        if low >= high or not self._blocks:
            return []
        number = max(bisect_right(self._firsts, low) - 1, 0)
        at = _place(self._blocks[number], low) // ITEM_BYTES
        count = self.sum_count(low, high)
        parts = min(parts, count)
        bounds: list[bytes] = []
        taken = 0
        for part in range(1, parts):
            at += count * part // parts - taken
            taken = count * part // parts
            while at * ITEM_BYTES >= len(self._blocks[number]):
                at -= len(self._blocks[number]) // ITEM_BYTES
                number += 1
            item = self._item(number, at)
            before = self._item(number, at - 1) if at else bytes(self._blocks[number - 1][-ITEM_BYTES:])
            bounds.append(bound_between(before, item))
        return [bound for bound in bounds if low < bound < high]

    def sum_count(self, low: bytes, high: bytes) -> int:
        """How many items there are in [low, high)."""
        if low >= high or not self._blocks:
            return 0
        first = max(bisect_right(self._firsts, low) - 1, 0)
        last = max(bisect_right(self._firsts, high) - 1, 0)
        whole = sum(map(len, self._blocks[first:last]))
        return (whole + _place(self._blocks[last], high) - _place(self._blocks[first], low)) // ITEM_BYTES

    def _item(self, number: int, at: int) -> bytes:
        return bytes(self._blocks[number][at * ITEM_BYTES : (at + 1) * ITEM_BYTES])

    def _part(self, number: int, begin: int, end: int) -> Sum:
        """Of a run inside one block, from the shorter side."""
        block, count = self._blocks[number], (end - begin) // ITEM_BYTES
        if count <= 0:
            return Sum()
        if 2 * (end - begin) <= len(block):
            return Sum(count, _total(block[begin:end]))
        return Sum(count, (self._totals[number] - _total(block[:begin]) - _total(block[end:])) % _MODULUS)

    def _split(self, number: int) -> None:
        block = self._blocks[number]
        half = len(block) // ITEM_BYTES // 2 * ITEM_BYTES
        upper = block[half:]
        total = _total(upper)
        del block[half:]
        self._totals[number] = (self._totals[number] - total) % _MODULUS
        self._blocks.insert(number + 1, upper)
        self._firsts.insert(number + 1, bytes(upper[:ITEM_BYTES]))
        self._totals.insert(number + 1, total)


def _place(block: bytearray, bound: bytes) -> int:
    """Where in a block the first item begins that is not below `bound`."""
    low, high = 0, len(block) // ITEM_BYTES
    while low < high:
        middle = (low + high) // 2
        if block[middle * ITEM_BYTES : (middle + 1) * ITEM_BYTES] < bound:
            low = middle + 1
        else:
            high = middle
    return low * ITEM_BYTES
