"""Names of nodes."""

from __future__ import annotations

import pytest

from skerry.errors import UsageError
from skerry.node.settings import NAME_CHARACTERS_MAX, check_name


@pytest.mark.parametrize("name", ["a", "alpha-1", "a_b.c", "9", "Ünïcode", "x" * NAME_CHARACTERS_MAX, "_x"])
def test_names_that_may_be(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "-a", ".a", "a/b", "a~b", "a\n", "a\0", "x" * (NAME_CHARACTERS_MAX + 1), "a:b", "\u202eabc"]
)
def test_names_that_may_not(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert "--name" in caught.value.hint
    assert "\n" not in caught.value.message
