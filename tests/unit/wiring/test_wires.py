"""Halves of wires: what a node may say of its own agent, field by field, and what follows from what both sides say."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Code, ProtocolError
from skerry.identity.keys import KeyPair, agent_id
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement, state
from skerry.wiring.wires import (
    KIND,
    PART_CHARACTERS_MAX,
    End,
    Half,
    Step,
    check_comms_name,
    comms_name,
    half_body,
    key_text,
    next_step,
    peer_id,
    read_half,
    wire_name,
)
from tests.support.formation import FORMATION, MEMBER, NOW_MS, OPERATOR, STRANGER, key

DESK, BOOK = key(0x0701), key(0x0702)


def end(agent: KeyPair, node: KeyPair, name: str) -> End:
    return End(agent_id(agent.public), node.public, FORMATION, name, agent.public)


OWN, PEER = end(DESK, OPERATOR, "alpha/Desk/left"), end(BOOK, MEMBER, "beta/Book/right")


def said(
    body: dict[str, Any] | None = None, *, by: KeyPair = OPERATOR, name: str = "", kind: str = KIND, formation: bytes = FORMATION
) -> Statement:
    return state(
        by,
        kind=kind,
        name=name or wire_name(OWN.agent, PEER.agent),
        formation=formation,
        audience="formation",
        stamp=stamp_at(NOW_MS),
        expires=NOW_MS + 1000,
        body=half_body(OWN, PEER) if body is None else body,
    )


def wrong(change: Callable[[dict[str, Any]], None]) -> Statement:
    body = copy.deepcopy(half_body(OWN, PEER))
    change(body)
    return said(body)


def test_a_half_is_read_as_it_was_said() -> None:
    statement = said()
    assert read_half(statement) == Half(OWN, PEER, stamp_at(NOW_MS), statement.signed)
    assert OWN.short_name == "left"


FIELDS = {"agent": "", "node": b"", "formation": b"", "name": "", "key": b""}


@pytest.mark.parametrize("side", ["own", "peer"])
@pytest.mark.parametrize("field", sorted(FIELDS))
@pytest.mark.parametrize("value", [None, 7, [], "x", "a/b/c", b"", b"short", bytes(32), b"x" * 33, "z" * 32])
def test_every_field_that_is_wrong_is_refused_by_name(side: str, field: str, value: object) -> None:
    def change(body: dict[str, Any]) -> None:
        body[side][field] = value

    if field == "name" and value == "a/b/c":
        read_half(wrong(change))
        return
    with pytest.raises(ProtocolError) as refused:
        read_half(wrong(change))
    assert refused.value.code == (Code.INVALID_COMMS_NAME if field == "name" else Code.PEER_SPEC)
    if refused.value.code == Code.PEER_SPEC:
        assert f"{side}.{field}" in refused.value.message or f"{side}.agent" in refused.value.message


@pytest.mark.parametrize("side", ["own", "peer"])
@pytest.mark.parametrize("field", sorted(FIELDS))
def test_a_field_that_lacks_or_is_too_many_is_refused(side: str, field: str) -> None:
    with pytest.raises(ProtocolError, match=f"{side}: agent, node"):
        read_half(wrong(lambda body: body[side].pop(field)))
    with pytest.raises(ProtocolError, match=f"{side}: agent, node"):
        read_half(wrong(lambda body: body[side].update(more=1)))
    for body in ({}, {"own": half_body(OWN, PEER)["own"]}, {**half_body(OWN, PEER), "third": 1}):
        with pytest.raises(ProtocolError, match="own and peer") as refused:
            read_half(said(body))
        assert refused.value.code == Code.PEER_SPEC


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (said(by=MEMBER), "own.node"),
        (said(by=STRANGER), "own.node"),
        (said(formation=STRANGER.public), "own.node"),
        (said(kind="node"), "kind"),
        (said(name=wire_name(PEER.agent, OWN.agent)), "name"),
        (said(name="x"), "name"),
        (said(half_body(OWN, OWN), name=wire_name(OWN.agent, OWN.agent)), "itself"),
    ],
)
def test_a_half_by_somebody_else_or_of_another_wire_is_refused(statement: Statement, named: str) -> None:
    with pytest.raises(ProtocolError, match=named) as refused:
        read_half(statement)
    assert refused.value.code == Code.PEER_SPEC


def test_fix_a_descriptor_is_signed_by_its_node() -> None:
    """SPEC 4: a key, an id and a node that some other node states of an agent are believed of nobody."""
    with pytest.raises(ProtocolError):
        read_half(said(half_body(PEER, OWN), name=wire_name(PEER.agent, OWN.agent)))
    assert read_half(said(half_body(PEER, OWN), name=wire_name(PEER.agent, OWN.agent), by=MEMBER)).own == PEER


def test_what_follows_from_what_both_sides_say() -> None:
    assert {(a, b): next_step(has_stood=a, theirs=b) for a in (False, True) for b in (False, True)} == {
        (False, False): Step.COMPLETE,
        (False, True): Step.STANDS,
        (True, False): Step.GIVE_UP,
        (True, True): Step.STANDS,
    }


@given(st.text(max_size=100), st.text(max_size=100), st.text(max_size=100))
def test_a_comms_name_that_is_made_has_three_parts(node: str, role: str, agent: str) -> None:
    made = comms_name(node, role, agent)
    parts = made.split("/")
    assert len(parts) == 3
    assert all(0 < len(part) <= PART_CHARACTERS_MAX for part in parts)
    if made.isprintable():
        assert check_comms_name(made) == made


@pytest.mark.parametrize("name", ["", "a", "a/b", "a/b/", "/b/c", "a//c", "a/b/c/d", "a/b/" + "c" * 65, "a/b\n/c", None, 7, b"a/b/c"])
def test_what_is_no_comms_name_is_refused(name: object) -> None:
    with pytest.raises(ProtocolError) as refused:
        check_comms_name(name)
    assert refused.value.code == Code.INVALID_COMMS_NAME


def test_a_peer_id_is_the_uuid_of_the_key() -> None:
    assert uuid.UUID(peer_id(OWN.key)).version == 5
    assert peer_id(OWN.key) != peer_id(PEER.key)
    assert key_text(bytes(32)) == "A" * 43 + "="
