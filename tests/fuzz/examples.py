"""An example of every message: a value for each field of a dataclass, from its type."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

import msgspec

_PLAIN: dict[Any, Any] = {str: "alpha", int: 7, float: 1.5, bool: True, bytes: b"payload", type(None): None, Any: {"a": [1, "b", b"c"]}}


def example(kind: Any) -> Any:
    """A value of that type, with everything in it that may be there."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, type) and (names := _fields(kind)) is not None:
        hints = typing.get_type_hints(kind)
        return kind(**{name: example(hints[name]) for name in names})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return example(next(one for one in inner if one is not type(None)))
    if origin is list:
        return [example(inner[0])]
    if origin is tuple:
        return tuple(example(one) for one in inner if one is not ...)
    if origin is dict:
        return {example(inner[0]): example(inner[1])}
    if origin is typing.Annotated:
        return example(inner[0])
    raise AssertionError(f"no example of a {kind}")


def _fields(kind: type) -> list[str] | None:
    """The names of a message's fields; None where it is none."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    return list(kind._fields) if issubclass(kind, tuple) and hasattr(kind, "_fields") else None  # a NamedTuple's
