"""Staying connected: dialled at once, again after a loss, with growing waits, and nothing left behind."""

from __future__ import annotations

import asyncio

import pytest

from skerry.channel.keeper import MOST_S, Keeper, beside
from skerry.sim.clock import SimRandom
from tests.support import async_poll_until
from tests.support.links import Side, World, simulated

LONG_S = 300.0


class Kept:
    """A keeper for a side, which looks again whenever a link is lost, as a node does."""

    def __init__(self, side: Side, *others: Side) -> None:
        self.wanted: dict[bytes, tuple[str, ...]] = {other.id: (other.address or f"tcp://{other.name}:7420",) for other in others}
        self.keeper = Keeper(side.id, side.links, self, SimRandom(side.name))
        down = side.household.link_down

        def lost(link: object, reason: object) -> None:
            down(link, reason)  # type: ignore[arg-type]
            self.keeper.look()

        side.household.link_down = lost  # type: ignore[method-assign]
        self.keeper.look()

    def all(self) -> dict[bytes, tuple[str, ...]]:
        return self.wanted

    def of(self, node: bytes) -> tuple[str, ...]:
        return self.wanted.get(node, ())


@simulated
async def test_all_find_each_other_with_one_link_per_pair() -> None:
    world = World(5)
    sides = await world.open()
    kept = [Kept(side, *(other for other in sides if other is not side)) for side in sides]
    await async_poll_until(lambda: all(len(side.links.nodes()) == 4 for side in sides), 20)
    await async_poll_until(lambda: all(len(side.links.all()) == 4 for side in sides), 20)
    assert all(not one.keeper.last_error for one in kept)


@simulated
async def test_a_lost_link_is_dialled_again() -> None:
    world = World(2)
    alpha, beta = await world.open()
    kept = Kept(alpha, beta)
    first = await async_poll_until(lambda: alpha.links.get(beta.id))
    world.network.reset("alpha", "beta")
    again = await async_poll_until(lambda: alpha.links.get(beta.id) not in (None, first))
    assert again
    await kept.keeper.close()


@simulated
async def test_a_node_that_is_down_costs_a_dial_per_wait_and_is_found_when_it_is_back() -> None:
    world = World(2)
    alpha, beta = world.sides
    beta.address = "tcp://beta:7420"
    dials = 0
    dial = alpha.links.dial

    async def counted(*args: object, **options: object) -> object:
        nonlocal dials
        dials += 1
        return await dial(*args, **options)  # type: ignore[arg-type]

    alpha.links.dial = counted  # type: ignore[method-assign,assignment]
    kept = Kept(alpha, beta)
    await asyncio.sleep(LONG_S)
    assert 10 <= dials <= 30
    assert "nobody listens" in kept.keeper.last_error[beta.id].message
    await beta.listen("tcp://beta:7420")
    await async_poll_until(lambda: alpha.links.get(beta.id), MOST_S + 1)
    assert kept.keeper.last_error == {}


@simulated
async def test_news_of_a_node_is_tried_at_once() -> None:
    world = World(2)
    alpha, beta = world.sides
    kept = Kept(alpha, beta)
    kept.wanted = {beta.id: ("tcp://nowhere:1",)}
    await asyncio.sleep(LONG_S)
    await beta.listen("tcp://beta:7420")
    kept.wanted = {beta.id: (beta.address,)}
    kept.keeper.kick(beta.id)
    kept.keeper.kick(b"nobody")
    await async_poll_until(lambda: alpha.links.get(beta.id), 1)


@simulated
async def test_who_is_not_wanted_any_more_is_left_alone_and_nothing_stays_behind() -> None:
    world = World(2)
    alpha, beta = world.sides
    before = len(asyncio.all_tasks())
    kept = Kept(alpha, beta)
    await asyncio.sleep(LONG_S)
    kept.wanted = {}
    kept.keeper.look()
    await async_poll_until(lambda: len(asyncio.all_tasks()) == before, 1)
    kept.wanted = {beta.id: (beta.address or "tcp://beta:7420",)}
    kept.keeper.look()
    await asyncio.sleep(LONG_S)
    await kept.keeper.close()
    assert len(asyncio.all_tasks()) == before


@simulated
async def test_of_one_that_came_or_went_the_others_are_not_looked_at() -> None:
    world = World(3)
    alpha, beta, gamma = await world.open()
    before = len(asyncio.all_tasks())
    kept = Kept(alpha)
    whole = kept.all
    looks = 0

    def counted() -> dict[bytes, tuple[str, ...]]:
        nonlocal looks
        looks += 1
        return whole()

    kept.all = counted  # type: ignore[method-assign]
    for other in (beta, gamma):
        kept.wanted[other.id] = (other.address,)
        kept.keeper.look(only=other.id)
    await async_poll_until(lambda: len(alpha.links.nodes()) == 2, 5)
    first = alpha.links.get(beta.id)
    kept.wanted[b"nobody"] = ("tcp://nowhere:1",)
    kept.keeper.look(only=b"nobody")
    del kept.wanted[b"nobody"]
    kept.keeper.look(only=b"nobody")
    kept.keeper.look(only=b"never wanted")
    world.network.reset("alpha", "beta")
    await async_poll_until(lambda: alpha.links.get(beta.id) not in (None, first), 5)
    assert looks == 1, "after a loss, as `Kept` does; a node looks at that one alone"
    await kept.keeper.close()
    for side in (alpha, beta, gamma):
        await side.links.close()
    await async_poll_until(lambda: len(asyncio.all_tasks()) <= before, 5)


@simulated
async def test_one_node_more_than_a_mesh_has_makes_a_ring_and_one_less_a_mesh_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.channel.keeper.MESH_MAX", 4)
    monkeypatch.setattr("skerry.channel.keeper.beside", lambda ours, nodes: {min(nodes)})
    world = World(5)
    sides = await world.open()
    alpha, others = sides[0], sorted(sides[1:], key=lambda side: side.id)
    kept = Kept(alpha)
    for number, other in enumerate(others, 1):
        kept.wanted[other.id] = (other.address,)
        kept.keeper.look(only=other.id)
        assert len(kept.keeper._kept) == (number if number < 4 else 1)
    for left, other in zip((3, 2), others, strict=False):
        del kept.wanted[other.id]
        kept.keeper.look(only=other.id)
        assert kept.keeper._kept == set(kept.wanted)
        assert len(kept.wanted) == left
    await kept.keeper.close()


def test_on_a_large_ring_each_keeps_a_few_and_both_ends_agree() -> None:
    nodes = [bytes([number // 256, number % 256]) for number in range(500)]
    kept = {node: beside(node, nodes) for node in nodes}
    assert {len(others) for others in kept.values()} == {16}
    assert all(node in kept[other] for node, others in kept.items() for other in others)
    reached, steps = {nodes[0]}, 0
    while len(reached) < len(nodes):
        reached |= {other for node in reached for other in kept[node]}
        steps += 1
    assert steps <= 6
    assert beside(b"a", [b"b"]) == {b"b"}
    assert beside(b"a", []) == set()


@simulated
async def test_above_so_many_nodes_a_link_that_nobody_uses_closes_and_opens_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.channel.keeper.MESH_MAX", 4)
    near: dict[bytes, set[bytes]] = {}
    monkeypatch.setattr("skerry.channel.keeper.beside", lambda ours, nodes: near[ours])
    world = World(5)
    sides = await world.open()
    near |= {side.id: {sides[n - 1].id, sides[(n + 1) % 5].id} for n, side in enumerate(sides)}  # two of four
    kept = [Kept(side, *(other for other in sides if other is not side)) for side in sides]
    await async_poll_until(lambda: all({link.id for link in side.links.nodes()} == near[side.id] for side in sides), 20)
    alpha, gamma, keeper = sides[0], sides[2], kept[0].keeper
    link = await alpha.links.to(gamma.id, [gamma.address], timeout_s=5)
    keeper.note_use(gamma.id)
    keeper.close_idle()
    assert alpha.links.get(gamma.id) is link, "it was used since the last look"
    asked = asyncio.ensure_future(link.call("never", b"", timeout_s=5))
    await async_poll_until(lambda: link.busy)
    keeper.close_idle()
    assert alpha.links.get(gamma.id) is link, "it is used now"
    asked.cancel()
    await async_poll_until(lambda: not link.busy)
    keeper.close_idle()
    assert alpha.links.get(gamma.id) is None
    for _ in range(3):
        keeper.close_idle()
    assert {link.id for link in alpha.links.nodes()} == near[alpha.id], "those that are kept may be idle"
    await link_again(alpha, gamma)
    for one in kept:
        await one.keeper.close()


async def link_again(alpha: Side, gamma: Side) -> None:
    link = await alpha.links.to(gamma.id, [gamma.address], timeout_s=5)
    assert await link.call("echo", b"x", timeout_s=5) == b"x"
