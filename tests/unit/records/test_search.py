"""Looking for agents."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.errors import UsageError
from skerry.records.card import AgentCard, CardOffer
from skerry.records.search import Wanted

CARD = AgentCard(
    "id",
    "greeter",
    b"",
    description="Says hello in Icelandic",
    skills=("greet", "Translate"),
    tags=("python", "Demo"),
    capabilities=("custom:greet", "inference:llama3:8b"),
    offers=(CardOffer("custom:greet", description="Shakes hands"),),
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), True),
        (Wanted(capability="custom:greet"), True),
        (Wanted(capability="custom:gree"), False),
        (Wanted(capability="inference:llama3*"), True),
        (Wanted(capability="inference:Llama3*"), False),
        (Wanted(capability="*"), True),
        (Wanted(skill="translate"), True),
        (Wanted(skill="trans"), False),
        (Wanted(tag="demo"), True),
        (Wanted(tag="greet"), False),
        (Wanted(words="hello ICELANDIC"), True),
        (Wanted(words="hello danish"), False),
        (Wanted(words="llama"), True),
        (Wanted(words="hands hello"), True),
        (Wanted(words="   "), True),
        (Wanted(skill="greet", tag="demo", words="hello", capability="custom:*"), True),
        (Wanted(skill="greet", tag="none"), False),
    ],
)
def test_all_that_is_asked_for_is_wanted(wanted: Wanted, found: bool) -> None:
    wanted.check()
    assert wanted.found_in(CARD) is found


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [("skill", "x" * 201, "too long"), ("words", "a\nb", "printable"), ("tag", "\x00", "printable"), ("capability", 7, "text")],
)
def test_a_query_that_is_none_names_its_field(field: str, text: Any, said: str) -> None:
    with pytest.raises(UsageError, match=f"{field}.*{said}"):
        Wanted(**{field: text}).check()
