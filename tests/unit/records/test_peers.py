"""Peers: bounded, expiring, and no tool against others."""

from __future__ import annotations

from skerry.channel.weburl import read_place
from skerry.records.peers import (
    BACKOFF_MAX_MS,
    CANDIDATE_INTERVAL_MS,
    CANDIDATE_MS,
    CANDIDATES_EACH_MAX,
    CANDIDATES_MAX,
    DIALS_EACH_AT_ONCE,
    DIALS_EACH_MS,
    FAILURES_MAX,
    PROVEN_MS,
    Peers,
)
from tests.support.formation import MEMBER, NOW_MS

SEED = "https://seed.example"
MINUTE_MS = 60_000


def names(count: int, prefix: str = "p") -> list[str]:
    return [f"https://{prefix}{number}.example" for number in range(count)]


def fresh(*, own: str = "") -> Peers:
    peers = Peers(own=frozenset({own}))
    peers.add_seed(read_place(SEED), now_ms=NOW_MS)
    return peers


def test_one_source_fills_its_own_share_alone() -> None:
    peers = fresh()
    assert len(peers.told(names(1000), source=SEED, now_ms=NOW_MS)) == CANDIDATES_EACH_MAX
    assert peers.told(names(1, "other"), source="https://b.example", now_ms=NOW_MS)
    for number in range(100):
        peers.told(names(100, f"s{number}-"), source=f"https://b{number}.example", now_ms=NOW_MS)
    assert len(peers) == CANDIDATES_MAX + 1


def test_what_is_no_place_or_ourselves_is_not_taken() -> None:
    peers = fresh(own=MEMBER.public.hex())
    bad = ["", "nonsense", "http://127.0.0.1:80", "ftp://x", SEED, f"{MEMBER.public.hex()}@host:443", "https://a b", "x" * 10_000]
    assert peers.told(bad, source=SEED, now_ms=NOW_MS) == []
    assert len(peers) == 1


def test_a_source_has_a_budget_of_dials() -> None:
    peers = fresh()
    peers.told(names(16), source=SEED, now_ms=NOW_MS)
    due = peers.due(now_ms=NOW_MS)
    assert sum(not peer.is_seed for peer in due) == DIALS_EACH_AT_ONCE
    assert sum(peer.is_seed for peer in peers.due(now_ms=NOW_MS)) == 1, "a seed is none of its candidates"
    assert sum(not peer.is_seed for peer in peers.due(now_ms=NOW_MS)) == 0
    assert sum(not peer.is_seed for peer in peers.due(now_ms=NOW_MS + DIALS_EACH_MS)) == 1


def test_candidates_expire() -> None:
    peers = fresh()
    peers.told(names(3), source=SEED, now_ms=NOW_MS)
    one, two, _ = (peer for peer in peers.all() if not peer.is_seed)
    peers.pulled(one, now_ms=NOW_MS, interval_ms=MINUTE_MS)
    for _ in range(FAILURES_MAX):
        peers.failed(two, "down", now_ms=NOW_MS, interval_ms=MINUTE_MS, chance=0.5)
    peers.due(now_ms=NOW_MS)
    assert str(two.place) not in peers
    peers.due(now_ms=NOW_MS + CANDIDATE_MS + 1)
    assert [str(peer.place) for peer in peers.all()] == [SEED, str(one.place)]
    peers.due(now_ms=NOW_MS + PROVEN_MS + 1)
    assert [str(peer.place) for peer in peers.all()] == [SEED]


def test_a_seed_stays_and_is_tried_with_growing_waits() -> None:
    peers = fresh()
    [seed] = peers.all()
    waits = []
    for _ in range(20):
        peers.failed(seed, "down", now_ms=NOW_MS, interval_ms=MINUTE_MS, chance=1.0)
        waits.append(seed.due_ms - NOW_MS)
    assert waits[:3] == [MINUTE_MS, 2 * MINUTE_MS, 4 * MINUTE_MS]
    assert waits[-1] == BACKOFF_MAX_MS
    assert peers.due(now_ms=NOW_MS) == []
    assert peers.due(now_ms=NOW_MS + BACKOFF_MAX_MS) == [seed]
    peers.pulled(seed, now_ms=NOW_MS, interval_ms=MINUTE_MS)
    assert (seed.failures, seed.due_ms) == (0, NOW_MS + MINUTE_MS)


def test_only_who_gave_something_is_told_on() -> None:
    peers = fresh()
    peers.told(names(2), source=SEED, now_ms=NOW_MS)
    assert peers.proven(now_ms=NOW_MS) == []
    one = peers.all()[1]
    peers.pulled(one, now_ms=NOW_MS, interval_ms=MINUTE_MS)
    assert peers.proven(now_ms=NOW_MS) == [one]
    assert one.due_ms == NOW_MS + CANDIDATE_INTERVAL_MS
    peers.failed(one, "down", now_ms=NOW_MS, interval_ms=MINUTE_MS, chance=0)
    assert peers.proven(now_ms=NOW_MS) == []


def test_seeds_that_are_named_no_more_are_forgotten() -> None:
    peers = fresh()
    peers.keep_seeds({"https://other.example"})
    assert len(peers) == 0
