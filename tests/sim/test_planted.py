"""Bugs that are planted are found, each by the checker that is there for it. `make planted` looks for the first seed of each anew."""

from __future__ import annotations

import pytest

from tests.sim.planted import PLANTS, SEEDS_MAX, finds


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found_by_its_checker(name: str) -> None:
    seed = PLANTS[name].seed
    assert 1 <= seed <= SEEDS_MAX
    assert finds(name, seed), f"seed {seed} does not find it any more: `make planted` says which one does"
