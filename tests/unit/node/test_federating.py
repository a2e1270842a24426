"""A node's federation over HTTP, with its contacts and its seeds as they are: real nodes, real listeners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.identity.contacts import Contact, make_contact
from skerry.identity.grants import Role, issue
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.node.node import Node
from skerry.node.trust import ROOT_KEY
from tests.support.federation import PublicNode, card_at, public_node
from tests.support.formation import STRANGER
from tests.support.node_here import node_here
from tests.support.polling import async_poll_until


def names(node: Node) -> list[tuple[str, str]]:
    return [(info.contact, info.name) for info in node.foreign_agents.infos()]


def url(there: PublicNode, *, pinned: bool = True) -> str:
    return f"https://{there.id}@{there.url.removeprefix('https://')}" if pinned else there.url


def as_formation(there: PublicNode) -> Contact:
    return make_contact("them", addresses=[url(there)], formation=there.node.formation.hex())


def as_node(there: PublicNode) -> Contact:
    return make_contact("them", addresses=[url(there, pinned=False)], node=there.id)


@pytest.mark.parametrize("entry", [as_formation, as_node])
async def test_a_contact_with_an_https_address_is_pulled_from(tmp_path: Path, entry: Callable[[PublicNode], Contact]) -> None:
    """With our signature, so that it gives what it shares with us; under its name, and gone with it."""
    async with public_node(tmp_path / "there") as there, node_here(tmp_path / "here") as here:
        theirs, hidden = card_at(there.id, "theirs"), card_at(there.id, "hidden")
        await there.registry.register_agent(theirs, audience="contacts")
        await there.registry.register_agent(hidden, audience="contacts")
        there.node.contacts.put(make_contact("us", addresses=[], formation=here.formation.hex(), allow=["federate"]))
        there.give(theirs, here.formation)
        here.contacts.put(entry(there))
        assert here.federating is not None
        await async_poll_until(lambda: names(here) == [("them", "theirs")], what="it is pulled")
        assert [card.name for card in await here.federating.registry.list_agents()] == ["theirs"]
        here.contacts.remove(here.contacts.named("them"))
        assert names(here) == []
        assert here.federating.manager.seeds == []


def grant_for(there: PublicNode, node: str, *, by: KeyPair) -> bytes:
    stamp = stamp_at(there.node.ports.clock.now_ms())
    return issue(by, formation=there.node.formation, subject=bytes.fromhex(node), role=Role.OPERATOR, stamp=stamp).signed


async def test_what_others_of_its_formation_say_is_not_taken_for_a_contact_that_is_one_node(tmp_path: Path) -> None:
    async with public_node(tmp_path / "there") as there, node_here(tmp_path / "here") as here:
        await there.registry.register_agent(card_at(there.id, "theirs"))
        other = "ab" * 32
        assert here.federating is not None
        here.contacts.put(make_contact("it", addresses=[], node=other))
        here.contacts.met(bytes.fromhex(other), grant_for(there, other, by=STRANGER))
        assert here.contacts.formation_of(here.contacts.named("it")) == b"", "anybody can write a grant that names a formation"
        root = there.node.ports.keyring.load(ROOT_KEY)
        assert root is not None
        here.contacts.met(bytes.fromhex(other), grant_for(there, other, by=KeyPair.from_seed(root)))
        assert here.contacts.formation_of(here.contacts.named("it")) == there.node.formation
        here.federating.manager.set_seeds([there.place])
        report = await here.federating.manager.sync_from_seeds()
        assert dict(report.refused) == dict(here.federation.refused) == {"not_granted": 1}
        assert names(here) == []


async def test_who_becomes_a_contact_after_it_was_pulled_from_is_pulled_from_anew(tmp_path: Path) -> None:
    async with public_node(tmp_path / "there") as there, node_here(tmp_path / "here") as here:
        assert here.federating is not None
        await there.registry.register_agent(card_at(there.id, "theirs"))
        here.federating.manager.set_seeds([there.place])
        await here.federating.manager.sync_from_seeds()
        assert names(here) == [], "a stranger's, which is no contact's"
        assert len(await here.federating.registry.list_agents()) == 1
        here.contacts.put(as_formation(there))
        await async_poll_until(lambda: names(here) == [("them", "theirs")], what="it is pulled again")


async def test_a_seed_that_gives_nothing_is_a_warning_in_the_status(tmp_path: Path) -> None:
    down = f"{'ab' * 32}@127.0.0.1:1"
    async with node_here(tmp_path, seeds=(down,)) as here:
        warning = await async_poll_until(lambda: here.warnings.get("seeds"), what="it is said")
        assert "can't be reached" in str(warning)
        assert down in str(warning)


async def test_a_node_that_was_told_of_nobody_asks_nobody(tmp_path: Path) -> None:
    async with node_here(tmp_path) as here:
        assert here.federating is not None
        assert here.federating.manager.peers == set()
        assert here.federating._task is None
