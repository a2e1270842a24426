"""Large values that are never joined: the bytes of a message in several places, and the large value of a message found in it.

A copy of 30 MB costs a node 10 ms in which it does nothing else. So a message around a large value is packed as pieces, which a
transfer reads chunk by chunk, and on the other side the value is a view into what arrived.

The rule: a node that passes a large value on never copies it whole.
"""

from __future__ import annotations

from typing import Any

from skerry.errors import ProtocolError
from skerry.identity.codec import LARGE_BYTES, Buffer, pack, unpack

WALK_ITEMS_MAX = 1000  # before the large value; our messages have ten, and a walk through millions would hold the node up for minutes
_BYTES, _TEXT, _ARRAY, _MAP = 2, 3, 4, 5  # CBOR major types


class Pieces:
    """Bytes that lie in several places."""

    __slots__ = ("_parts", "_size")

    def __init__(self, *parts: Buffer | Pieces) -> None:
        self._parts: list[memoryview] = []
        for part in parts:
            self._parts += part._parts if isinstance(part, Pieces) else [memoryview(part)]
        self._size = sum(len(part) for part in self._parts)

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, size: int) -> bytes:
        """A part of it, in one place."""
        found: list[memoryview] = []
        for part in self._parts:
            if size <= 0:
                break
            if start < len(part):
                found.append(part[start : start + size])
                size -= len(found[-1])
                start = 0
            else:
                start -= len(part)
        return bytes(found[0]) if len(found) == 1 else b"".join(found)

    def joined(self) -> bytes:
        return b"".join(self._parts)


Body = Buffer | Pieces


def joined(body: Body) -> bytes:
    """A body in one place, where it must be."""
    return body.joined() if isinstance(body, Pieces) else bytes(body)


def pack_value(value: Any) -> bytes | Pieces:
    """`pack`, but a large byte string stays where it is."""
    if isinstance(value, bytes | bytearray) and len(value) > LARGE_BYTES:
        return Pieces(_head(len(value)), value)
    return pack(value)


def pack_array(items: list[Any], *, large: int) -> bytes | Pieces:
    """`pack(items)`, where `items[large]` (packed bytes, or None) stays where it is if it is large."""
    body = items[large]
    if body is None or (len(body) <= LARGE_BYTES and not isinstance(body, Pieces | memoryview)):
        return pack(items)
    assert len(items) < 24, "a longer array has another head"
    before, after = (b"".join(map(pack, some)) for some in (items[:large], items[large + 1 :]))
    return Pieces(bytes([0x80 + len(items)]) + before + _head(len(body)), body, after)


def unpack_body(body: Body) -> Any:
    """`unpack` of a body as it came; one byte string is copied out once."""
    if isinstance(body, Pieces):
        body = body.joined()
    if len(body) > LARGE_BYTES:
        view = memoryview(body)
        major, length, start = _read_head(view, 0)
        if major == _BYTES and start + length == len(view):
            return bytes(view[start:])
    return unpack(body)


def unpack_array(body: Body, *, large: int) -> tuple[Any, memoryview | None]:
    """`unpack(body)` of an array, and its item number `large` as a view where that is a large byte string; the array then has b"" there."""
    if isinstance(body, Pieces):
        body = body.joined()
    if len(body) <= LARGE_BYTES:
        return unpack(body), None
    view = memoryview(body)
    major, count, at = _read_head(view, 0)
    if major != _ARRAY or not large < count < 24:
        return unpack(body), None
    end = _end_of_items(view, at, large)
    if end is None:
        return unpack(body), None
    at = end
    kind, length, start = _read_head(view, at)
    if kind != _BYTES or length <= LARGE_BYTES or start + length > len(view):
        return unpack(body), None
    return unpack(bytes(view[:at]) + b"\x40" + bytes(view[start + length :])), view[start : start + length]


def has_few_items(body: Body, *, most: int) -> bool:
    """Whether CBOR has at most so many items, seen without parsing it: a few MB of empty maps become GB of objects."""
    view = memoryview(body.joined() if isinstance(body, Pieces) else body)
    return _end_of_items(view, 0, 1, most) is not None


def _head(length: int) -> bytes:
    return b"\x5a" + length.to_bytes(4, "big")


def _read_head(view: memoryview, at: int) -> tuple[int, int, int]:
    """Major type, length (or value), and where what follows the head begins. Raises ProtocolError for what we don't use."""
    if at >= len(view):
        raise ProtocolError("no valid CBOR: it ends too early")
    major, low = view[at] >> 5, view[at] & 31
    if low < 24:
        return major, low, at + 1
    if low > 27 or at + 1 + (1 << (low - 24)) > len(view):
        raise ProtocolError("no valid CBOR: a length that can't be")
    end = at + 1 + (1 << (low - 24))
    return major, int.from_bytes(view[at + 1 : end], "big"), end


def _end_of_items(view: memoryview, at: int, count: int, most: int = WALK_ITEMS_MAX) -> int | None:
    """Where so many items end that begin at `at`; None where there is too much in them to be walked here."""
    for _ in range(most + 1):
        if not count:
            return at
        major, length, at = _read_head(view, at)
        count -= 1
        if major in (_BYTES, _TEXT):
            at += length
        elif major in (_ARRAY, _MAP):
            count += length * (2 if major == _MAP else 1)
    return None
