"""The door's two counts: whoever floods pushes out his own, and nobody else's."""

from __future__ import annotations

import random

from skerry.channel import admission
from skerry.channel.admission import Crowd, Quota, Room


def test_who_floods_pushes_out_its_own_oldest() -> None:
    crowd: Crowd[str] = Crowd(most=10, most_each=3)
    for one in ("a1", "b1", "a2", "a3"):
        assert crowd.enter(one, one[0]) is None
    assert crowd.enter("a4", "a") == "a1"
    assert crowd.enter("a5", "a") == "a2"
    assert "b1" in crowd
    assert len(crowd) == 4


def test_where_all_is_full_the_address_with_the_most_gives_way() -> None:
    crowd: Crowd[str] = Crowd(most=4, most_each=3)
    for one in ("b1", "a1", "a2", "a3"):
        crowd.enter(one, one[0])
    assert crowd.enter("c1", "c") == "a1", "b came first, but a has most"
    assert crowd.all() == ["b1", "a2", "a3", "c1"]


def test_who_left_is_no_more_in_the_way() -> None:
    crowd: Crowd[str] = Crowd(most=2, most_each=1)
    crowd.enter("a1", "a")
    crowd.leave("a1")
    crowd.leave("a1")
    assert crowd.enter("a2", "a") is None
    assert crowd.all() == ["a2"]


def test_this_machines_own_are_not_counted() -> None:
    crowd: Crowd[int] = Crowd(most=2, most_each=1)
    for one in range(50):
        assert crowd.enter(one, "") is None
    assert crowd.enter(100, "a") is None
    assert crowd.enter(101, "b") is None
    assert crowd.enter(102, "c") == 100
    assert len(crowd) == 52


def test_room_is_taken_and_given_back() -> None:
    room = Room(10)
    assert room.take(6)
    assert not room.take(5)
    room.give(2)
    assert room.take(5)
    assert room.held_bytes == 9


def test_a_crowd_never_holds_more_than_it_may() -> None:
    rng = random.Random(7)
    crowd: Crowd[int] = Crowd(most=20, most_each=6)
    held: dict[int, str] = {}
    for one in range(3000):
        if held and rng.random() < 0.3:
            gone = rng.choice(sorted(held))
            del held[gone]
            crowd.leave(gone)
        address = f"127.0.0.{rng.randint(1, 9)}"
        goes = crowd.enter(one, address)
        if goes is not None:
            del held[goes]
        held[one] = address
        assert crowd.all() == list(held)
        assert len(held) <= 20
        assert max(list(held.values()).count(at) for at in set(held.values())) <= 6


def test_a_quota_gives_so_many_at_once_and_then_so_many_a_second() -> None:
    quota = Quota(at_once=3, per_s=2)
    assert [quota.take("a", now=0.0) for _ in range(5)] == [True, True, True, False, False]
    assert quota.take("b", now=0.0), "another address has its own"
    assert [quota.take("a", now=0.5) for _ in range(2)] == [True, False]
    assert [quota.take("a", now=100.0) for _ in range(4)] == [True, True, True, False], "it never saves more than at first"


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    quota = Quota(at_once=1, per_s=1)
    assert quota.take("a", now=50.0)
    assert not quota.take("a", now=50.0)
    assert not quota.take("a", now=10.0)


def test_a_quota_remembers_so_many_addresses_and_forgets_the_harmless_first() -> None:
    quota = Quota(at_once=2, per_s=1)
    quota.take("bad", now=990.0)
    for number in range(admission.ADDRESSES_MAX - 1):
        quota.take(f"good{number}", now=991.0)
    quota.take("bad", now=991.0)
    quota.take("bad", now=991.0)
    assert len(quota) == admission.ADDRESSES_MAX
    quota.take("one more", now=992.0)  # the good ones have all of it back
    assert len(quota) == 2
    assert [quota.take("bad", now=992.0) for _ in range(2)] == [True, False]
    for number in range(3 * admission.ADDRESSES_MAX):
        quota.take(f"new{number}", now=1000.0)
    assert len(quota) <= admission.ADDRESSES_MAX
