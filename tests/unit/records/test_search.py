"""Looking for agents."""

from __future__ import annotations

import pytest

from skerry.errors import UsageError
from skerry.records.card import AgentCard
from skerry.records.search import Wanted

CARD = AgentCard(
    "id",
    "greeter",
    b"",
    description="Says hello in Icelandic",
    skills=("greet", "Translate"),
    tags=("python", "Demo"),
    capabilities=("custom:greet", "inference:llama3:8b"),
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
        (Wanted(words="   "), True),
        (Wanted(skill="greet", tag="demo", words="hello", capability="custom:*"), True),
        (Wanted(skill="greet", tag="none"), False),
    ],
)
def test_all_that_is_asked_for_is_wanted(wanted: Wanted, found: bool) -> None:
    wanted.check()
    assert wanted.found_in(CARD) is found


@pytest.mark.parametrize(("field", "text"), [("skill", "x" * 201), ("words", "a\nb"), ("tag", "\x00")])
def test_a_query_that_is_none_names_its_field(field: str, text: str) -> None:
    with pytest.raises(UsageError, match=field):
        Wanted(**{field: text}).check()
