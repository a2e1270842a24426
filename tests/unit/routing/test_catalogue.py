"""Who offers what: kept as agents come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.routing.catalogue import CLOSEST_MAX, Candidate, Catalogue

NODES = (b"a" * 32, b"b" * 32)


def offer(capability: str, *, node: bytes = NODES[0], agent: str = "one") -> Candidate:
    return Candidate(agent, f"name of {agent}", node, capability, False, 1)


def filled(*candidates: Candidate) -> Catalogue:
    catalogue = Catalogue()
    sources: dict[tuple[bytes, str], list[Candidate]] = {}
    for candidate in candidates:
        sources.setdefault((candidate.node, candidate.agent), []).append(candidate)
    for (node, agent), offers in sources.items():
        catalogue.set(node, agent, offers)
    return catalogue


def test_an_exact_query_finds_exactly_that() -> None:
    catalogue = filled(offer("inference:llama3:8b"), offer("inference:llama3"), offer("web", agent="two"))
    assert [found.capability for found in catalogue.find("inference:llama3")] == ["inference:llama3"]
    assert [found.agent for found in catalogue.find("web")] == ["two"]
    assert catalogue.find("inference:") == catalogue.find("nothing") == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("*", ["custom:a", "custom:b", "inference:x", "web"]),
        ("custom:*", ["custom:a", "custom:b"]),
        ("custom:b*", ["custom:b"]),
        ("c*", ["custom:a", "custom:b"]),
        ("z*", []),
        ("custom:c*", []),
    ],
)
def test_a_star_finds_what_begins_so_in_order(query: str, found: list[str]) -> None:
    catalogue = filled(offer("web"), offer("custom:b"), offer("inference:x"), offer("custom:a", agent="two"))
    assert [one.capability for one in catalogue.find(query)] == found


def test_what_is_found_has_one_order_whoever_came_first() -> None:
    offers = [offer("web", node=node, agent=agent) for node in NODES for agent in ("one", "two")]
    for order in (offers, offers[::-1]):
        catalogue = filled(*order)
        assert catalogue.find("web") == catalogue.find("*") == offers


def test_registering_twice_does_not_double_and_withdrawing_leaves_nothing() -> None:
    catalogue = Catalogue()
    for _ in range(2):
        catalogue.set(NODES[0], "one", [offer("web"), offer("custom:a")])
    assert len(catalogue.find("*")) == 2
    assert len(catalogue) == 1
    catalogue.set(NODES[0], "one", [offer("web")])
    assert catalogue.capabilities() == ["web"]
    catalogue.set(NODES[0], "one", [])
    catalogue.set(NODES[0], "one", [])
    assert catalogue.capabilities() == []
    assert catalogue.find("*") == []
    assert len(catalogue) == 0


def test_a_card_that_names_a_capability_twice_counts_once_and_can_go() -> None:
    catalogue = Catalogue()
    catalogue.set(NODES[0], "one", [offer("web"), offer("web")])
    assert len(catalogue.find("web")) == 1
    catalogue.set(NODES[0], "one", [])
    assert catalogue.find("*") == []


def test_near_misses_are_named() -> None:
    catalogue = filled(*(offer(f"inference:llama{number}") for number in range(9)), offer("web"))
    assert "inference:llama3" in catalogue.closest("inference:lama3")
    assert len(catalogue.closest("inference:llama")) <= CLOSEST_MAX
    assert catalogue.closest("zzz") == []


CAPABILITIES = st.sampled_from(["web", "storage", "custom:a", "custom:ab", "custom:b", "inference:x"])


@given(
    changes=st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(["one", "two"]), st.lists(CAPABILITIES, max_size=4)), max_size=15)
)
def test_it_is_as_if_only_the_last_word_of_each_agent_had_been_said(changes: list[tuple[bytes, str, list[str]]]) -> None:
    catalogue, model = Catalogue(), dict[tuple[bytes, str], set[str]]()
    for node, agent, capabilities in changes:
        catalogue.set(node, agent, [offer(capability, node=node, agent=agent) for capability in capabilities])
        model[node, agent] = set(capabilities)
    wanted = sorted((capability, node, agent) for (node, agent), held in model.items() for capability in held)
    assert [(one.capability, one.node, one.agent) for one in catalogue.find("*")] == wanted
    assert catalogue.capabilities() == sorted({capability for capability, _, _ in wanted})
    assert len(catalogue) == sum(bool(held) for held in model.values())
    for query in ("custom:a", "custom:a*", "web"):
        fits = [one for one in wanted if (one[0].startswith(query[:-1]) if query.endswith("*") else one[0] == query)]
        assert [(one.capability, one.node, one.agent) for one in catalogue.find(query)] == fits
