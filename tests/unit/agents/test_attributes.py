"""Attributes are plain, and what can't be asked for can't be declared."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.agents.attributes import ATTRIBUTES_MAX, checked_attributes
from skerry.agents.handlers import handlers_of
from skerry.agents.sdk import Agent, handles
from skerry.errors import UsageError
from skerry.routing.catalogue import Catalogue
from skerry.routing.pool import Candidate
from skerry.routing.task import WHERE_MAX, read_where


class Resizer(Agent):
    @handles("custom:resize", attributes={"quantization": "Q4_K_M", "dimensions": 384, "ratio": 1.5, "gpu": True})
    async def resize(self) -> None: ...

    @handles("custom:plain")
    async def plain(self) -> None: ...


def test_what_a_handler_declares_is_in_its_offer() -> None:
    handlers = handlers_of(Resizer())
    assert handlers["custom:resize"].offer.attributes == {"quantization": "Q4_K_M", "dimensions": 384, "ratio": 1.5, "gpu": True}
    assert handlers["custom:plain"].offer.attributes == {}


@pytest.mark.parametrize("pairs", [["quantization=q4*"], ["dimensions=384"], ["ratio=1.5"], ["gpu=true"], ["gpu=TRUE", "dimensions=38*"]])
def test_what_is_declared_can_be_asked_for(pairs: list[str]) -> None:
    offer = handlers_of(Resizer())["custom:resize"].offer
    catalogue = Catalogue()
    catalogue.set(b"n" * 32, "a", [Candidate("a", "a", b"n" * 32, offer.capability, True, 1 << 52, attributes=offer.attributes)])
    where = tuple(sorted(read_where(pairs).items()))
    assert len(catalogue.options("custom:*", where)) == 1
    assert catalogue.options("custom:*", (*where, ("dimensions", "512"))) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("quantization=Q4", "attributes is"),
        ({f"n{number}": 1 for number in range(ATTRIBUTES_MAX + 1)}, "attributes is"),
        ({7: 1}, "named 7"),
        ({"": 1}, "named ''"),
        ({"a b": 1}, "named 'a b'"),
        ({"a=b": 1}, "named 'a=b'"),
        ({"a,b": 1}, "named 'a,b'"),
        ({"x" * 65: 1}, "named 'xxx"),
        ({"size": None}, "size is None"),
        ({"size": [1]}, "size is"),
        ({"size": float("nan")}, "size is nan"),
        ({"size": 2**63}, "size is 9223"),
        ({"size": ""}, "size is ''"),
        ({"size": " 7 "}, "size is ' 7 '"),
        ({"size": "a\nb"}, "size is"),
        ({"size": "x" * 201}, "size is 'xxx"),
    ],
)
def test_what_can_not_be_asked_for_is_refused_where_it_is_written(given: Any, says: str) -> None:
    with pytest.raises(UsageError, match="@handles\\('custom:x'\\)") as caught:
        handles("custom:x", attributes=given)
    assert says in caught.value.message
    assert caught.value.hint


def test_one_request_can_ask_for_all_that_one_offer_has() -> None:
    assert ATTRIBUTES_MAX == WHERE_MAX
    given = {f"n{number}": number for number in range(ATTRIBUTES_MAX)}
    assert checked_attributes(given, where="here") == given
