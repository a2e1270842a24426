"""COSE_Sign1 in exactly one form."""

from __future__ import annotations

import cbor2
import pytest

from skerry.errors import Code, ProtocolError
from skerry.identity.codec import SIGNED_BYTES_MAX
from skerry.identity.keys import SIGNATURE_BYTES
from skerry.identity.sealed import read, seal, verified
from tests.support.formation import MEMBER

AAD = b"purpose"


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 60_000])
def test_it_is_cose_as_others_read_it(size: int) -> None:
    whole = seal(bytes(size), MEMBER, aad=AAD)
    protected, unprotected, payload, signature = cbor2.loads(whole)
    assert (cbor2.loads(protected), unprotected, payload) == ({1: -8}, {}, bytes(size))
    to_be_signed = cbor2.dumps(["Signature1", protected, AAD, payload])
    assert signature == MEMBER.sign(to_be_signed)
    assert cbor2.dumps([protected, unprotected, payload, signature]) == whole
    sealed = read(whole)
    assert sealed.payload == bytes(size)
    assert verified(sealed, MEMBER.public, aad=AAD)


def _message(
    *,
    protected: bytes = b"\xa1\x01\x27",
    unprotected: object = None,
    payload: object = b"payload",
    signature: bytes = bytes(SIGNATURE_BYTES),
) -> bytes:
    return cbor2.dumps([protected, unprotected or {}, payload, signature])


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("nothing", b""),
        ("a tag", b"\xd2" + _message()),
        ("another algorithm", _message(protected=b"\xa1\x01\x26")),
        ("no protected header", _message(protected=b"")),
        ("one more protected field", _message(protected=b"\xa2\x01\x27\x04\x41a")),
        ("an unprotected header", _message(unprotected={4: b"kid"})),
        ("a payload elsewhere", _message(payload=None)),
        ("a payload of text", _message(payload="payload")),
        ("a payload that is an array", _message(payload=[1, 2])),
        ("a short signature", _message(signature=bytes(63))),
        ("a long signature", _message(signature=bytes(65))),
        ("a trailing byte", _message() + b"\x00"),
        ("a byte before it", b"\x00" + _message()),
        ("a longer head", b"\x98\x04" + _message()[1:]),
        ("a longer length of the payload", _message().replace(b"\x47payload", b"\x58\x07payload")),
        ("a wrong length of the payload", _message().replace(b"\x47payload", b"\x46payload")),
        ("an indefinite payload", _message().replace(b"\x47payload", b"\x5f\x47payload\xff")),
    ],
)
def test_anything_else_is_another_message(what: str, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)
    assert read(_message()).payload == b"payload", what


def test_size_comes_first() -> None:
    with pytest.raises(ProtocolError) as caught:
        read(seal(bytes(SIGNED_BYTES_MAX), MEMBER, aad=AAD))
    assert caught.value.code == Code.TOO_LARGE
    with pytest.raises(ProtocolError):
        read(seal(b"payload", MEMBER, aad=AAD), size_bytes_max=50)
