"""Large values in pieces: the same bytes as if they were packed whole, found again without a copy, and nothing strange let in."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import ProtocolError
from skerry.identity.codec import LARGE_BYTES, pack, unpack
from skerry.identity.pieces import Pieces, joined, pack_array, pack_value, unpack_array, unpack_body

LARGE = b"x" * (LARGE_BYTES + 7)
SMALL = st.one_of(
    st.none(), st.integers(0, 2**40), st.text(max_size=30), st.binary(max_size=300), st.lists(st.text(max_size=5), max_size=4)
)


@given(
    st.lists(SMALL, max_size=8),
    st.lists(SMALL, max_size=8),
    st.sampled_from([b"", b"small", LARGE, bytearray(LARGE), memoryview(LARGE), None]),
)
def test_an_array_in_pieces_is_the_array(before: list[Any], after: list[Any], body: Any) -> None:
    plain = bytes(body) if body is not None else None
    packed = pack_array([*before, body, *after], large=len(before))
    assert unpack(joined(packed)) == [*before, plain, *after]
    value, view = unpack_array(packed, large=len(before))
    assert (bytes(view) if view is not None else value[len(before)]) == plain
    assert (view is not None) == (plain is not None and len(plain) > LARGE_BYTES)


@pytest.mark.parametrize("value", [b"", b"short", LARGE, bytearray(LARGE), "text" * LARGE_BYTES, [LARGE, 1], {"a": LARGE}, None])
def test_a_value_comes_back(value: Any) -> None:
    assert unpack_body(pack_value(value)) == (bytes(value) if isinstance(value, bytearray) else value)


def test_pieces_inside_pieces_are_one() -> None:
    inner = pack_value(LARGE)
    assert isinstance(inner, Pieces)
    outer = pack_array([1, inner, "end"], large=1)
    assert unpack(joined(outer)) == [1, pack(LARGE), "end"]


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(0, 130), st.integers(0, 130))
def test_a_part_is_a_slice(parts: list[bytes], start: int, size: int) -> None:
    assert Pieces(*parts).read(start, size) == b"".join(parts)[start : start + size]


@given(st.binary(max_size=60), st.integers(0, 3))
def test_a_body_that_is_wrong_is_refused_and_nothing_else(data: bytes, large: int) -> None:
    for body in (data + LARGE, data + pack(LARGE), data[:1] + b"\x5a\xff\xff\xff\xff" + LARGE):
        with contextlib.suppress(ProtocolError):
            unpack_array(body, large=large)
        with contextlib.suppress(ProtocolError):
            unpack_body(body)
