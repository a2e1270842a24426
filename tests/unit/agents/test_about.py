"""What an agent says of itself as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.agents.about import About, checked_about, combined
from skerry.agents.sdk import Agent, about_of, handles
from skerry.errors import UsageError


class Greeter(Agent):
    """Says hello
    to whoever asks.

    And more that nobody needs to know.
    """

    version = "2.1"
    skills = ("small talk",)
    tags = ["demo"]  # type: ignore[assignment] # noqa: RUF012 - a list is as good

    @handles("custom:greet", description="greets")
    def greet(self) -> str:
        return "hello"


class Silent(Agent):
    pass


def test_a_class_says_it_in_its_attributes() -> None:
    assert about_of(Greeter) == About("2.1", "Says hello to whoever asks.", ("small talk",), ("demo",))


def test_one_that_says_nothing_does_not_speak_with_another_class_s_words() -> None:
    assert about_of(Silent) == About()


def test_what_is_chosen_comes_before_what_the_code_says() -> None:
    said = combined(
        about_of(Greeter), About(description="hi", tags=("mine", "demo")), runtime="python", offered=["greet"], described=["greets"]
    )
    assert said == About("2.1", "hi", ("small talk", "greet"), ("python", "demo", "mine"))


def test_what_nobody_says_follows_from_what_is_offered() -> None:
    said = combined(About(), About(), runtime="onnx", offered=["a", "b", "a"], described=["", "embeds text"])
    assert said == About("1", "embeds text", ("a", "b"), ("onnx",))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("skills", "greet"),
        ("skills", ("",)),
        ("skills", (" x",)),
        ("tags", tuple(map(str, range(65)))),
        ("tags", (7,)),
        ("version", 2),
        ("version", "x" * 101),
        ("description", "\x07"),
        ("description", "x" * 2001),
    ],
)
def test_what_does_not_fit_is_named(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field):
        checked_about(About(**{field: value}))
    with pytest.raises(UsageError, match=rf"Wrong\.{field}"):
        type("Wrong", (Agent,), {field: value})
