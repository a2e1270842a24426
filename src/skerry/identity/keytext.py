"""Public keys as text: `did:key:z6Mk...` as cards show them, hex and base64 as others write them.

A `did:key` (W3C) of an Ed25519 key is the multibase (`z`: base58btc) of the multicodec 0xed01 and the 32 bytes. The other forms are
`keys.parse_public_key`'s.

The rule: what is written is read back as the same key; anything else is refused with the forms that are taken.
"""

from __future__ import annotations

from skerry.errors import UsageError
from skerry.identity.keys import KEY_BYTES, parse_public_key

DID_KEY = "did:key:z"
_MULTICODEC = b"\xed\x01"
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # base58btc: without 0, O, I and l
TEXT_CHARACTERS_MAX = 100  # characters; the longest form has 56


def did_key(public: bytes) -> str:
    """The key as a DID."""
    number = int.from_bytes(_MULTICODEC + public, "big")
    digits = ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return DID_KEY + digits


def read_public_key(text: str) -> bytes:
    """The 32 bytes of a key that was written as a DID, in hex or as base64. Raises UsageError."""
    if not text.startswith("did:"):
        return parse_public_key(text[:TEXT_CHARACTERS_MAX])
    found = _from_did(text) if len(text) <= TEXT_CHARACTERS_MAX else b""
    if len(found) != KEY_BYTES or not any(found):
        raise UsageError(f"{text[:70]!r} is no public key", hint="write did:key:z6Mk..., or 32 bytes in base64")
    return found


def _from_did(text: str) -> bytes:
    if not text.startswith(DID_KEY):
        return b""
    number = 0
    for character in text.removeprefix(DID_KEY):
        digit = _ALPHABET.find(character)
        if digit < 0:
            return b""
        number = number * len(_ALPHABET) + digit
    size = len(_MULTICODEC) + KEY_BYTES
    whole = number.to_bytes(size, "big") if number.bit_length() <= 8 * size else b""
    return whole.removeprefix(_MULTICODEC) if whole.startswith(_MULTICODEC) else b""
