"""Almost right inputs: valid ones with something done to their bytes, to their values, or to both.

Noise ends at the first check of a decoder. So an input is made from a valid one on the level on which it is read: a field of the CBOR
or JSON inside is replaced, lost or put elsewhere, the whole is signed or framed again, and only then a bit may be turned. One seed of the
random source gives the same inputs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cbor2

SIZE_BYTES_MAX = 70_000  # a little above the largest frame
NESTED = 3000  # deeper than Python goes
NOISE = 0.05  # of the inputs are bytes that nobody meant
ON_VALUES = 0.6  # of the others are changed as values
ALSO_BYTES = 0.15  # of those, in their bytes too

_SCALARS: list[Any] = [
    None, True, False, 0, 1, -1, 23, 24, 255, 2**16, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**64), 2**200,
    0.0, -0.0, 1.5, 1e300, float("inf"), float("nan"), "", "x", "x" * 300, "\x00", "ü", "\u2028", "../..", "tcp://127.0.0.1:1", "9" * 5000,
    b"", b"\x00", bytes(16), bytes(32), b"\xff" * 64, bytes(5000), [], [[]], {}, {"": None}, [None] * 300,
]  # fmt: skip
_ODD_CBOR = [
    b"\xf7", b"\xe0", b"\xf8\xff", b"\xc0\x61x", b"\xc1\x00", b"\xc2\x41\x01", b"\xd8\x1c\x81\xd8\x1d\x00", b"\xd9\xd9\xf7\x00",
    b"\x9f\x01\xff",    b"\xbf\xff", b"\x5f\x41a\xff", b"\x18\x00", b"\x1b" + bytes(8),
    b"\x9b" + b"\xff" * 8, b"\xbb\x00" + b"\xff" * 7, b"\x5b" + b"\xff" * 8,
    b"\x7a\xff\xff\xff\xff", b"\x81" * NESTED, b"\xa1\x61a" * NESTED, b"\xa1\x01\x02", b"\xa1\x80\x00", b"\xa2\x61a\x01\x61a\x02",
    b"\x61\xff",    b"\xff", b"\xf9\x7e\x00", b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
]  # fmt: skip
_ODD_TEXT = [
    "[" * NESTED, '{"a":' * NESTED, "9" * 5000, "\\ud800", "\x00", "\ufeff", "1e999", "-", "NaN", '"', "'''", "\\u0000", "=", "[[a]]\n",
    "a.b.c=1\n",    "= {", "0x", "1979-05-27T07:32:00Z", "\r", "\n\n", "tcp://", "[::1]", "uds:///", ":0", ":99999",
    "\u0131", "a" * 400, "{}", "[]",
    "null",
]  # fmt: skip

Wrap = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Shape:
    """How the inside of an input is found and put back. `values`: from bytes to a value; `wrap`: from a value to bytes."""

    values: Callable[[bytes], Any] | None = None
    wrap: Callable[[Any], bytes] = bytes
    odd: tuple[bytes, ...] = tuple(_ODD_CBOR)


BYTES = Shape()
CBOR = Shape(cbor2.loads, cbor2.dumps)
CANONICAL = Shape(cbor2.loads, lambda value: cbor2.dumps(value, canonical=True))
TEXT = Shape(odd=tuple(text.encode("utf-8", "surrogatepass") for text in _ODD_TEXT))
JSON = Shape(json.loads, lambda value: json.dumps(value, default=repr).encode(), TEXT.odd)


class Inputs:
    """Inputs made from `seeds`, without end."""

    def __init__(self, seeds: list[bytes], shape: Shape, rng: random.Random) -> None:
        self._seeds = seeds
        self._shape = shape
        self._rng = rng

    def make(self) -> bytes:
        rng = self._rng
        if rng.random() < NOISE:
            return rng.randbytes(rng.randrange(200))
        return self.changed(rng.choice(self._seeds))

    def changed(self, data: bytes) -> bytes:
        """Something else that looks like `data`."""
        rng = self._rng
        if self._shape.values is not None and rng.random() < ON_VALUES:
            try:
                value = self._shape.values(data)
                for _ in range(rng.choice((1, 1, 1, 2, 3))):
                    value = change_value(value, rng)
                data = self._shape.wrap(value)
            except (ValueError, TypeError, OverflowError, RecursionError, cbor2.CBORError):
                pass  # what was made can't be written so, or `data` not be read
            else:
                if rng.random() > ALSO_BYTES:
                    return data[:SIZE_BYTES_MAX]
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = change_bytes(data, rng, odd=self._shape.odd, others=self._seeds)
        return data[:SIZE_BYTES_MAX]


def change_bytes(data: bytes, rng: random.Random, *, odd: tuple[bytes, ...], others: list[bytes]) -> bytes:
    """A bit turned, a byte set, a piece lost, doubled, put in, or taken from another input."""
    at = rng.randrange(len(data) + 1)
    match rng.randrange(8):
        case 0 if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 1 if at < len(data):
            return data[:at] + rng.randbytes(1) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data[:at] + data[at + rng.randrange(1, 9) :]
        case 4:
            return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
        case 5:
            return data[:at] + data[at : at + rng.randrange(1, 41)] + data[at:]
        case 6:
            return data[:at] + rng.choice(odd) + data[at + rng.randrange(3) :]
        case _:
            other = rng.choice(others)
            return data[:at] + other[rng.randrange(len(other) + 1) :]


def change_value(value: Any, rng: random.Random) -> Any:
    """The value with one place in it changed."""
    if isinstance(value, list) and value and rng.random() < 0.8:
        return _changed_list(value, rng)
    if isinstance(value, dict) and value and rng.random() < 0.8:
        return _changed_map(value, rng)
    if isinstance(value, bytes | str) and rng.random() < 0.5:
        return _changed_text(value, rng)
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice((-1, 1, -value, 2**32, -(2**33)))
    return rng.choice(_SCALARS)


def _changed_list(value: list[Any], rng: random.Random) -> list[Any]:
    at = rng.randrange(len(value))
    match rng.randrange(8):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return [*value[:at], value[at], *value[at:]]
        case 2:
            return [*value, rng.choice(_SCALARS)]
        case 3:
            other = rng.randrange(len(value))
            swapped = list(value)
            swapped[at], swapped[other] = swapped[other], swapped[at]
            return swapped
        case _:
            return [*value[:at], change_value(value[at], rng), *value[at + 1 :]]


def _changed_map(value: dict[Any, Any], rng: random.Random) -> dict[Any, Any]:
    key = rng.choice(list(value))
    match rng.randrange(8):
        case 0:
            return {name: item for name, item in value.items() if name != key}
        case 1:
            return {**value, rng.choice(("", "more", "$bytes", "v", "body", 1, b"x", None)): rng.choice(_SCALARS)}
        case 2:
            return {**value, key: value[rng.choice(list(value))]}
        case _:
            return {**value, key: change_value(value[key], rng)}


def _changed_text(value: Any, rng: random.Random) -> Any:
    """Of bytes or of a text."""
    at = rng.randrange(len(value) + 1)
    more = rng.randbytes(1) if isinstance(value, bytes) else rng.choice("x0:/.*~$\x00ü")
    match rng.randrange(4):
        case 0:
            return value[:at]
        case 1:
            return value[:at] + more + value[at:]
        case 2:
            return value[:at] + more + value[at + 1 :]
        case _:
            return value + value
