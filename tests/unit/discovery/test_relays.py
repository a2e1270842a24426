"""Which two members an outbound node is reached over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.discovery.relays import NEAR_MS, RELAYS, STEADY_S, Candidate, chosen

A, B, C, D = (bytes([number]) * 32 for number in range(1, 5))
LONG_S = 10 * STEADY_S


def steady(node: bytes, rtt_ms: float) -> Candidate:
    return Candidate(node, rtt_ms, LONG_S)


def test_the_two_nearest_are_chosen() -> None:
    assert chosen((), [steady(A, 30), steady(B, 10), steady(C, 20)]) == (B, C)
    assert chosen((), [steady(A, 30)]) == (A,)
    assert chosen((), []) == ()


def test_one_that_has_been_linked_for_a_while_goes_before_one_that_just_came() -> None:
    assert chosen((), [Candidate(A, 1, 0), steady(B, 90), steady(C, 80)]) == (C, B)


def test_those_we_have_stay_where_another_is_only_a_little_nearer() -> None:
    assert chosen((A, B), [steady(A, 30), steady(B, 31), steady(C, 20)]) == (A, B)
    assert chosen((A, B), [steady(A, NEAR_MS), steady(B, NEAR_MS), steady(C, 0.1)]) == (A, B), "below that it is chance"


def test_one_that_is_much_nearer_takes_the_place_of_the_worse() -> None:
    assert chosen((A, B), [steady(A, 30), steady(B, 90), steady(C, 20)]) == (A, C)
    assert chosen((A, B), [steady(A, 30), steady(B, 90), Candidate(C, 20, 0)]) == (A, B), "not before it has shown that it stays"


def test_one_that_goes_is_replaced_and_the_other_stays() -> None:
    assert chosen((A, B), [steady(B, 90), steady(C, 20), steady(D, 10)]) == (B, D)
    assert chosen((A, B), [steady(B, 30)]) == (B,)


@given(
    st.lists(st.sampled_from([A, B, C, D]), unique=True, max_size=4),
    st.dictionaries(st.sampled_from([A, B, C, D]), st.tuples(st.floats(0, 1e4), st.floats(0, 1e4))),
)
def test_as_many_as_there_are_up_to_two_each_once_and_all_candidates(current: list[bytes], found: dict[bytes, tuple[float, float]]) -> None:
    candidates = [Candidate(node, rtt, linked) for node, (rtt, linked) in found.items()]
    taken = chosen(current, candidates)
    assert len(taken) == len(set(taken)) == min(RELAYS, len(found))
    assert set(taken) <= set(found)
    assert chosen(taken, candidates) == chosen(chosen(taken, candidates), candidates) or len(found) > RELAYS
