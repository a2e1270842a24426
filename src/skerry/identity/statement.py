"""A signed statement: the one form in which anything is said for longer than a connection lasts.

The envelope is deterministic CBOR `{v, kind, name, author, formation, audience, stamp, expires, body}` inside a COSE_Sign1 under the
author's key, with `skerry/record/1` as external data. Records (`records/`) are statements with a table of kinds; grants are read
from here, because trust is needed before there are records. The hash covers the payload alone, so that nobody but the author can make
another "version" of a statement by changing its signature.

The rule: one author, one key, one form; what is not exactly so is refused with its reason.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from blake3 import blake3

from skerry.errors import Code, ProtocolError
from skerry.identity.codec import SIGNED_BYTES_MAX, decode, encode
from skerry.identity.keys import KEY_BYTES, KeyPair
from skerry.identity.sealed import Sealed, read, seal, verified
from skerry.identity.stamps import STAMP_MAX

AAD = b"skerry/record/1"
VERSION = 1
NAME_CHARACTERS_MAX = 200
AUDIENCE_NODES_MAX = 64  # named nodes; a wire has two
_FIELDS = ("v", "body", "kind", "name", "stamp", "author", "expires", "audience", "formation")  # in canonical order
_AUDIENCES = ("formation", "contacts", "public")
TIME_MS_MAX = 2**53  # beyond any date, and safe in JSON

Audience = str | tuple[bytes, ...]  # "formation", "contacts", "public", or the nodes that may have it


class Statement(NamedTuple):
    """What was said, and the very bytes in which it was.

    author, formation   32-byte public keys; stamp: see stamps.py; expires: Unix ms
    body                a map of plain values; an empty one is a tombstone: "this is gone"
    hash                BLAKE3 of the payload; signed: the COSE bytes as received
    """

    kind: str
    name: str
    author: bytes
    formation: bytes
    audience: Audience
    stamp: int
    expires: int
    body: dict[str, Any]
    hash: bytes
    signed: bytes

    @property
    def tombstone(self) -> bool:
        return not self.body

    @property
    def identity(self) -> tuple[bytes, str, str]:
        return (self.author, self.kind, self.name)


def state(
    key: KeyPair, *, kind: str, name: str, formation: bytes, audience: Audience, stamp: int, expires: int, body: dict[str, Any]
) -> Statement:
    """Say something: sign it under `key`."""
    payload = encode(
        {
            "v": VERSION,
            "kind": kind,
            "name": name,
            "author": key.public,
            "formation": formation,
            "audience": list(audience) if isinstance(audience, tuple) else audience,
            "stamp": stamp,
            "expires": expires,
            "body": body,
        }
    )
    signed = seal(payload, key, aad=AAD)
    return _from_payload(payload, signed)


def parse(signed: bytes, *, size_bytes_max: int = SIGNED_BYTES_MAX) -> Statement:
    """The statement in `signed`, its signature checked. Raises ProtocolError with the reason: nothing else gets in."""
    statement, sealed = parse_unverified(signed, size_bytes_max=size_bytes_max)
    if not verified(sealed, statement.author, aad=AAD):
        raise ProtocolError(f"the signature of the {statement.kind} record {statement.name!r} is not its author's", code="bad_signature")
    return statement


def parse_unverified(signed: bytes, *, size_bytes_max: int = SIGNED_BYTES_MAX) -> tuple[Statement, Sealed]:
    """Read without the costly check; for our own store, where only verified statements lie, and for benchmarks."""
    sealed = read(signed, size_bytes_max=size_bytes_max)
    return _from_payload(sealed.payload, signed), sealed


def _from_payload(payload: bytes, signed: bytes) -> Statement:
    value = decode(payload)
    if type(value) is not dict or tuple(value) != _FIELDS:
        raise _wrong("the fields", f"exactly {', '.join(sorted(_FIELDS))} are wanted")
    version, body, kind, name, stamp, author, expires, audience, formation = value.values()
    if type(version) is not int or version != VERSION:
        raise ProtocolError(f"a record of version {version!r}, where we know {VERSION}", code=Code.WRONG_VERSION, hint="upgrade this node")
    if type(kind) is not str or not 0 < len(kind) <= 32:
        raise _wrong("kind", "1 to 32 characters are wanted")
    if type(name) is not str or not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise _wrong("name", f"1 to {NAME_CHARACTERS_MAX} printable characters are wanted")
    if not _is_key(author):
        raise _wrong("author", _A_KEY)
    if not _is_key(formation):
        raise _wrong("formation", _A_KEY)
    if type(stamp) is not int or not 0 <= stamp <= STAMP_MAX:
        raise _wrong("stamp", "64 bits are wanted")
    if type(expires) is not int or not 0 <= expires <= TIME_MS_MAX:
        raise _wrong("expires", "Unix milliseconds are wanted")
    if type(body) is not dict:
        raise _wrong("body", "a map is wanted")
    if audience not in _AUDIENCES:
        audience = _named(audience)
    return Statement(kind, name, author, formation, audience, stamp, expires, body, blake3(payload).digest(), signed)


_A_KEY = "a public key of 32 bytes is wanted"
_ZERO_KEY = bytes(KEY_BYTES)


def _is_key(value: Any) -> bool:
    return type(value) is bytes and len(value) == KEY_BYTES and value != _ZERO_KEY


_FORMATION_BYTES = 44  # the last entry of every payload: its key, the head of a byte string, 32 bytes
_FOR_ALL = tuple(encode("audience") + encode(audience) for audience in _AUDIENCES)
_TRAILER_BYTES = 66  # the signature and its head
_ELEMENT_BYTES = 34  # a node id in a list, with its head


def is_for_all(signed: bytes) -> bool:
    """Whether a statement names no nodes as its audience, read off its end: canonical keys have one order, in which the audience is the
    last but one. For statements that were parsed once; `parse` takes a hundred times as long."""
    end = len(signed) - _TRAILER_BYTES - _FORMATION_BYTES
    if signed[end - _ELEMENT_BYTES : end - _ELEMENT_BYTES + 2] == b"\x58\x20":  # may be a list, and its last id may look like anything
        return isinstance(parse_unverified(signed)[0].audience, str)
    return signed.endswith(_FOR_ALL, 0, end)


def _named(value: Any) -> tuple[bytes, ...]:
    if type(value) is list and 0 < len(value) <= AUDIENCE_NODES_MAX and all(type(v) is bytes and len(v) == KEY_BYTES for v in value):
        return tuple(value)
    raise _wrong("audience", f"{', '.join(_AUDIENCES)} or up to {AUDIENCE_NODES_MAX} node ids are wanted")


def _wrong(field: str, wanted: str) -> ProtocolError:
    return ProtocolError(f"a record with a wrong {field}: {wanted}")
