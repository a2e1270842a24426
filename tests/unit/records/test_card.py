"""Cards: signed by the agent, and by nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skerry.errors import ProtocolError
from skerry.identity.codec import decode, encode
from skerry.identity.keys import agent_id
from skerry.identity.sealed import read, seal
from skerry.records.card import AAD, AgentCard, CardOffer, read_card, sign_card
from tests.support.formation import CLIENT, MEMBER

CARD = AgentCard(agent_id(MEMBER.public), "greeter", MEMBER.public, offers=(CardOffer("custom:greet", example=["Ada", b"\x00"]),))
SEALED = sign_card(CARD, MEMBER)[1]


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
