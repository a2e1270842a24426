"""Hypothesis strategies that many tests share: plain values, JSON values, and bytes that are almost right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import assume
from hypothesis import strategies as st

from skerry.errors import SkerryError

T = TypeVar("T")

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(-(2**64), 2**64 - 1)
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | TEXT | st.binary(max_size=40)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=15
)
MAPS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(TEXT, PLAIN, min_size=1, max_size=4)


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Valid bytes with something done to them: a bit turned, a piece lost, doubled, or put in."""
    data = bytearray(draw(valid))
    assume(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(("turn", "set", "cut", "lose", "put", "double"))):
            case "turn" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case "lose":
                del data[at : at + draw(st.integers(1, 8))]
            case "put":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


def outcome(decoder: Callable[[Any], T], data: Any) -> T | SkerryError:
    """What a decoder says: a value, or the one kind of error that it may raise. Anything else fails the test."""
    try:
        return decoder(data)
    except SkerryError as error:
        return error
