"""Agents are found by what they offer: what their records say, and nothing else."""

from __future__ import annotations

from skerry.identity.stamps import AHEAD_MS_MAX
from skerry.records.offers import Offers
from tests.support.formation import DAY_MS, MEMBER, NOW_MS
from tests.support.replicas import Home, said


def test_agents_are_found_by_a_capability_or_its_start() -> None:
    home = Home()
    offers = Offers(home.store)
    home.takes(said(name="one"), said(MEMBER, name="two"), said(name="other"))
    offers.note(said().author, "one", ["inference:small", "embedding:small"])
    offers.note(MEMBER.public, "two", ["inference:large"])
    offers.note(said().author, "other", ["inferences"])

    def found(query: str, *, now_ms: int = NOW_MS) -> list[str]:
        return sorted(statement.name for statement in offers.find(query, now_ms=now_ms))

    assert found("inference:small") == ["one"]
    assert found("inference:*") == ["one", "two"]
    assert found("*") == ["one", "other", "two"]
    assert found("inference") == found("Inference:small") == []
    home.takes(said(name="one", counter=1, body={}))
    assert found("inference:*") == ["two"], "a tombstone offers nothing"
    assert found("inference:*", now_ms=NOW_MS + DAY_MS + AHEAD_MS_MAX + 1) == [], "nor does what is over"


def test_what_was_here_before_is_noted_once() -> None:
    home = Home()
    assert not Offers(home.store).are_noted
    Offers(home.store).all_noted()
    assert Offers(home.store).are_noted
