"""The verdict on a node follows from what is known, not from the order in which it came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.identity.grants import DAY_MS, Role, Roster, Standing, State, depart, digest_of_revocations, read_grant
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement
from tests.support.formation import (
    CLIENT,
    FORMATION,
    MEMBER,
    NOW_MS,
    OPERATOR,
    OTHER_OPERATOR,
    ROOT,
    STRANGER,
    member_grant,
    operator_grant,
    revocation,
)

NODES = (OPERATOR, OTHER_OPERATOR, MEMBER, CLIENT)
ISSUERS = (OPERATOR, OTHER_OPERATOR)
TIMES = st.integers(-3, 3).map(lambda days: NOW_MS + days * 20 * DAY_MS)
OPERATORS = st.builds(lambda who, at: operator_grant(who, at_ms=at), st.sampled_from(NODES), TIMES)
MEMBERS = st.builds(
    lambda who, by, role, at: member_grant(who, by=by, role=role, at_ms=at, chain=read_grant(operator_grant(by, at_ms=at))),
    st.sampled_from(NODES),
    st.sampled_from(ISSUERS),
    st.sampled_from([Role.MEMBER, Role.CLIENT]),
    TIMES,
)
REVOCATIONS = st.builds(
    lambda who, by, at: revocation(who, by=by, at_ms=at), st.sampled_from(NODES), st.sampled_from([ROOT, *ISSUERS, MEMBER, STRANGER]), TIMES
)
FACTS = st.lists(OPERATORS | MEMBERS | REVOCATIONS, max_size=8)
DEPARTURES = st.builds(
    lambda who, by, at: depart(by, formation=FORMATION, subject=who.public, stamp=stamp_at(at), grants_until_ms=at, reason=""),
    st.sampled_from(NODES),
    st.sampled_from([ROOT, *NODES]),
    TIMES,
)


def _verdicts(facts: list[Statement]) -> list[tuple[object, ...]]:
    roster = Roster(FORMATION)
    for fact in facts:
        roster.learn(fact)
    said: list[tuple[object, ...]] = [
        (roster.standing(node.public, now_ms=NOW_MS), roster.last_role(node.public), roster.knows(node.public)) for node in NODES
    ]
    return [*said, (roster.subjects(), digest_of_revocations(roster.revocations()), roster.granted_by(OPERATOR.public))]


@given(facts=FACTS, data=st.data())
def test_the_order_changes_nothing(facts: list[Statement], data: st.DataObject) -> None:
    assert _verdicts(facts) == _verdicts(data.draw(st.permutations(facts)))


@given(facts=FACTS)
def test_hearing_it_twice_changes_nothing(facts: list[Statement]) -> None:
    assert _verdicts(facts) == _verdicts(facts + facts[::-1])


@given(facts=st.lists(OPERATORS | MEMBERS | REVOCATIONS | DEPARTURES, max_size=10))
def test_a_verdict_of_the_same_version_differs_by_time_alone(facts: list[Statement]) -> None:
    roster = Roster(FORMATION)
    before: dict[tuple[bytes, tuple[int, int]], list[Standing]] = {}
    for fact in facts:
        roster.learn(fact)
        for node in NODES:
            now = [roster.standing(node.public, now_ms=NOW_MS + days * 10 * DAY_MS) for days in range(-8, 17, 4)]
            assert before.setdefault((node.public, roster.version_of(node.public)), now) == now


def test_a_grant_by_an_operator_leaves_the_verdicts_on_others_as_they_were() -> None:
    roster = Roster(FORMATION)
    roster.learn(operator_grant(OPERATOR))
    versions = [roster.version_of(node.public) for node in NODES]
    roster.learn(member_grant(MEMBER, by=OPERATOR))
    assert [node for node, version in zip(NODES, versions, strict=True) if roster.version_of(node.public) != version] == [MEMBER]


def _state(facts: list[Statement], node: KeyPair) -> State:
    roster = Roster(FORMATION)
    for fact in facts:
        roster.learn(fact)
    return roster.standing(node.public, now_ms=NOW_MS).state


@given(facts=FACTS, more=st.lists(OPERATORS | MEMBERS, max_size=4), node=st.sampled_from(NODES))
def test_what_the_root_revoked_no_grant_brings_back(facts: list[Statement], more: list[Statement], node: KeyPair) -> None:
    assert _state([*facts, revocation(node, by=ROOT), *more], node) is State.REVOKED


@given(facts=FACTS, node=st.sampled_from(NODES))
def test_a_grant_renewed_by_the_root_undoes_no_revocation(facts: list[Statement], node: KeyPair) -> None:
    """Whoever was out stays out when operators, other than itself, get new grants."""
    renewed = [operator_grant(who, at_ms=NOW_MS + 60 * DAY_MS) for who in ISSUERS if who is not node and _was_operator(facts, who)]
    if _final(facts, node):
        assert _state(facts + renewed, node) is State.REVOKED


def _was_operator(facts: list[Statement], who: KeyPair) -> bool:
    roster = Roster(FORMATION)
    for fact in facts:
        roster.learn(fact)
    return any(grant.subject == who.public for grant in roster.granted_by(ROOT.public))


def _final(facts: list[Statement], node: KeyPair) -> bool:
    roster = Roster(FORMATION)
    for fact in facts:
        roster.learn(fact)
    return roster.revocation_of(node.public) is not None


@given(facts=st.lists(MEMBERS | REVOCATIONS, max_size=6))
def test_without_the_root_nobody_is_an_operator_but_the_chains_own(facts: list[Statement]) -> None:
    roster = Roster(FORMATION)
    for fact in facts:
        roster.learn(fact)
    issuers = {fact.author for fact in facts if fact.kind == "grant"}
    for node in NODES:
        standing = roster.standing(node.public, now_ms=NOW_MS)
        assert standing.role is not Role.OPERATOR or node.public in issuers
