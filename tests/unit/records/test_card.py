"""Cards: signed by the agent, and by nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skerry.errors import ProtocolError
from skerry.identity.codec import decode, encode
from skerry.identity.keys import agent_id
from skerry.identity.sealed import read, seal
from skerry.records.card import AAD, AgentCard, CardOffer, card_from_json, card_in, card_to_json, read_card, sealed_form, sign_card
from tests.support.formation import CLIENT, MEMBER, OPERATOR
from tests.support.replicas import said

CARD = AgentCard(
    agent_id(MEMBER.public),
    "greeter",
    MEMBER.public,
    endpoint=f"skerry://{OPERATOR.public.hex()}/greeter",
    skills=("greet",),
    offers=(CardOffer("custom:greet", example=["Ada", b"\x00"]),),
)
SEALED = sign_card(CARD, MEMBER)[1]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def resigned(**changes: Any) -> bytes:
    return seal(encode({**decode(read(SEALED).payload), **changes}), MEMBER, aad=AAD)


def test_a_card_comes_back_with_its_signature() -> None:
    signed, sealed = sign_card(CARD, MEMBER)
    assert read_card(sealed) == signed == replace(CARD, manifest_signature=signed.manifest_signature)
    assert len(signed.manifest_signature) == 64


def test_it_can_only_be_signed_with_its_own_key() -> None:
    for card in (CARD, replace(CARD, public_key=CLIENT.public), replace(CARD, id=agent_id(CLIENT.public))):
        with pytest.raises(ProtocolError):
            sign_card(card, CLIENT)


@pytest.mark.parametrize(
    "sealed",
    [
        b"",
        SEALED[:-1],
        SEALED[:-1] + bytes([SEALED[-1] ^ 1]),
        SEALED.replace(b"greeter", b"greetor"),
        seal(read(SEALED).payload, CLIENT, aad=AAD),
        seal(read(SEALED).payload, MEMBER, aad=b"skerry/record/1"),
        resigned(id=agent_id(CLIENT.public)),
        resigned(public_key=CLIENT.public),
        resigned(public_key=b""),
        resigned(name=7),
        resigned(tags=[7]),
        resigned(offers=[{"idempotent": True}]),
        resigned(offers=[{"capability": "web", "payload": "text"}]),
        resigned(created_at="today"),
        seal(encode([1]), MEMBER, aad=AAD),
        seal(encode({}), MEMBER, aad=AAD),
    ],
)
def test_any_other_card_is_none(sealed: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_card(sealed)


def test_a_card_can_not_bring_its_own_signature_field() -> None:
    assert read_card(resigned(manifest_signature=b"mine")).manifest_signature != b"mine"


def test_a_later_release_may_say_more() -> None:
    assert read_card(resigned(more={"x": 1})).name == "greeter"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 201),
        ("name", "a\nb"),
        ("version", ""),
        ("protocol", "\x00"),
        ("skills", [""]),
        ("tags", ["x" * 201]),
        ("capabilities", ["x"] * 1001),
        ("models", ["\x1b[2J"]),
        ("endpoint", "http://localhost:8000"),
        ("endpoint", "skerry://me/greeter"),
        ("description", "x" * 4001),
        ("created_at", -1),
        ("updated_at", 2**60),
    ],
)
def test_a_field_out_of_its_bounds_is_named(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=f"wrong {field}"):
        read_card(resigned(**{field: value}))


def test_the_signature_covers_every_field() -> None:
    """All that decides which of two cards is believed, too: nothing can be changed on the way."""
    changes: dict[str, Any] = {
        "id": agent_id(CLIENT.public),
        "name": "other",
        "public_key": CLIENT.public,
        "version": "9",
        "endpoint": f"skerry://{MEMBER.public.hex()}/greeter",
        "description": "other",
        "protocol": "other/1",
        "skills": ["other"],
        "tags": ["other"],
        "capabilities": ["custom:other"],
        "models": ["other"],
        "offers": [],
        "created_at": 1,
        "updated_at": 2**50,
    }
    body = decode(read(SEALED).payload)
    assert set(changes) == set(body)
    for field, value in changes.items():
        forged = seal(encode({**body, field: value}), CLIENT, aad=AAD)
        with pytest.raises(ProtocolError):
            read_card(forged[:-64] + SEALED[-64:])


# --- JSON -------------------------------------------------------------------------------------------------------------------------


def test_a_card_comes_back_from_json() -> None:
    signed, sealed = sign_card(CARD, MEMBER)
    shown = card_to_json(signed)
    assert shown["public_key"].startswith("did:key:z6Mk")
    assert card_from_json(shown) == signed
    assert sealed_form(signed) == sealed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 7),
        ("name", None),
        ("public_key", "nobody"),
        ("manifest_signature", "!"),
        ("manifest_signature", ""),
        ("manifest_signature", None),
        ("tags", "python"),
        ("offers", [{"capability": "web", "example": {"$bytes": "!"}}]),
        ("updated_at", "today"),
        pytest.param("updated_at", 10**400, id="a number of 400 digits"),
        ("name", "\ud800"),
        ("description", "\ud800"),
        ("offers", [{"capability": "web", "description": "\ud800"}]),
        ("offers", [{"capability": "web", "example": 10**30}]),
        pytest.param("offers", [{"capability": "web", "example": deep(5000)}], id="5,000 deep"),
    ],
)
def test_json_that_is_no_card_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=field):
        card_from_json({**card_to_json(read_card(SEALED)), field: value})


@pytest.mark.parametrize(("field", "value"), [("name", "other"), ("updated_at", 2**50), ("tags", ["x"]), ("description", "better")])
def test_json_that_was_changed_is_no_card(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match="signature"):
        card_from_json({**card_to_json(read_card(SEALED)), field: value})


# --- in a record ------------------------------------------------------------------------------------------------------------------


def test_a_record_carries_the_card_of_its_own_name_and_node() -> None:
    carries = {"card": SEALED, "status": "available"}
    assert card_in(said(OPERATOR, name=CARD.id, body=carries)) == read_card(SEALED)
    assert card_in(said(OPERATOR, name=CARD.id, body={})) is None
    with pytest.raises(ProtocolError, match="id"):
        card_in(said(OPERATOR, name="other", body=carries))
    with pytest.raises(ProtocolError, match="endpoint"):
        card_in(said(MEMBER, name=CARD.id, body=carries))
    with pytest.raises(ProtocolError, match="has a card"):
        card_in(said(OPERATOR, name=CARD.id, body={"status": "available"}))
