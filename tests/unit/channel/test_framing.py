"""Frames: their limits and their shapes."""

from __future__ import annotations

import cbor2
import pytest

from skerry.channel import framing
from skerry.channel.framing import (
    CALL,
    CHUNK,
    CHUNK_BYTES,
    FRAME_BYTES_MAX,
    INLINE_BYTES_MAX,
    NUMBER_MAX,
    PART,
    SHAPES,
    FrameReader,
    decode_frame,
    encode_frame,
)
from skerry.errors import Code, ProtocolError


def code_of(data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        FrameReader().feed(data)
    return caught.value.code


def test_every_type_has_a_shape_and_a_name_of_its_own() -> None:
    named = {
        name: value for name, value in vars(framing).items() if name.isupper() and isinstance(value, int) and not name.endswith("_MAX")
    }
    kinds = {name: value for name, value in named.items() if not name.endswith("_BYTES")}
    assert sorted(kinds.values()) == sorted(SHAPES)
    assert len(set(kinds.values())) == len(kinds)


def test_the_head_is_four_bytes_big_endian() -> None:
    assert encode_frame([7, 1]) == b"\x00\x00\x00\x03\x82\x07\x01"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\x00\x00\x00", Code.DECODE),
        ((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), Code.TOO_LARGE),
        (b"\xff\xff\xff\xff", Code.TOO_LARGE),
        (b"GET / HTTP/1.1", Code.TOO_LARGE),
        (b"\x00\x00\x00\x01\xff", Code.DECODE),
    ],
)
def test_a_wrong_length_is_refused_before_anything_is_held(data: bytes, code: str) -> None:
    assert code_of(data) == code


@pytest.mark.parametrize(
    "body", [[], [7], [7, 1, 2], [7, "1"], [7, True], [True, 1], [7.0, 1], [99, 1], ["7", 1], {7: 1}, 7, None, [[7], 1], [10, 1]]
)
def test_another_shape_is_refused(body: object) -> None:
    with pytest.raises(ProtocolError):
        decode_frame(cbor2.dumps(body))


@pytest.mark.parametrize("number", [-1, NUMBER_MAX, 2**64 - 1])
def test_a_number_out_of_bounds_is_refused(number: int) -> None:
    with pytest.raises(ProtocolError):
        decode_frame(cbor2.dumps([7, number]))


def test_an_unknown_type_hints_at_a_newer_peer() -> None:
    with pytest.raises(ProtocolError, match="unknown type 99") as caught:
        decode_frame(cbor2.dumps([99]))
    assert "newer" in caught.value.hint


def test_what_is_no_frame_any_more_is_not_sent() -> None:
    with pytest.raises(ProtocolError) as caught:
        encode_frame([PART, 1, bytes(FRAME_BYTES_MAX)])
    assert caught.value.code == Code.TOO_LARGE


def test_the_largest_of_what_we_send_fits() -> None:
    big = NUMBER_MAX - 1
    for frame in ([CALL, big, "v" * 64, big, big, bytes(INLINE_BYTES_MAX)], [CHUNK, big, bytes(CHUNK_BYTES)]):
        assert FrameReader().feed(encode_frame(frame)) == [frame]


def test_the_largest_frame_is_read_byte_by_byte() -> None:
    data = encode_frame([PART, 1, bytes(FRAME_BYTES_MAX - 10)])
    reader = FrameReader()
    frames = [frame for byte in data for frame in reader.feed(bytes([byte]))]
    assert len(frames) == 1
    assert reader.held_bytes == 0
