"""Requests and replies of verbs as bytes: a slotted dataclass on both sides, a CBOR map with its field names between.

Unknown fields are passed over, missing ones take their defaults, so that the last minor release and this one understand each other;
a field of a wrong type is refused by name.

The rule: a handler never sees a value whose type was not checked.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from skerry.errors import Code, ProtocolError
from skerry.identity.codec import pack
from skerry.identity.pieces import Body, has_few_items, unpack_array, unpack_body

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
MANY_BYTES = 1024 * 1024  # a larger message is one with large values in it ...
ITEMS_MAX = 1000  # ... and few things beside them
_AS_THEY_ARE = (bytes, bytearray, memoryview)


def pack_message(message: Any) -> bytes:
    """The CBOR of a dataclass."""
    return pack(msgspec.to_builtins(message, builtin_types=_AS_THEY_ARE))


def unpack_message(kind: type[T], body: Body, *, items_max: int = ITEMS_MAX) -> T:
    """The dataclass in a body. Raises ProtocolError(decode) that names the field."""
    _check_few(body, items_max)
    return convert(unpack_body(body), kind)


def convert(value: Any, kind: type[T]) -> T:
    """A decoded value as a `kind`. Raises ProtocolError(decode) that names the field."""
    try:
        return msgspec.convert(value, kind, builtin_types=_AS_THEY_ARE)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"a malformed {kind.__name__}: {error}", code=Code.DECODE, hint="is the other side of another version?"
        ) from None


def unpack_struct(kind: type[S], body: Body, *, large: str) -> S:
    """A message that travels as an array of its fields. A large payload, in the field `large`, stays where it came, as a view."""
    _check_few(body, ITEMS_MAX)
    value, view = unpack_array(body, large=kind.__struct_fields__.index(large))
    read = convert(value, kind)
    return read if view is None else msgspec.structs.replace(read, **{large: view})


def _check_few(body: Body, items_max: int) -> None:
    """Refuse what would take seconds and gigabytes to parse."""
    if len(body) > MANY_BYTES and not has_few_items(body, most=items_max):
        raise ProtocolError(f"a message of {len(body)} bytes in more than {items_max} pieces", code=Code.TOO_LARGE)
