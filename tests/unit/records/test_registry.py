"""The registry: every card that a record vouches for, and no other."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from skerry.errors import ProtocolError, Refused, UsageError
from skerry.identity.keys import KeyPair, agent_id
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement, state
from skerry.records import registry as registries
from skerry.records.card import AgentCard, sealed_form
from skerry.records.record import TOMBSTONE_MS, Refusal
from skerry.records.registry import STRANGERS_EACH_MAX, AgentRegistry
from tests.support.federation import card_at, new_key


async def records_of(registry: AgentRegistry) -> list[bytes]:
    return registry.holdings.shared.page("", contact=b"", limit=200)[0]


async def told(registry: AgentRegistry, other: AgentRegistry, *, source: str = "") -> list[str]:
    outcomes = [registry.holdings.take(signed, source=source) for signed in await records_of(other)]
    return [outcome.reason.value if isinstance(outcome, Refusal) else "" for outcome in outcomes]


async def test_a_card_registers_at_its_own_node() -> None:
    registry = AgentRegistry()
    card = card_at(registry.node)
    assert await registry.register_agent(card) == card
    assert await registry.register_agent(sealed_form(card)) == card
    assert await registry.list_agents() == [card]
    await registry.remove_agent(card.id)
    assert await registry.list_agents() == []


async def test_a_card_whose_signature_is_missing_or_wrong_never_enters() -> None:
    registry = AgentRegistry()
    card = card_at(registry.node)
    wrong = [
        replace(card, manifest_signature=b""),
        replace(card, manifest_signature=bytes(64)),
        replace(card, name="other"),
        replace(card, updated_at=card.updated_at + 1),
        replace(card, public_key=new_key().public),
        replace(card, id=agent_id(new_key().public)),
    ]
    for one in wrong:
        with pytest.raises(ProtocolError):
            await registry.register_agent(one)
    assert await registry.list_agents() == []


@pytest.mark.parametrize("value", [7.5, None, object(), "\ud800", math.nan, 10**400], ids=str)
@pytest.mark.parametrize("field", [one.name for one in fields(AgentCard)])
async def test_a_card_with_a_field_of_another_type_is_refused_by_its_name(field: str, value: Any) -> None:
    registry = AgentRegistry()
    with pytest.raises(ProtocolError, match=field):
        await registry.register_agent(replace(card_at(registry.node), **{field: value}))


@pytest.mark.parametrize("value", [None, 7, "card", {}, b"", b"\x00"], ids=str)
async def test_what_is_no_card_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        await AgentRegistry().register_agent(value)
    with pytest.raises(Refused, match="registered"):
        await AgentRegistry().remove_agent(value)


async def test_a_card_of_another_node_is_that_nodes_to_say() -> None:
    registry = AgentRegistry()
    with pytest.raises(Refused, match="endpoint"):
        await registry.register_agent(card_at(AgentRegistry().node))


async def test_an_older_card_does_not_come_back() -> None:
    registry, key = AgentRegistry(), new_key()
    newer = card_at(registry.node, key=key, updated_at=2000, version="2")
    await registry.register_agent(newer)
    with pytest.raises(Refused, match="updated_at"):
        await registry.register_agent(card_at(registry.node, key=key, updated_at=1000))
    assert await registry.list_agents() == [newer]


async def test_cards_are_found() -> None:
    registry = AgentRegistry()
    for name, tags in (("greeter", ("demo",)), ("adder", ("demo", "sums"))):
        await registry.register_agent(card_at(registry.node, name, tags=tags, description=f"the {name} of all"))
    assert [card.name for card in await registry.search(capability="custom:*")] == ["adder", "greeter"]
    assert [card.name for card in await registry.search(skill="adder", tag="SUMS")] == ["adder"]
    assert [card.name for card in await registry.search(words="greeter all")] == ["greeter"]
    with pytest.raises(UsageError, match="words"):
        await registry.search(words="x" * 500)


async def test_what_another_formation_says_to_everybody_is_in_it() -> None:
    here, there = AgentRegistry(), AgentRegistry()
    card = card_at(there.node)
    await there.register_agent(card)
    assert await told(here, there) == ["", ""]
    assert await here.list_agents() == [card]
    await there.remove_agent(card.id)
    assert await told(here, there) == ["superseded", ""]
    assert await here.list_agents() == []


async def test_our_own_formations_records_do_not_come_from_outside() -> None:
    registry = AgentRegistry()
    await registry.register_agent(card_at(registry.node))
    assert set(await told(registry, registry)) == {"wrong_formation"}


async def test_what_is_not_for_everybody_is_not_taken() -> None:
    here, there = AgentRegistry(), AgentRegistry()
    for audience in ("formation", "contacts"):
        await there.register_agent(card_at(there.node, audience), audience=audience)
    held = [row.signed for row in there.holdings.replica.said_by(there.holdings.key.public, after=0)]
    assert all(isinstance(here.holdings.take(signed, source=""), Refusal) for signed in held)
    assert await here.list_agents() == []


async def test_a_peer_brings_so_many_formations_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    here = AgentRegistry()
    for number in range(STRANGERS_EACH_MAX + 2):
        there = AgentRegistry()
        await there.register_agent(card_at(there.node, f"agent{number}"))
        outcome = await told(here, there, source="https://peer.example")
        assert (outcome[0] == "over_quota") is (number >= STRANGERS_EACH_MAX)
    assert len(await here.list_agents()) == STRANGERS_EACH_MAX
    monkeypatch.setattr(registries, "STRANGERS_BYTES_MAX", 1)
    there = AgentRegistry()
    await there.register_agent(card_at(there.node))
    assert (await told(here, there))[1] == "over_quota"


async def test_garbage_takes_no_room() -> None:
    here = AgentRegistry()
    stranger = new_key()
    forged = said_by(stranger, stranger.public, "x", at_ms=here.holdings.clock.now_ms())
    for signed in (b"", b"garbage", forged.signed):
        assert isinstance(here.holdings.take(signed, source=""), Refusal)
    assert here.holdings.strangers.formations() == []


def said_by(key: KeyPair, formation: bytes, name: str, *, at_ms: int) -> Statement:
    return state(
        key,
        kind="agent",
        name=name,
        formation=formation,
        audience="public",
        stamp=stamp_at(at_ms),
        expires=at_ms + TOMBSTONE_MS,
        body={"x": 1},
    )
