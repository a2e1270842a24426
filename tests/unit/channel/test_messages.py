"""Messages: dataclasses on both sides, checked field by field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, ProtocolError
from skerry.identity.codec import pack, unpack


@dataclass(frozen=True, slots=True)
class Inner:
    x: int


@dataclass(frozen=True, slots=True)
class Example:
    name: str
    data: bytes
    many: list[Inner] = field(default_factory=list)
    maybe: int | None = None
    ratio: float = 1.0
    anything: Any = None


GOOD = Example("a", b"\x00\xff", [Inner(1)], 7, 0.5, {"k": [b"x"]})


def test_a_message_is_a_map_with_the_names_of_its_fields() -> None:
    assert unpack(pack_message(GOOD)) == {
        "name": "a",
        "data": b"\x00\xff",
        "many": [{"x": 1}],
        "maybe": 7,
        "ratio": 0.5,
        "anything": {"k": [b"x"]},
    }
    assert unpack_message(Example, pack_message(GOOD)) == GOOD


def test_missing_fields_take_their_defaults_and_unknown_ones_are_passed_over() -> None:
    assert unpack_message(Example, pack({"name": "a", "data": b"", "later": [1]})) == Example("a", b"")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": 1}, "name"),
        ({"name": None}, "name"),
        ({"name": b"a"}, "name"),
        ({"data": "text"}, "data"),
        ({"many": {}}, "many"),
        ({"many": [{"x": "1"}]}, "many"),
        ({"many": [{}]}, "x"),
        ({"maybe": 1.5}, "maybe"),
        ({"ratio": "1"}, "ratio"),
    ],
)
def test_a_wrong_field_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ProtocolError, match=named) as caught:
        unpack_message(Example, pack({"name": "a", "data": b"", **change}))
    assert caught.value.code == Code.DECODE
    assert "Example" in caught.value.message


@pytest.mark.parametrize("body", [b"", b"\xff", pack(None), pack([]), pack("x"), pack({}), pack({"name": "a"})])
def test_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_message(Example, body)
