"""The envelope: exactly these fields, of exactly these types, under exactly one key."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.errors import Code, ProtocolError
from skerry.identity.codec import decode, encode
from skerry.identity.sealed import read, seal
from skerry.identity.statement import AAD, AUDIENCE_NODES_MAX, NAME_CHARACTERS_MAX, TIME_MS_MAX, parse, parse_unverified
from tests.support.formation import MEMBER, NOW_MS, OPERATOR
from tests.support.replicas import said

GOOD: dict[str, Any] = decode(read(said().signed).payload)


def signed(value: Any) -> bytes:
    return seal(encode(value), OPERATOR, aad=AAD)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 0),
        ("v", 2),
        ("v", True),
        ("v", 1.0),
        ("v", "1"),
        ("kind", ""),
        ("kind", "x" * 33),
        ("kind", b"agent"),
        ("name", ""),
        ("name", "x" * (NAME_CHARACTERS_MAX + 1)),
        ("name", "a\nb"),
        ("name", "a\u202eb"),
        ("name", 7),
        ("author", bytes(32)),
        ("author", bytes(31)),
        ("author", "text"),
        ("formation", bytes(32)),
        ("formation", b"x" * 33),
        ("audience", "everybody"),
        ("audience", ""),
        ("audience", []),
        ("audience", [b"short"]),
        ("audience", ["formation"]),
        ("audience", [b"x" * 32] * (AUDIENCE_NODES_MAX + 1)),
        ("audience", None),
        ("audience", {}),
        ("stamp", -1),
        ("stamp", 1.0),
        ("stamp", True),
        ("expires", -1),
        ("expires", TIME_MS_MAX + 1),
        ("expires", None),
        ("body", None),
        ("body", []),
        ("body", "text"),
    ],
)
def test_a_field_that_can_not_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(signed({**GOOD, field: value}))
    assert caught.value.code == (Code.WRONG_VERSION if field == "v" else Code.DECODE)


@pytest.mark.parametrize("field", GOOD)
def test_a_field_that_is_missing_is_refused(field: str) -> None:
    with pytest.raises(ProtocolError):
        parse(signed({name: value for name, value in GOOD.items() if name != field}))


@pytest.mark.parametrize("value", [{**GOOD, "more": 1}, [], "text", None, list(GOOD.values())])
def test_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        parse(signed(value))


def test_only_its_author_signs_it() -> None:
    forged = seal(encode(GOOD), MEMBER, aad=AAD)
    with pytest.raises(ProtocolError) as caught:
        parse(forged)
    assert caught.value.code == "bad_signature"
    assert parse_unverified(forged)[0].author == OPERATOR.public
    with pytest.raises(ProtocolError):
        parse(seal(encode(GOOD), OPERATOR, aad=b"skerry/card/1"))


def test_the_hash_is_the_payloads_alone() -> None:
    """So that a relay can't make "another" record of the same one by giving it another signature."""
    forged = parse_unverified(seal(encode(GOOD), MEMBER, aad=AAD))[0]
    good = parse(said().signed)
    assert forged.hash == good.hash
    assert forged.signed != good.signed


def test_a_tombstone_is_an_empty_body() -> None:
    assert parse(said(body={}).signed).tombstone
    assert not parse(said().signed).tombstone
    assert parse(said().signed).identity == (OPERATOR.public, "agent", "one")
    assert parse(said().signed).expires > NOW_MS
