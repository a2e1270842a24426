"""What an absent node offers is not asked for, and is back with it."""

from __future__ import annotations

from skerry.routing.pool import Candidate
from skerry.routing.present import PresentCatalogue

ANN, BOB = b"a" * 32, b"b" * 32


def offer(node: bytes, agent: str, capability: str = "custom:echo") -> Candidate:
    return Candidate(agent, agent, node, capability, True, 10**15)


def test_who_goes_leaves_the_catalogue_and_comes_back_with_what_it_offers_by_then() -> None:
    catalogue = PresentCatalogue()
    for node, agent in ((ANN, "one"), (ANN, "two"), (BOB, "three")):
        catalogue.set(node, agent, [offer(node, agent)])
    catalogue.set_absent(ANN, absent=True)
    assert [found.agent for found in catalogue.find("custom:echo")] == ["three"]
    catalogue.set(ANN, "one", [])
    catalogue.set(ANN, "four", [offer(ANN, "four", "custom:count")])
    assert catalogue.capabilities() == ["custom:echo"]
    catalogue.set_absent(ANN, absent=False)
    assert sorted(found.agent for found in catalogue.find("*")) == ["four", "three", "two"]


def test_nothing_is_left_of_whom_nothing_is_offered() -> None:
    catalogue = PresentCatalogue()
    catalogue.set(ANN, "one", [offer(ANN, "one")])
    catalogue.set_absent(ANN, absent=True)
    catalogue.set(ANN, "one", [])
    catalogue.set_absent(ANN, absent=False)
    catalogue.set_absent(BOB, absent=False)
    assert len(catalogue) == 0
    assert catalogue._known == {}
