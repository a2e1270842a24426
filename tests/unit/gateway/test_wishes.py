"""Headers that say how a task is to be done: read, or refused by name."""

from __future__ import annotations

import pytest

from skerry.errors import UsageError
from skerry.gateway.wishes import wishes_of


def test_what_is_not_said_is_not_wished_for() -> None:
    assert wishes_of({"accept": "*/*"}) == {}


def test_every_header_is_read() -> None:
    headers = {
        "x-skerry-strategy": "Least-Loaded",
        "x-skerry-hedge": "true",
        "x-skerry-restart": "0",
        "x-skerry-priority": "8",
        "x-skerry-max-latency": "500",
        "x-skerry-where": "quantization=Q4*, context_length=4096",
    }
    assert wishes_of(headers) == {
        "strategy": "least-loaded",
        "hedge": True,
        "restart": False,
        "priority": 8,
        "max_latency_ms": 500,
        "where": {"quantization": "Q4*", "context_length": "4096"},
    }


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("strategy", "fastest", "no strategy 'fastest'"),
        ("hedge", "maybe", "X-Skerry-Hedge"),
        ("priority", "-1", "X-Skerry-Priority"),
        ("priority", "high", "X-Skerry-Priority"),
        ("max-latency", "9" * 20, "X-Skerry-Max-Latency"),
        ("where", "Q4", "'Q4'"),
        ("where", "=Q4", "'=Q4'"),
        ("where", ",".join(f"k{number}=v" for number in range(17)), "at most 16"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(header: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("'", "'")):
        wishes_of({f"x-skerry-{header}": value})
