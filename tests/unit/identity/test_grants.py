"""Chains, revocations and the verdict."""

from __future__ import annotations

import pytest

from skerry.errors import Code, ProtocolError
from skerry.identity.grants import (
    DAY_MS,
    LAPSED_MS,
    MEMBER_MS,
    OPERATOR_MS,
    TOLERANCE_MS,
    Role,
    Roster,
    State,
    depart,
    digest_of_revocations,
    issue,
    read_departure,
    read_grant,
    read_revocation,
)
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement, parse, state
from tests.support.formation import (
    CLIENT,
    FORMATION,
    MEMBER,
    NOW_MS,
    OPERATOR,
    OTHER_OPERATOR,
    ROOT,
    STRANGER,
    key,
    member_grant,
    operator_grant,
    revocation,
)


def roster(*statements: Statement) -> Roster:
    known = Roster(FORMATION)
    for statement in statements:
        known.learn(statement)
    return known


def stands(known: Roster, who: KeyPair, *, at_ms: int = NOW_MS) -> tuple[State, Role | None]:
    standing = known.standing(who.public, now_ms=at_ms)
    return standing.state, standing.role


# --- chains -----------------------------------------------------------------------------------------------------------------------


def test_the_root_makes_operators_and_operators_make_members_and_clients() -> None:
    known = roster(operator_grant(), member_grant(), member_grant(CLIENT, role=Role.CLIENT))
    assert stands(known, OPERATOR) == (State.VALID, Role.OPERATOR)
    assert stands(known, MEMBER) == (State.VALID, Role.MEMBER)
    assert stands(known, CLIENT) == (State.VALID, Role.CLIENT)
    assert stands(known, STRANGER) == (State.UNKNOWN, None)
    assert stands(known, ROOT) == (State.UNKNOWN, None), "the root key itself is no node"


def test_a_members_grant_proves_itself() -> None:
    """It travels with its chain: whoever knows only the formation's id can judge it."""
    known = roster(parse(member_grant().signed))
    assert stands(known, MEMBER) == (State.VALID, Role.MEMBER)
    assert stands(known, OPERATOR) == (State.VALID, Role.OPERATOR)


def test_lifetimes_are_a_year_and_a_month() -> None:
    assert read_grant(operator_grant()).expires_ms == NOW_MS + OPERATOR_MS == NOW_MS + 365 * DAY_MS
    assert read_grant(member_grant()).expires_ms == NOW_MS + MEMBER_MS == NOW_MS + 30 * DAY_MS


OPERATORS = read_grant(operator_grant())
MEMBERS = read_grant(member_grant())
STAMP = stamp_at(NOW_MS)


@pytest.mark.parametrize(
    ("who", "statement"),
    [
        ("a member grants", issue(MEMBER, formation=FORMATION, subject=STRANGER.public, role=Role.MEMBER, stamp=STAMP, chain=MEMBERS)),
        ("an operator grants operators", issue(OPERATOR, formation=FORMATION, subject=MEMBER.public, role=Role.OPERATOR, stamp=STAMP)),
        (
            "an operator grants operators, with its chain",
            issue(OPERATOR, formation=FORMATION, subject=MEMBER.public, role=Role.OPERATOR, stamp=STAMP, chain=OPERATORS),
        ),
        ("the root grants members", issue(ROOT, formation=FORMATION, subject=MEMBER.public, role=Role.MEMBER, stamp=STAMP)),
        (
            "the root shows a chain",
            issue(ROOT, formation=FORMATION, subject=MEMBER.public, role=Role.OPERATOR, stamp=STAMP, chain=OPERATORS),
        ),
        ("nobody stands behind it", issue(STRANGER, formation=FORMATION, subject=MEMBER.public, role=Role.MEMBER, stamp=STAMP)),
        (
            "somebody else's chain is borrowed",
            issue(STRANGER, formation=FORMATION, subject=STRANGER.public, role=Role.MEMBER, stamp=STAMP, chain=OPERATORS),
        ),
        (
            "the chain is of another formation",
            issue(OPERATOR, formation=STRANGER.public, subject=MEMBER.public, role=Role.MEMBER, stamp=STAMP, chain=OPERATORS),
        ),
    ],
)
def test_nobody_else_grants(who: str, statement: Statement) -> None:
    with pytest.raises(ProtocolError):
        read_grant(statement)


def test_an_operator_can_not_sign_outside_its_own_time() -> None:
    short = read_grant(operator_grant(lifetime_ms=DAY_MS))
    read_grant(member_grant(at_ms=NOW_MS + DAY_MS + TOLERANCE_MS, chain=short))
    for at_ms in (NOW_MS + DAY_MS + TOLERANCE_MS + 1, NOW_MS - TOLERANCE_MS - 1):
        with pytest.raises(ProtocolError, match="did not hold"):
            read_grant(member_grant(at_ms=at_ms, chain=short))


def test_a_long_chain_is_refused_before_it_is_followed() -> None:
    """Each link holds the one before; hundreds of them would fill the stack before anyone sees that two are the most."""
    link = issue(STRANGER, formation=FORMATION, subject=STRANGER.public, role=Role.MEMBER, stamp=STAMP)
    while len(link.signed) < 60_000:
        link = state(
            STRANGER,
            kind="grant",
            name=STRANGER.public.hex(),
            formation=FORMATION,
            audience="formation",
            stamp=STAMP,
            expires=NOW_MS,
            body={"subject": STRANGER.public, "role": "member", "chain": [link.signed]},
        )

    def from_deep_inside(depth: int) -> None:
        if depth:
            from_deep_inside(depth - 1)
        else:
            with pytest.raises(ProtocolError):
                read_grant(link)

    from_deep_inside(600)


def test_a_damaged_link_breaks_the_chain() -> None:
    good = operator_grant()
    broken = good.signed[:-1] + bytes([good.signed[-1] ^ 1])
    said = state(
        OPERATOR,
        kind="grant",
        name=MEMBER.public.hex(),
        formation=FORMATION,
        audience="formation",
        stamp=STAMP,
        expires=NOW_MS + DAY_MS,
        body={"subject": MEMBER.public, "role": "member", "chain": [broken]},
    )
    with pytest.raises(ProtocolError, match="signature"):
        read_grant(said)


def test_a_grant_bears_its_subjects_name() -> None:
    good = member_grant()
    body = {**good.body, "subject": STRANGER.public}
    other = state(OPERATOR, kind="grant", name=good.name, formation=FORMATION, audience="formation", stamp=STAMP, expires=NOW_MS, body=body)
    with pytest.raises(ProtocolError, match="bear it as its name"):
        read_grant(other)


def test_another_formations_grants_are_not_learned() -> None:
    foreign = issue(STRANGER, formation=STRANGER.public, subject=MEMBER.public, role=Role.OPERATOR, stamp=STAMP)
    with pytest.raises(ProtocolError) as caught:
        roster(foreign)
    assert caught.value.code == Code.NOT_GRANTED


# --- time -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_ms", "expected"),
    [
        (-TOLERANCE_MS - 1, State.CLOCK_OFF),
        (-TOLERANCE_MS, State.VALID),
        (0, State.VALID),
        (MEMBER_MS + TOLERANCE_MS, State.VALID),
        (MEMBER_MS + TOLERANCE_MS + 1, State.LAPSED),
        (MEMBER_MS + LAPSED_MS, State.LAPSED),
        (MEMBER_MS + LAPSED_MS + 1, State.EXPIRED),
    ],
)
def test_a_grant_lapses_and_then_expires(at_ms: int, expected: State) -> None:
    known = roster(member_grant())
    assert stands(known, MEMBER, at_ms=NOW_MS + at_ms) == (expected, Role.MEMBER)
    assert known.standing(MEMBER.public, now_ms=NOW_MS + at_ms).belongs == (expected in (State.VALID, State.LAPSED))


def test_the_best_grant_counts_whoever_gave_it() -> None:
    known = roster(member_grant(at_ms=NOW_MS - MEMBER_MS - DAY_MS), member_grant(by=OTHER_OPERATOR))
    assert stands(known, MEMBER) == (State.VALID, Role.MEMBER)
    known.learn(operator_grant(MEMBER))
    assert stands(known, MEMBER) == (State.VALID, Role.OPERATOR)


def test_an_older_grant_does_not_come_back() -> None:
    new, old = member_grant(at_ms=NOW_MS), member_grant(at_ms=NOW_MS - DAY_MS)
    for order in ((new, old), (old, new)):
        grant = roster(*order).standing(MEMBER.public, now_ms=NOW_MS).grant
        assert grant is not None
        assert grant.statement == new


# --- revocations --------------------------------------------------------------------------------------------------------------------


def test_a_revocation_beats_every_grant_whatever_its_stamp() -> None:
    known = roster(revocation(MEMBER, at_ms=NOW_MS), member_grant(at_ms=NOW_MS + 100), operator_grant(MEMBER, at_ms=NOW_MS + 200))
    standing = known.standing(MEMBER.public, now_ms=NOW_MS)
    assert standing.state is State.REVOKED
    assert standing.reason == "lost"


def test_an_operator_revokes_members_and_no_operators() -> None:
    known = roster(member_grant(), operator_grant(OTHER_OPERATOR))
    known.learn(revocation(MEMBER, by=OPERATOR))
    known.learn(revocation(OTHER_OPERATOR, by=OPERATOR))
    assert stands(known, MEMBER)[0] is State.REVOKED
    assert stands(known, OTHER_OPERATOR)[0] is State.VALID


def test_a_member_revokes_nobody() -> None:
    known = roster(member_grant(), member_grant(CLIENT, role=Role.CLIENT), revocation(CLIENT, by=MEMBER), revocation(CLIENT, by=STRANGER))
    assert stands(known, CLIENT)[0] is State.VALID
    assert known.revocations() == []


def test_a_revoked_operator_voids_what_it_granted_and_another_grant_saves_it() -> None:
    known = roster(member_grant(), revocation(OPERATOR))
    assert stands(known, MEMBER)[0] is State.REVOKED
    known.learn(member_grant(by=OTHER_OPERATOR))
    assert stands(known, MEMBER) == (State.VALID, Role.MEMBER)


def test_what_an_operator_revoked_before_it_was_revoked_itself_stays_so() -> None:
    known = roster(member_grant(by=OTHER_OPERATOR), operator_grant(), revocation(MEMBER, by=OPERATOR, at_ms=NOW_MS))
    known.learn(revocation(OPERATOR, at_ms=NOW_MS + DAY_MS))
    assert stands(known, MEMBER, at_ms=NOW_MS + DAY_MS)[0] is State.REVOKED


def test_a_revoked_operator_revokes_nobody_any_more() -> None:
    known = roster(member_grant(by=OTHER_OPERATOR), operator_grant(), revocation(OPERATOR, at_ms=NOW_MS))
    known.learn(revocation(MEMBER, by=OPERATOR, at_ms=NOW_MS + 1))
    assert stands(known, MEMBER)[0] is State.VALID


def test_a_revocation_stands_when_its_operators_grant_is_renewed() -> None:
    """The newest grant of an operator begins after what it revoked under the one before; a node that came later knows only that."""
    said = revocation(MEMBER, by=OPERATOR, at_ms=NOW_MS)
    renewed = operator_grant(at_ms=NOW_MS + 183 * DAY_MS)
    later_ms = NOW_MS + 184 * DAY_MS
    kept = member_grant(by=OTHER_OPERATOR, at_ms=later_ms)
    for order in ((operator_grant(), said, renewed, kept), (renewed, said, kept), (kept, renewed, said)):
        assert stands(roster(*order), MEMBER, at_ms=later_ms)[0] is State.REVOKED


@pytest.mark.parametrize(
    "body",
    [
        {"subject": MEMBER.public, "time": NOW_MS},
        {"subject": MEMBER.public, "time": "now", "reason": ""},
        {"subject": MEMBER.public, "time": NOW_MS, "reason": "x" * 201},
        {"subject": MEMBER.public, "time": NOW_MS, "reason": "", "more": 1},
        {"subject": STRANGER.public, "time": NOW_MS, "reason": ""},
        {"subject": b"short", "time": NOW_MS, "reason": ""},
    ],
)
def test_a_malformed_revocation_is_refused(body: dict[str, object]) -> None:
    said = state(
        ROOT,
        kind="revocation",
        name=MEMBER.public.hex(),
        formation=FORMATION,
        audience="formation",
        stamp=STAMP,
        expires=NOW_MS,
        body=body,
    )
    with pytest.raises(ProtocolError):
        read_revocation(said)


def test_two_nodes_see_at_once_whether_they_know_the_same_revocations() -> None:
    one, two = revocation(MEMBER), revocation(CLIENT)
    digests = {digest_of_revocations(roster(*order).revocations()) for order in ((one, two), (two, one))}
    assert len(digests) == 1
    assert digest_of_revocations(roster(one).revocations()) not in digests


def test_what_an_issuer_signed_is_listed_in_one_order() -> None:
    members = [key(number) for number in range(50, 60)]
    grants = [member_grant(member) for member in members]
    listed = [roster(*order).granted_by(OPERATOR.public) for order in (grants, grants[::-1])]
    assert listed[0] == listed[1]
    assert {grant.subject for grant in listed[0]} == {member.public for member in members}


# --- departures -----------------------------------------------------------------------------------------------------------------------


def departure(subject: KeyPair, *, by: KeyPair, at_ms: int = NOW_MS + 1000, reason: str = "") -> Statement:
    stamp = stamp_at(at_ms)
    return depart(by, formation=FORMATION, subject=subject.public, stamp=stamp, grants_until_ms=at_ms + MEMBER_MS, reason=reason)


LATER_MS = NOW_MS + 2000


@pytest.mark.parametrize("by", [MEMBER, OPERATOR, ROOT])
def test_a_departure_ends_what_was_granted_before_it_in_whatever_order_they_come(by: KeyPair) -> None:
    left, before, after = departure(MEMBER, by=by), member_grant(), member_grant(at_ms=NOW_MS + 5000)
    for order in ((before, left), (left, before)):
        assert stands(roster(operator_grant(), *order), MEMBER, at_ms=LATER_MS)[0] is State.DEPARTED
    for back in ((before, left, after), (after, left, before)):
        known = roster(operator_grant(), *back)
        assert stands(known, MEMBER, at_ms=NOW_MS + 6000) == (State.VALID, Role.MEMBER), "a newer grant brings it back"


def test_the_reason_says_who_ended_it() -> None:
    own = roster(member_grant(), departure(MEMBER, by=MEMBER)).standing(MEMBER.public, now_ms=LATER_MS)
    assert "left" in own.reason
    told = roster(member_grant(), departure(MEMBER, by=OPERATOR, reason="the disk died")).standing(MEMBER.public, now_ms=LATER_MS)
    assert "operator" in told.reason
    assert "the disk died" in told.reason


@pytest.mark.parametrize("by", [MEMBER, CLIENT, STRANGER, OTHER_OPERATOR])
def test_nobody_else_ends_a_membership(by: KeyPair) -> None:
    """OTHER_OPERATOR's grant is not known here; OPERATOR, who is one, ends no other operator's."""
    subject = key(0x0999)
    known = roster(member_grant(), member_grant(subject), member_grant(CLIENT, role=Role.CLIENT), departure(subject, by=by))
    assert stands(known, subject, at_ms=LATER_MS)[0] is State.VALID


def test_an_operator_is_let_go_by_itself_or_by_the_root_key() -> None:
    facts = (operator_grant(OTHER_OPERATOR), operator_grant())
    assert stands(roster(*facts, departure(OTHER_OPERATOR, by=OPERATOR)), OTHER_OPERATOR, at_ms=LATER_MS)[0] is State.VALID
    for by in (OTHER_OPERATOR, ROOT):
        assert stands(roster(*facts, departure(OTHER_OPERATOR, by=by)), OTHER_OPERATOR, at_ms=LATER_MS)[0] is State.DEPARTED


def test_who_was_granted_by_an_operator_that_left_stays_and_what_it_signs_later_is_nothing() -> None:
    known = roster(member_grant(), departure(OPERATOR, by=OPERATOR))
    assert stands(known, MEMBER, at_ms=LATER_MS)[0] is State.VALID
    known.learn(member_grant(CLIENT, role=Role.CLIENT, at_ms=LATER_MS))
    assert stands(known, CLIENT, at_ms=LATER_MS)[0] is State.DEPARTED


def test_a_departure_does_not_soften_a_revocation() -> None:
    known = roster(member_grant(), revocation(MEMBER), departure(MEMBER, by=MEMBER), member_grant(at_ms=LATER_MS))
    assert stands(known, MEMBER, at_ms=LATER_MS)[0] is State.REVOKED


def test_a_departure_is_held_until_none_of_the_grants_could_serve() -> None:
    left = departure(MEMBER, by=MEMBER)
    assert left.expires > NOW_MS + 1000 + MEMBER_MS + LAPSED_MS
    assert read_departure(left).own


@pytest.mark.parametrize("body", [{}, {"subject": MEMBER.public}, {"subject": MEMBER.public, "reason": 1}, {"subject": b"", "reason": ""}])
def test_a_malformed_departure_is_refused(body: dict[str, object]) -> None:
    said = state(
        OPERATOR,
        kind="departure",
        name=MEMBER.public.hex(),
        formation=FORMATION,
        audience="formation",
        stamp=stamp_at(NOW_MS),
        expires=NOW_MS + DAY_MS,
        body=body,
    )
    with pytest.raises(ProtocolError):
        read_departure(said)
