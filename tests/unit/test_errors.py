"""The tables of errors are total, and the tree is what its docstring draws."""

from __future__ import annotations

import inspect
import re

import pytest

from skerry import errors
from skerry.errors import (
    CODES,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    NEVER_STARTED,
    UNKNOWN_CODE,
    Code,
    SkerryError,
    Unreachable,
    meaning,
)

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, SkerryError)]


def test_every_code_has_a_meaning_and_only_codes_have() -> None:
    assert set(CODES) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_a_meaning_is_a_failure_at_every_door(code: Code) -> None:
    assert meaning(code) is meaning(code.value) is CODES[code]
    assert 400 <= CODES[code].http <= 599
    assert CODES[code].exit in (EXIT_REFUSED, EXIT_USAGE, EXIT_UNREACHABLE)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code.value)
    assert code.name.lower() == code.value


@pytest.mark.parametrize("code", ["", "a_new_code", "Busy", "BUSY"])
def test_a_code_that_we_do_not_know_is_somebody_elses_no(code: str) -> None:
    assert meaning(code) == UNKNOWN_CODE


def test_what_never_started_is_known_codes() -> None:
    assert set(Code) >= NEVER_STARTED


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_code_and_keeps_what_it_was_told(kind: type[SkerryError]) -> None:
    error = kind("what happened")
    assert error.code in set(Code)
    assert (error.message, str(error), error.hint) == ("what happened", "what happened", "")
    told = kind("what", code="a_new_code", hint="next")
    assert (told.code, told.hint) == ("a_new_code", "next")
    assert kind("again").code == error.code, "a code belongs to its error, not to the class"


def test_an_outcome_is_known_unless_somebody_says_otherwise() -> None:
    assert not Unreachable("x").outcome_unknown
    assert Unreachable("x", outcome_unknown=True).outcome_unknown


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^ {4}(?:[├└]── )?(\w+) {2,}\S", errors.__doc__, re.MULTILINE)
    assert sorted(drawn) == sorted(one.__name__ for one in CLASSES)
