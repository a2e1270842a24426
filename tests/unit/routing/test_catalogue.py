"""Who offers what: kept as agents come and go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.routing.catalogue import CLOSEST_MAX, VIEWS_MAX, Catalogue
from skerry.routing.pool import Candidate

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


def test_fix_registering_twice_does_not_double_and_withdrawing_leaves_no_empty_key() -> None:
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
    assert not catalogue._pools
    assert not catalogue._sources
    assert not catalogue._named


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


# --- questions ------------------------------------------------------------------------------------------------------------------------


def asked(catalogue: Catalogue, query: str, *where: tuple[str, str]) -> list[tuple[str, str]]:
    """Capability and agent of all that answer, by the pool that is kept and, beside it, by looking through all."""
    pool = catalogue.pool(query, where)
    found = sorted((option.candidate.capability, option.provider.agent) for option in (pool.options if pool else ()))
    assert found == sorted((one.candidate.capability, one.provider.agent) for one in catalogue.options(query, where))
    return found


def model(agent: str, **attributes: Any) -> Candidate:
    return replace(offer("inference:llama3", agent=agent), attributes=attributes)


def test_attributes_can_be_asked_for() -> None:
    catalogue = filled(
        model("small", quantization="Q4_K_M", context_length=4096),
        model("large", quantization="Q8_0", context_length=32768),
        model("plain"),
    )
    assert asked(catalogue, "inference:llama3", ("quantization", "q8_0")) == [("inference:llama3", "large")]
    assert asked(catalogue, "inference:*", ("quantization", "Q4*")) == [("inference:llama3", "small")]
    assert asked(catalogue, "*", ("quantization", "Q*"), ("context_length", "32768")) == [("inference:llama3", "large")]
    assert asked(catalogue, "inference:llama3", ("quantization", "Q4")) == []
    assert asked(catalogue, "inference:llama3", ("colour", "*")) == []


def test_fix_wildcards_find_those_that_come_later_too_and_lose_those_that_go() -> None:
    catalogue = filled(offer("custom:a"))
    assert asked(catalogue, "custom:*") == [("custom:a", "one")]
    catalogue.set(NODES[1], "two", [offer("custom:b", node=NODES[1], agent="two"), offer("web", node=NODES[1], agent="two")])
    assert asked(catalogue, "custom:*") == [("custom:a", "one"), ("custom:b", "two")]
    catalogue.set(NODES[0], "one", [])
    assert asked(catalogue, "custom:*") == [("custom:b", "two")]
    catalogue.set(NODES[1], "two", [])
    assert catalogue.pool("custom:*") is None


def test_a_record_that_changes_attributes_changes_the_answers() -> None:
    catalogue = filled(model("one", quantization="Q4"))
    assert asked(catalogue, "inference:llama3", ("quantization", "Q4")) != []
    catalogue.set(NODES[0], "one", [model("one", quantization="Q8")])
    assert asked(catalogue, "inference:llama3", ("quantization", "Q4")) == []
    assert asked(catalogue, "inference:llama3", ("quantization", "Q8")) != []


def test_what_is_measured_outlives_a_renewed_record() -> None:
    catalogue = filled(offer("web"), offer("storage"))
    option = catalogue.options("web")[0]
    option.provider.began(now_s=1)
    option.latency.observe(0.5, now_s=1)
    catalogue.set(NODES[0], "one", [replace(offer("web"), expires=99)])
    renewed = catalogue.options("web")[0]
    assert renewed is option
    assert renewed.candidate.expires == 99
    assert (renewed.provider.in_flight, renewed.latency.value_s) == (1, 0.5)


def test_an_agent_is_found_by_name_and_id_while_it_goes_by_them() -> None:
    catalogue = filled(offer("web"), offer("custom:a"))
    for name in ("one", "name of one"):
        pool = catalogue.pool_of(name, "*")
        assert pool is not None
        assert len(pool.options) == 2
    catalogue.set(NODES[0], "one", [replace(offer("web"), name="other")])
    assert catalogue.pool_of("name of one", "web") is None
    assert catalogue.pool_of("other", "web") is not None
    assert catalogue.pool_of("other", "custom:a") is None
    catalogue.set(NODES[0], "one", [])
    assert catalogue.pool_of("other", "*") is catalogue.pool_of("one", "*") is None


def test_questions_that_are_kept_are_bounded_and_none_is_answered_wrong() -> None:
    catalogue = filled(*(offer(f"custom:{number}") for number in range(3 * VIEWS_MAX)))
    for number in range(3 * VIEWS_MAX):
        assert asked(catalogue, f"custom:{number}*") != []
    assert max(len(option.pools) for option in catalogue.options("*")) <= 1 + VIEWS_MAX
    catalogue.set(NODES[0], "one", [])
    assert asked(catalogue, "custom:1*") == []


CAPABILITIES = st.sampled_from(["web", "storage", "custom:a", "custom:ab", "custom:b", "inference:x"])


@given(
    changes=st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(["one", "two"]), st.lists(CAPABILITIES, max_size=4)), max_size=15)
)
def test_it_is_as_if_only_the_last_word_of_each_agent_had_been_said(changes: list[tuple[bytes, str, list[str]]]) -> None:
    catalogue, model = Catalogue(), dict[tuple[bytes, str], set[str]]()
    asked(catalogue, "custom:a*")
    for node, agent, capabilities in changes:
        catalogue.set(node, agent, [offer(capability, node=node, agent=agent) for capability in capabilities])
        model[node, agent] = set(capabilities)
    wanted = sorted((capability, node, agent) for (node, agent), held in model.items() for capability in held)
    assert [(one.capability, one.node, one.agent) for one in catalogue.find("*")] == wanted
    assert catalogue.capabilities() == sorted({capability for capability, _, _ in wanted})
    assert len(catalogue) == sum(bool(held) for held in model.values())
    for query in ("custom:a", "custom:a*", "web"):
        asked(catalogue, query)
        fits = [one for one in wanted if (one[0].startswith(query[:-1]) if query.endswith("*") else one[0] == query)]
        assert [(one.capability, one.node, one.agent) for one in catalogue.find(query)] == fits
