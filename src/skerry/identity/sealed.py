"""COSE_Sign1 (RFC 9052): sign exact bytes, verify the bytes received.

A sealed message is the untagged array `[protected, unprotected, payload, signature]` with the protected header exactly `{1: -8}`
(EdDSA) and an empty unprotected one. Its form is so narrow that it is read by position: any other header, length form or trailing
byte is another message and is refused.

The rule: what is verified are the bytes that travelled; nothing is encoded again to be checked.
"""

from __future__ import annotations

from typing import NamedTuple

from skerry.errors import Code, ProtocolError
from skerry.identity.codec import SIGNED_BYTES_MAX, encode
from skerry.identity.keys import SIGNATURE_BYTES, KeyPair, verify

_PROTECTED = b"\xa1\x01\x27"  # {1: -8}
_HEAD = b"\x84\x43" + _PROTECTED + b"\xa0"
_FRAMED_FROM = len(_HEAD)  # where the payload's own head stands
_SIGNATURE_HEAD = b"\x58\x40"
_TAIL_BYTES = len(_SIGNATURE_HEAD) + SIGNATURE_BYTES
_CONTEXT = b"\x84" + encode("Signature1") + encode(_PROTECTED)  # how every Sig_structure starts


class Sealed(NamedTuple):
    """The parts of a sealed message, read but not yet verified."""

    payload: bytes
    signature: bytes


def seal(payload: bytes, key: KeyPair, *, aad: bytes) -> bytes:
    """The COSE_Sign1 bytes of `payload`, signed for the purpose that `aad` names."""
    return _HEAD + encode(payload) + _SIGNATURE_HEAD + key.sign(_to_be_signed(payload, aad))


def assembled(payload: bytes, signature: bytes) -> bytes:
    """The bytes of a sealed message whose parts travelled apart. Nothing is checked here: `read` and `verified` do that."""
    return _HEAD + encode(payload) + _SIGNATURE_HEAD + signature


def read(data: bytes, *, size_bytes_max: int = SIGNED_BYTES_MAX) -> Sealed:
    """The parts, without a check of the signature. Raises ProtocolError where `data` is not exactly one sealed message."""
    if len(data) > size_bytes_max:
        raise ProtocolError(f"a signed message of {len(data)} bytes, where at most {size_bytes_max} are allowed", code=Code.TOO_LARGE)
    body_end = len(data) - _TAIL_BYTES
    if body_end <= _FRAMED_FROM or not data.startswith(_HEAD) or not data.startswith(_SIGNATURE_HEAD, body_end):
        raise ProtocolError("no COSE_Sign1 message with exactly the header {1: -8}")
    payload_from = _FRAMED_FROM + _HEAD_BYTES.get(data[_FRAMED_FROM], 1)
    payload = data[payload_from:body_end]
    if data[_FRAMED_FROM:payload_from] != _head_of(len(payload)):
        raise ProtocolError("the payload of a signed message has a wrong length")
    return Sealed(payload, data[body_end + 2 :])


def verified(sealed: Sealed, public: bytes, *, aad: bytes) -> bool:
    """Whether the message was signed by that key for that purpose."""
    return verify(public, _to_be_signed(sealed.payload, aad), sealed.signature)


def _to_be_signed(payload: bytes, aad: bytes) -> bytes:
    return b"".join((_CONTEXT, _head_of(len(aad)), aad, _head_of(len(payload)), payload))


_HEAD_BYTES = {0x58: 2, 0x59: 3, 0x5A: 5}  # of a byte string's CBOR head that starts so; all shorter ones have 1


def _head_of(length: int) -> bytes:
    """The CBOR head of a byte string: its one deterministic form."""
    if length < 24:
        return bytes((0x40 + length,))
    if length < 1 << 8:
        return bytes((0x58, length))
    if length < 1 << 16:
        return b"\x59" + length.to_bytes(2, "big")
    return b"\x5a" + length.to_bytes(4, "big")
