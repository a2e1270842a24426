"""Payloads as JSON and back."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.client.values import from_json, parse_payload, to_json
from skerry.errors import Code, UsageError

VALUES: list[tuple[Any, Any]] = [
    (b"\x00\x01\x02", {"$bytes": "AAEC"}),
    (bytearray(b"\x00"), {"$bytes": "AA=="}),
    ([b"", {"a": b""}], [{"$bytes": ""}, {"a": {"$bytes": ""}}]),
    ((1, 2), [1, 2]),
    ({"a": None, "b": [True, 1.5, "text"]}, {"a": None, "b": [True, 1.5, "text"]}),
]


@pytest.mark.parametrize(("value", "shown"), VALUES)
def test_there_and_back(value: Any, shown: Any) -> None:
    assert to_json(value) == shown
    again = from_json(shown)
    assert again == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("value", [{"$bytes": "AAEC"}, {"$$bytes": b"\x00"}, {"$bytes": {"$bytes": b"x"}}, {"bytes": 1}, {"$": 1}, {}])
def test_a_map_that_looks_like_bytes_stays_a_map(value: Any) -> None:
    assert from_json(to_json(value)) == value


@pytest.mark.parametrize("inside", ["not base64!", "AAE", 3, None, [], {"$bytes": "AA=="}, "\u00e4"])
def test_bytes_that_are_none_are_refused(inside: Any) -> None:
    with pytest.raises(UsageError) as caught:
        from_json([{"$bytes": inside}])
    assert "base64" in caught.value.message


def test_more_than_bytes_is_a_map() -> None:
    assert from_json({"$bytes": "AA==", "more": 1}) == {"$bytes": "AA==", "more": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1, column 1"),
        ("{", "no JSON"),
        ("{'name': 1}", "near"),
        ('{"a": 1}\n x', "line 2"),
        ("9" * 5000, "no JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_payload(text, where="the file x.json")
    assert says in caught.value.message
    assert "the file x.json" in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.code == Code.BAD_INPUT
    assert caught.value.hint
