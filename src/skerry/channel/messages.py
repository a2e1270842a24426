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
from skerry.identity.pieces import Body, unpack_array, unpack_body

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
_AS_THEY_ARE = (bytes, bytearray, memoryview)


def pack_message(message: Any) -> bytes:
    """The CBOR of a dataclass."""
    return pack(msgspec.to_builtins(message, builtin_types=_AS_THEY_ARE))


def unpack_message(kind: type[T], body: Body) -> T:
    """The dataclass in a body. Raises ProtocolError(decode) that names the field."""
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
    value, view = unpack_array(body, large=kind.__struct_fields__.index(large))
    read = convert(value, kind)
    return read if view is None else msgspec.structs.replace(read, **{large: view})
