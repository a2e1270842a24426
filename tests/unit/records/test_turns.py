"""With whom a node compares next: everybody in turn, and who costs comparisons for nothing ever more rarely."""

from __future__ import annotations

from itertools import pairwise

import pytest

from skerry.records.neighbours import RINGS, Neighbours
from skerry.records.turns import VAIN_ROUNDS_MAX, Turns


def node(number: int) -> bytes:
    return number.to_bytes(32, "big")


OURS = node(0)
FEW = {node(number) for number in range(1, 2 * RINGS + 1)}  # all of them neighbours
MANY = {node(number) for number in range(1, 21)}


def turns(linked: set[bytes]) -> Turns:
    neighbours = Neighbours(OURS, formation=bytes(32))
    for one in linked:
        neighbours.link_up(one)
    return Turns(OURS, neighbours)


def rounds_of(found: Turns, linked: set[bytes], which: bytes, *, rounds: int, is_vain: bool) -> list[int]:
    """The rounds in which a node had its turn. Every comparison with it leads nowhere, or all of them lead somewhere."""
    seen = []
    for number in range(rounds):
        if which in found.draw(linked, chance=0.5):
            seen.append(number)
            found.note(which, is_vain=is_vain)
    return seen


def test_neighbours_have_their_turn_in_each_round_and_one_of_the_others() -> None:
    assert turns(FEW).draw(FEW, chance=0.5) == sorted(FEW)
    found = turns(MANY)
    drawn = {node for number in range(100) for node in found.draw(MANY, chance=number / 100)}
    assert drawn == MANY, "no circle of neighbours shuts a node in"
    assert all(1 <= len(found.draw(MANY, chance=number / 100)) <= 2 * RINGS + 1 for number in range(100))


def test_who_leads_nowhere_is_asked_ever_more_rarely_and_never_forgotten() -> None:
    rounds = 400
    seen = rounds_of(turns(FEW), FEW, node(1), rounds=rounds, is_vain=True)
    waits = [later - sooner - 1 for sooner, later in pairwise(seen)]
    assert waits[:6] == [2, 4, 8, 16, 32, VAIN_ROUNDS_MAX]
    assert set(waits[6:]) == {VAIN_ROUNDS_MAX}
    assert rounds_of(turns(FEW), FEW, node(1), rounds=rounds, is_vain=False) == list(range(rounds))


@pytest.mark.parametrize("comes_back", [lambda found: found.note(node(1), is_vain=False), lambda found: found.forget(node(1))])
def test_one_that_leads_somewhere_or_comes_anew_has_its_turn_as_before(comes_back: object) -> None:
    found = turns(FEW)
    rounds_of(found, FEW, node(1), rounds=100, is_vain=True)
    assert node(1) not in found.draw(FEW, chance=0.5)
    comes_back(found)  # type: ignore[operator]
    assert node(1) in found.draw(FEW, chance=0.5)


def test_with_one_node_one_comparison_is_under_way() -> None:
    found = turns(FEW)
    found.begin(node(1))
    assert node(1) not in found.draw(FEW, chance=0.5)
    found.end(node(1))
    assert node(1) in found.draw(FEW, chance=0.5)
