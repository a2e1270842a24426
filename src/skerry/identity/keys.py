"""Ed25519 pairs and the ids that are made of them.

A node's id *is* its public key; a formation's id is the public key of its root key; an agent's id derives from the agent's public
key. Inside the program ids of nodes and formations are the 32 raw bytes, at the doors their hex; people see the first 10 characters.

The rule: whoever shows an id can prove it, and nobody else can.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import NewType

import nacl.bindings
import nacl.exceptions
from blake3 import blake3

from skerry.errors import UsageError

NodeId = NewType("NodeId", bytes)
FormationId = NewType("FormationId", bytes)
AgentId = NewType("AgentId", str)

KEY_BYTES = 32
SIGNATURE_BYTES = 64
SHORT_CHARACTERS = 10
_AGENT_DOMAIN = b"skerry/agent/1:"
AGENT_ID_BYTES = 16  # 128 bits: nobody finds a second key for an id


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 pair, from its 32-byte seed. The seed never shows in a repr."""

    public: bytes
    _secret: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> KeyPair:
        if len(seed) != KEY_BYTES:
            raise UsageError(f"a key's seed has {KEY_BYTES} bytes, not {len(seed)}", hint="restore the key file from a backup")
        public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        return cls(public, secret)

    @property
    def seed(self) -> bytes:
        return self._secret[:KEY_BYTES]

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return nacl.bindings.crypto_sign(message, self._secret)[:SIGNATURE_BYTES]


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is that key's over `message`. Wrong sizes are simply false."""
    if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def agent_id(public: bytes) -> AgentId:
    """32 hex characters: the first 16 bytes of BLAKE3("skerry/agent/1:" + public key)."""
    return AgentId(blake3(_AGENT_DOMAIN + public).digest()[:AGENT_ID_BYTES].hex())


def short(identity: bytes | str) -> str:
    """The form for people: the first 10 characters of the hex."""
    text = identity if isinstance(identity, str) else identity.hex()
    return text[:SHORT_CHARACTERS]


def parse_id(text: str) -> bytes:
    """32 bytes from 64 hex characters. Raises UsageError for anything else, and for the zero key."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES or len(text) != 2 * KEY_BYTES:
        raise UsageError(f"{text[:70]!r} is no id: 64 hex characters are wanted", hint="copy the id from `skerry node list -o json`")
    if not any(raw):
        raise UsageError("the id is all zeros, which is nobody's key", hint="copy the id from `skerry node list -o json`")
    return raw


def parse_public_key(text: str) -> bytes:
    """A key as people hand it on: an id in hex, or base64 with or without `ed25519:`. Raises UsageError, also for the zero key."""
    bare = text.strip().removeprefix("ed25519:")
    if len(bare) == 2 * KEY_BYTES:
        return parse_id(bare)
    try:
        raw = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise UsageError(f"{text[:70]!r} is no public key", hint="give 64 hex characters, or 32 bytes in base64")
    if not any(raw):
        raise UsageError("the key is all zeros, which is nobody's", hint="copy the id from `skerry formation show` at the contact's")
    return raw
