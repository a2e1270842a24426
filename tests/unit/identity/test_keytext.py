"""Public keys as text."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import UsageError
from skerry.identity.keytext import did_key, read_public_key
from tests.support.formation import MEMBER

# The test vector of the W3C's did:key method: an Ed25519 key and its DID.
KNOWN_DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
KNOWN_HEX = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"


def test_the_form_is_that_of_others() -> None:
    assert did_key(bytes.fromhex(KNOWN_HEX)) == KNOWN_DID
    assert read_public_key(KNOWN_DID).hex() == KNOWN_HEX


@given(st.binary(min_size=32, max_size=32).filter(any))
def test_any_key_comes_back_from_every_form(public: bytes) -> None:
    plain = base64.b64encode(public).decode()
    for text in (did_key(public), plain, f"ed25519:{plain}", plain.rstrip("="), public.hex()):
        assert read_public_key(text) == public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "did:key:",
        "did:key:z",
        "did:key:z0OIl",
        "did:web:example",
        KNOWN_DID[:-1],
        KNOWN_DID + "1" * 50,
        "did:key:z" + "z" * 90,
        base64.b64encode(bytes(32)).decode(),
        base64.b64encode(MEMBER.public[:31]).decode(),
        "ed25519:ed25519:" + base64.b64encode(MEMBER.public).decode(),
        "not base64 at all!",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"no public key|zeros"):
        read_public_key(text)
