"""What tells two offers of one capability apart: plain values with names, which callers can ask for (`--where quantization=Q4*`).

The rule: what is declared can be asked for, in every form in which people ask, and is checked where it is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from skerry.errors import UsageError

Attributes = dict[str, str | int | float | bool]

ATTRIBUTES_MAX = 16  # of one offer: as many as one request may ask for
NAME_CHARACTERS_MAX = 64
TEXT_CHARACTERS_MAX = 200
_APART = frozenset("=,*")  # what stands between names, values and pairs where people ask


def checked_attributes(given: Any, *, where: str) -> Attributes:
    """A copy. Raises UsageError that names the attribute; `where`: whose they are, for people."""
    if not isinstance(given, Mapping) or len(given) > ATTRIBUTES_MAX:
        raise UsageError(
            f"{where}: attributes is {given!r}"[:200], hint=f'write attributes={{"quantization": "Q4"}}, up to {ATTRIBUTES_MAX} of them'
        )
    for name, value in given.items():
        if not _is_name(name):
            raise UsageError(f"{where}: an attribute is named {name!r}"[:200], hint="name it without spaces and without = , *")
        if not _is_plain(value):
            raise UsageError(
                f"{where}: the attribute {name} is {value!r}"[:200],
                hint=f"give it a number, True or False, or text of up to {TEXT_CHARACTERS_MAX} printable characters",
            )
    return dict(given)


def _is_name(name: Any) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name) <= NAME_CHARACTERS_MAX
        and name.isprintable()
        and not any(c.isspace() or c in _APART for c in name)
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= TEXT_CHARACTERS_MAX and value.isprintable() and value == value.strip()
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and -(2**63) <= value < 2**63
