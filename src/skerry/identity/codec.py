"""CBOR with limits: deterministic where bytes are signed, plain where they only travel.

`encode`/`decode` are the deterministic form (RFC 8949, 4.2.1) for everything that a signature or a hash covers; `decode` refuses any
other encoding of the same value, so that one statement has exactly one form. `pack`/`unpack` are for messages and payloads: any
well-formed CBOR, within limits. Both know plain values alone: no tags, no bignums, no undefined.

The rule: a size limit comes first, then a depth limit, then the parser; a peer never decides how much we allocate or recurse.
"""

from __future__ import annotations

from typing import Any, Never

import cbor2

from skerry.errors import Code, ProtocolError

DEPTH_MAX = 32  # cards and schemas need 12; 32 leaves room and keeps recursion far from the stack's end
SIGNED_BYTES_MAX = 64 * 1024  # nothing that is signed as one piece is larger; blobs go by hash
PAYLOAD_BYTES_MAX = 256 * 1024 * 1024  # one task's payload or result, unless settings say otherwise
INT_MAX = 2**64 - 1
INT_MIN = -(2**64)
Buffer = bytes | bytearray | memoryview
SHAPES_MAX = 1000  # shapes of maps that are remembered, each of up to ...
SHAPE_CHARACTERS_MAX = 200  # ... so many characters: 1 MiB in all
LARGE_BYTES = 64 * 1024  # above this a byte string is framed by hand: the library grows its buffer step by step

_KNOWN_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)


def _refuse_tag(*_: Any) -> Never:
    raise ProtocolError("the CBOR value has a tag, which Skerry does not use", hint="send plain values only")


_REFUSE_TAGS = dict.fromkeys(_KNOWN_TAGS, _refuse_tag)


def encode(value: Any) -> bytes:
    """The deterministic form of a plain value. Raises ProtocolError where the value is none."""
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBOREncodeError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"a value has no deterministic form: {error}", code=Code.BAD_PAYLOAD, hint=_PLAIN) from error


def decode(data: bytes, *, size_bytes_max: int = SIGNED_BYTES_MAX) -> Any:
    """A plain value from its deterministic form. Raises ProtocolError for anything else, with the reason."""
    if len(data) > size_bytes_max:
        raise ProtocolError(f"{len(data)} bytes where at most {size_bytes_max} are allowed", code=Code.TOO_LARGE)
    value = _parse(data)
    is_ordered = _check_plain(value)
    if cbor2.dumps(value, canonical=not is_ordered) != data:  # sorting takes three times as long as writing
        raise ProtocolError("the CBOR value is not in deterministic form", hint="encode it as RFC 8949 section 4.2.1 says")
    return value


def pack(value: Any) -> bytes:
    """CBOR of a plain value, for messages and payloads. Raises ProtocolError where the value is none."""
    if isinstance(value, bytes | bytearray) and len(value) > LARGE_BYTES:
        return b"\x5a" + len(value).to_bytes(4, "big") + value
    try:
        return cbor2.dumps(value)
    except (cbor2.CBOREncodeError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"a value can't be sent: {error}", code=Code.BAD_PAYLOAD, hint=_PLAIN) from error


def unpack(data: Buffer, *, size_bytes_max: int = PAYLOAD_BYTES_MAX) -> Any:
    """A plain value from any well-formed CBOR. Raises ProtocolError with the reason."""
    if len(data) > size_bytes_max:
        raise ProtocolError(f"{len(data)} bytes where at most {size_bytes_max} are allowed", code=Code.TOO_LARGE)
    return _parse(data)


_PLAIN = "use None, booleans, numbers, text, bytes, lists and maps with text keys"


def _parse(data: Buffer) -> Any:
    try:
        return cbor2.loads(
            data,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,  # numbers and arrays as keys can be made to collide: minutes of work for a few KiB
            semantic_decoders=_REFUSE_TAGS,
            tag_hook=_refuse_tag,
        )
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = error.__cause__ if isinstance(error.__cause__, ProtocolError) else error
        raise ProtocolError(f"no valid CBOR: {reason}", code=Code.DECODE) from error


def _check_plain(value: Any) -> bool:
    """Refuse what CBOR can say and Skerry does not: bignums, undefined, simple values, map keys that are no text. True: whatever its maps
    hold stands in order already, and nothing in it has several lengths to choose from, as floats have.

    The parser makes exactly these types and none derived from them; most items are scalars, and cost no call.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is float:
        return False
    if kind is list:
        is_ordered = True
        for item in value:
            if type(item) not in _SCALARS and not _check_plain(item):
                is_ordered = False
        return is_ordered
    if kind is dict:
        is_ordered = _are_ordered(tuple(value))
        for item in value.values():
            if type(item) not in _SCALARS and not _check_plain(item):
                is_ordered = False
        return is_ordered
    raise ProtocolError(f"the CBOR value holds a {kind.__name__}", hint=_PLAIN)


def _are_ordered(keys: tuple[Any, ...]) -> bool:
    """Whether map keys are text, in the order of their encodings: the shorter first."""
    if keys in _ORDERED:
        return True
    for key in keys:
        if type(key) is not str:
            raise ProtocolError(f"the map key {key!r} is no text")
    encoded = [key.encode() for key in keys]
    is_ordered = encoded == sorted(encoded, key=lambda key: (len(key), key))
    if is_ordered and sum(map(len, keys)) <= SHAPE_CHARACTERS_MAX and len(_ORDERED) < SHAPES_MAX:
        _ORDERED.add(keys)
    return is_ordered


_ORDERED: set[tuple[str, ...]] = set()  # seen to be: what nodes say has a few dozen shapes
_SCALARS = frozenset((type(None), bool, int, str, bytes))  # whole numbers fit 64 bits: larger ones have a tag, and tags are refused
