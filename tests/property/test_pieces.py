"""A large value found where it lies is the value that an ordinary reader would have found, or both refuse the message."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.identity import codec, pieces
from skerry.identity.codec import pack, unpack
from skerry.identity.pieces import Pieces, joined, pack_array, pack_value, unpack_array, unpack_body
from tests.support.plain import PLAIN, damaged, outcome

SMALL_BYTES = 10  # what is above it counts as large here, so that examples stay short


@pytest.fixture(autouse=True, scope="module")
def _little_is_large() -> Iterator[None]:
    assert codec.LARGE_BYTES > SMALL_BYTES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "LARGE_BYTES", SMALL_BYTES)
        yield


ITEMS = st.lists(PLAIN | st.binary(min_size=SMALL_BYTES + 1, max_size=80), min_size=1, max_size=6)


def seen(data: bytes, large: int) -> Any:
    """What `unpack_array` finds, put together again."""
    value, view = unpack_array(data, large=large)
    if view is not None:
        assert value[large] == b""
        assert len(view) > SMALL_BYTES
        value[large] = bytes(view)
    return value


@given(items=ITEMS, large=st.integers(0, 6))
def test_it_is_what_unpack_finds(items: list[Any], large: int) -> None:
    data = pack(items)
    assert seen(data, large) == unpack(data) == items


@given(items=ITEMS, large=st.integers(0, 4), data=st.data())
def test_what_is_damaged_is_read_alike_or_refused(items: list[Any], large: int, data: st.DataObject) -> None:
    other = data.draw(damaged(st.just(pack(items))))
    there, here = outcome(unpack, other), outcome(lambda body: seen(body, large), other)
    assert isinstance(there, SkerryError) == isinstance(here, SkerryError)
    if not isinstance(there, SkerryError):
        assert cbor2.dumps(there) == cbor2.dumps(here)  # NaN is not itself


@given(noise=st.binary(max_size=120), large=st.integers(0, 4))
def test_noise_gives_a_value_or_a_refusal(noise: bytes, large: int) -> None:
    outcome(lambda body: seen(body, large), noise)
    outcome(unpack_body, noise)


@given(value=PLAIN | st.binary(max_size=200))
def test_a_value_packed_in_pieces_is_the_same_bytes_to_a_reader(value: Any) -> None:
    packed = pack_value(value)
    assert unpack(joined(packed)) == unpack_body(packed) == value


@given(values=st.lists(PLAIN, max_size=5), body=st.binary(max_size=200), place=st.integers(0, 5), packed=st.booleans())
def test_an_array_packed_around_its_body(values: list[Any], body: bytes, place: int, packed: bool) -> None:
    large = min(place, len(values))
    items = [*values[:large], Pieces(body[:7], body[7:]) if packed else body, *values[large:]]
    whole = [*values[:large], body, *values[large:]]
    assert unpack(joined(pack_array(items, large=large))) == whole
    assert seen(joined(pack_array(items, large=large)), large) == whole


@given(parts=st.lists(st.binary(max_size=20), max_size=6), start=st.integers(0, 130), size=st.integers(0, 130))
def test_pieces_read_as_one(parts: list[bytes], start: int, size: int) -> None:
    one = Pieces(*parts)
    assert joined(one) == b"".join(parts)
    assert len(one) == len(b"".join(parts))
    assert one.read(start, size) == b"".join(parts)[start : start + size]
    assert joined(Pieces(one, b"x", one)) == b"".join([*parts, b"x", *parts])


def test_a_million_small_items_before_the_large_one_cost_little() -> None:
    """They are walked by the library, not by us: a peer could hold the node up for minutes."""
    count = 1_000_000
    data = b"\x82\x9a" + count.to_bytes(4, "big") + bytes(count) + pack(bytes(100))
    started = time.process_time()
    value, view = unpack_array(data, large=1)
    assert time.process_time() - started < 0.3
    assert view is None
    assert value == [[0] * count, bytes(100)]
