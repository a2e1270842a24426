"""Who passes on to whom: everybody is reached, by few, whatever the links are."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from skerry.records.neighbours import ASKED_MAX, RINGS, Neighbours

FORMATION = bytes(32)


def node(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Mesh:
    """Nodes with links, who tell each other whom they chose."""

    def __init__(self, count: int, links: Iterable[tuple[int, int]]) -> None:
        self.nodes = {node(number): Neighbours(node(number), formation=FORMATION) for number in range(count)}
        for one, other in links:
            self.nodes[node(one)].link_up(node(other))
            self.nodes[node(other)].link_up(node(one))
        self.settle()

    def settle(self) -> int:
        said = 0
        for name, neighbours in self.nodes.items():
            for other, wanted in neighbours.to_tell():
                self.nodes[other].asks(name, wanted=wanted)
                said += 1
        return said

    def spread(self, first: bytes) -> tuple[int, int, int]:
        """How many hear of a record, in how many hops, and how often one hears it too often at most."""
        heard = {first: 0}
        wave, hops = [(first, b"")], 0
        while wave:
            following: list[tuple[bytes, bytes]] = []
            for name, sender in wave:
                for other in sorted(self.nodes[name].eager() - {sender}):
                    if other not in heard:
                        following.append((other, name))
                    heard[other] = heard.get(other, -1) + 1
            wave, hops = following, hops + bool(following)
        return len(heard), hops, max(heard.values())


def everybody(count: int) -> list[tuple[int, int]]:
    return [(one, other) for one in range(count) for other in range(one)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 30, 200])
def test_in_a_full_mesh_all_hear_it_in_a_few_hops(count: int) -> None:
    mesh = Mesh(count, everybody(count))
    for first in (node(0), node(count - 1)):
        reached, hops, _ = mesh.spread(first)
        assert reached == count
        assert hops <= 8
    assert all(len(neighbours.eager()) <= 2 * RINGS for neighbours in mesh.nodes.values()), "both ends choose alike"


@pytest.mark.parametrize("count", [7, 200])
def test_few_hear_it_twice(count: int) -> None:
    mesh = Mesh(count, everybody(count))
    assert mesh.spread(node(3))[2] <= 3, "also where every record crosses itself on every link that it can"


@pytest.mark.parametrize(
    "links",
    [
        [(number, number + 1) for number in range(39)],
        [(0, number) for number in range(1, 40)],
        [((number - 1) // 3, number) for number in range(1, 40)],
        [*everybody(20), *((a + 20, b + 20) for a, b in everybody(20))],
    ],
    ids=["line", "star", "tree", "two cliques"],
)
def test_with_few_links_all_that_hang_together_hear_it(links: list[tuple[int, int]]) -> None:
    mesh = Mesh(40, links)
    near = {0}
    while len(more := near | {b for a, b in links if a in near} | {a for a, b in links if b in near}) > len(near):
        near = more
    assert mesh.spread(node(0))[0] == len(near)


def test_links_that_come_and_go_mend_it() -> None:
    chance, mesh = random.Random(1), Mesh(60, everybody(60))
    gone = chance.sample(sorted(mesh.nodes), 25)
    for name in gone:
        del mesh.nodes[name]
        for neighbours in mesh.nodes.values():
            neighbours.link_down(name)
    assert mesh.settle() < 4 * 2 * 35, "who keeps its neighbours says nothing"
    assert mesh.settle() == 0
    assert mesh.spread(next(iter(mesh.nodes)))[0] == 35
    assert all(len(neighbours.eager()) <= 2 * RINGS for neighbours in mesh.nodes.values())


def test_who_asks_is_told_as_long_as_it_is_linked() -> None:
    ours = Neighbours(node(0), formation=FORMATION)
    ours.asks(node(1), wanted=True)
    assert ours.eager() == set(), "no link to it"
    for number in range(1, 400):
        ours.link_up(node(number))
        ours.asks(node(number), wanted=True)
    assert len(ours.eager()) <= ASKED_MAX + 2 * RINGS
    some = next(iter(ours.eager() - ours.chosen()))
    ours.asks(some, wanted=False)
    assert some not in ours.eager()
    ours.link_down(node(1))
    assert node(1) not in ours.eager()
