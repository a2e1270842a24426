"""Strangers are let in by address, for a while, and for little."""

from __future__ import annotations

import asyncio

import pytest

from skerry.channel.link import Link
from skerry.channel.links import LINKS_EACH_MAX as LINKS_OF_ONE_KEY
from skerry.errors import Code, Refused, SkerryError
from skerry.node import strangers as module
from skerry.node.strangers import Strangers
from tests.support.links import World, simulated


async def _links(world: World, count: int) -> tuple[Strangers, list[Link]]:
    """Connections that the second of a world's hosts, at one address, made to the first, as strangers there."""
    alpha, beta = (await world.open())[:2]
    alpha.household.clients.add(beta.id)
    beta.household.clients.add(alpha.id)
    for _ in range(count):
        await beta.links.dial(alpha.address, expected=alpha.id)
    strangers = Strangers()
    for link in alpha.household.ups:
        strangers.came(link)
    return strangers, alpha.household.ups


@simulated
async def test_a_stranger_goes_after_a_while_and_a_member_stays() -> None:
    strangers, (stays, goes) = await _links(World(2), 2)
    strangers.is_known(stays)
    assert len(strangers) == 1
    await asyncio.sleep(module.STAY_S + 2 * module.LOOK_EVERY_S)
    assert goes.closed
    assert not stays.closed
    assert len(strangers) == 0


@simulated
async def test_one_address_has_few_strangers_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINKS_EACH_MAX", 3)
    strangers, links = await _links(World(2), 5)
    assert len(strangers) == 3
    assert [link.closed for link in links] == [True, True, False, False, False]


@simulated
async def test_a_stranger_that_talks_too_much_is_cut() -> None:
    world = World(2)
    _, (link,) = await _links(world, 1)
    beta = world.sides[1]
    theirs = next(iter(beta.links.all()))
    for _ in range(module.FRAMES_MAX):
        await theirs.call("echo", b"x", timeout_s=5)
    with pytest.raises(SkerryError):
        await theirs.call("echo", b"x", timeout_s=5)
    assert link.closed


@simulated
async def test_a_stranger_sends_nothing_large() -> None:
    world = World(2)
    _, (link,) = await _links(world, 1)
    theirs = next(iter(world.sides[1].links.all()))
    with pytest.raises(SkerryError) as caught:
        await theirs.call("echo", bytes(100_000), timeout_s=20)
    assert caught.value.code == Code.NOT_GRANTED
    assert not link.closed


@simulated
async def test_calls_of_strangers_are_counted_by_address() -> None:
    strangers, (link,) = await _links(World(2), 1)
    for _ in range(module.CALLS_AT_ONCE):
        strangers.check_call(link)
    with pytest.raises(Refused, match="more than they may"):
        strangers.check_call(link)
    await asyncio.sleep(1.0)
    strangers.check_call(link)


@simulated
async def test_wrong_tickets_shut_an_address_out_for_a_while() -> None:
    strangers, (link,) = await _links(World(2), 1)
    for _ in range(module.WRONG_AT_ONCE):
        strangers.check_join(link)
        strangers.join_failed(link)
    with pytest.raises(Refused, match="tickets that did not hold"):
        strangers.check_join(link)
    await asyncio.sleep(1 / module.WRONG_PER_S)
    strangers.check_join(link)


@simulated
async def test_a_flood_of_wrong_tickets_from_everywhere_keeps_no_newcomer_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRONG_AT_ONCE_ALL", 3)
    strangers, (guesser,) = await _links(World(2), 1)
    _, (newcomer,) = await _links(World(3), 1)
    monkeypatch.setattr(type(newcomer.connection), "address", property(lambda stream: "near" if stream is newcomer.connection else "far"))
    for _ in range(3):
        strangers.join_failed(guesser)
    with pytest.raises(Refused, match="tickets that did not hold"):
        strangers.check_join(guesser)
    strangers.check_join(newcomer)


@simulated
async def test_one_key_has_few_connections() -> None:
    alpha, beta = await World(2).open()
    alpha.household.clients.add(beta.id)
    beta.household.clients.add(alpha.id)
    for _ in range(LINKS_OF_ONE_KEY):
        await beta.links.dial(alpha.address, expected=alpha.id)
    with pytest.raises(SkerryError) as caught:
        await beta.links.dial(alpha.address, expected=alpha.id)
    assert caught.value.code == Code.BUSY
    beta.links.all()[0].close(Refused("enough"))
    await asyncio.sleep(1)
    await beta.links.dial(alpha.address, expected=alpha.id)
