"""What a node signs for others, and when it renews its own grant."""

from __future__ import annotations

import asyncio

import pytest

from skerry.errors import Code, Refused, UsageError
from skerry.identity.grants import DAY_MS, LAPSED_MS, MEMBER_MS, OPERATOR_MS, Role, State
from skerry.identity.keys import KeyPair
from skerry.node.trust import ROOT_KEY, Trust
from skerry.sim.clock import SimClock
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
)
from tests.support.links import simulated
from tests.support.replicas import Home


class Member:
    """One home of the formation, with a clock that can be set."""

    def __init__(self, own: KeyPair = OPERATOR, *, holds_root: bool = True) -> None:
        self.home = Home(own)
        self.clock = SimClock(asyncio.get_running_loop(), start_ms=NOW_MS)
        if holds_root:
            self.home.disk.keyring.save(ROOT_KEY, ROOT.seed)
        self.trust = Trust(own, FORMATION, self.home.roster, self.home.replica, keyring=self.home.disk.keyring, clock=self.clock)
        self.home.takes(operator_grant(OPERATOR))

    def state(self, who: KeyPair) -> State:
        return self.trust.standing(who.public).state


def code(error: pytest.ExceptionInfo[Refused]) -> str:
    assert error.value.hint
    return error.value.code


@simulated
async def test_the_founder_grants_every_role() -> None:
    founder = Member()
    for who, role in ((OTHER_OPERATOR, Role.OPERATOR), (MEMBER, Role.MEMBER), (CLIENT, Role.CLIENT)):
        founder.trust.grant(who.public, role)
        standing = founder.trust.standing(who.public)
        assert (standing.state, standing.role) == (State.VALID, role)
    assert founder.trust.may_invite()
    assert founder.trust.holds_root


@simulated
async def test_an_operator_without_the_root_key_grants_no_operators_and_revokes_none() -> None:
    operator = Member(holds_root=False)
    operator.trust.grant(MEMBER.public, Role.MEMBER)
    with pytest.raises(Refused) as caught:
        operator.trust.grant(STRANGER.public, Role.OPERATOR)
    assert code(caught) == Code.NOT_GRANTED
    operator.home.takes(operator_grant(OTHER_OPERATOR))
    with pytest.raises(Refused) as caught:
        operator.trust.revoke(OTHER_OPERATOR.public, "")
    assert code(caught) == Code.NOT_GRANTED
    operator.trust.revoke(MEMBER.public, "lost")
    assert operator.state(MEMBER) is State.REVOKED


@simulated
async def test_a_member_grants_and_revokes_nobody() -> None:
    member = Member(MEMBER, holds_root=False)
    member.home.takes(member_grant(), member_grant(CLIENT))
    for act in (lambda: member.trust.grant(STRANGER.public, Role.MEMBER), lambda: member.trust.revoke(CLIENT.public, "")):
        with pytest.raises(Refused) as caught:
            act()
        assert code(caught) == Code.NOT_GRANTED
    assert not member.trust.may_invite()


@simulated
async def test_a_lapsed_operator_signs_nothing() -> None:
    operator = Member(holds_root=False)
    operator.clock.step(OPERATOR_MS + DAY_MS)
    assert operator.trust.own().state is State.LAPSED
    with pytest.raises(Refused):
        operator.trust.grant(MEMBER.public, Role.MEMBER)
    assert not operator.trust.may_invite()


@simulated
async def test_whom_nobody_can_revoke() -> None:
    founder = Member()
    founder.trust.grant(MEMBER.public, Role.MEMBER)
    with pytest.raises(UsageError):
        founder.trust.revoke(OPERATOR.public, "")
    with pytest.raises(Refused) as caught:
        founder.trust.revoke(STRANGER.public, "")
    assert caught.value.code == Code.NOT_FOUND
    founder.trust.revoke(MEMBER.public, "")
    with pytest.raises(Refused) as caught:
        founder.trust.revoke(MEMBER.public, "")
    assert caught.value.code == Code.CONFLICT


@simulated
async def test_a_grant_is_renewed_in_its_own_role_while_it_belongs() -> None:
    founder = Member()
    for who, role in ((MEMBER, Role.MEMBER), (CLIENT, Role.CLIENT)):
        founder.trust.grant(who.public, role)
    founder.clock.step(MEMBER_MS + DAY_MS)
    for who, role in ((MEMBER, Role.MEMBER), (CLIENT, Role.CLIENT)):
        assert founder.state(who) is State.LAPSED
        assert founder.trust.renew_for(who.public).role is role
        assert founder.state(who) is State.VALID
    founder.clock.step(MEMBER_MS + LAPSED_MS + DAY_MS)
    with pytest.raises(Refused):
        founder.trust.renew_for(MEMBER.public)
    founder.trust.grant(CLIENT.public, Role.CLIENT)
    founder.trust.revoke(CLIENT.public, "")
    for who in (CLIENT, STRANGER):
        with pytest.raises(Refused):
            founder.trust.renew_for(who.public)


@simulated
async def test_the_founder_renews_itself_at_half_its_life() -> None:
    founder = Member()
    founder.clock.step(OPERATOR_MS // 2 - DAY_MS)
    assert not founder.trust.renew_own()
    founder.clock.step(2 * DAY_MS)
    assert founder.trust.renew_own()
    assert not founder.trust.renew_own()
    assert founder.trust.own().expires_ms > NOW_MS + OPERATOR_MS
    other = Member(holds_root=False)
    other.clock.step(OPERATOR_MS // 2 + DAY_MS)
    assert other.trust.renewal_due()
    assert not other.trust.renew_own()


@simulated
async def test_what_an_operator_revoked_stays_revoked_when_it_renews_itself() -> None:
    founder = Member()
    founder.trust.grant(MEMBER.public, Role.MEMBER)
    founder.home.disk.keyring.delete(ROOT_KEY)
    founder.trust.revoke(MEMBER.public, "lost")  # under the operator's own key
    founder.home.disk.keyring.save(ROOT_KEY, ROOT.seed)
    founder.clock.step(OPERATOR_MS // 2 + DAY_MS)
    assert founder.trust.renew_own()
    assert founder.state(MEMBER) is State.REVOKED
    assert founder.trust.roster.revocation_of(MEMBER.public) is not None


@simulated
async def test_members_of_a_revoked_operator_are_kept_where_asked() -> None:
    founder = Member()
    founder.home.takes(member_grant(MEMBER, by=OTHER_OPERATOR), member_grant(CLIENT, by=OTHER_OPERATOR, role=Role.CLIENT))
    assert founder.trust.reissue(OTHER_OPERATOR.public, keep=[CLIENT.public]) == 1
    founder.trust.revoke(OTHER_OPERATOR.public, "stolen")
    assert founder.state(MEMBER) is State.REVOKED
    assert founder.trust.standing(CLIENT.public).role is Role.CLIENT
    assert founder.state(CLIENT) is State.VALID


@simulated
async def test_the_root_key_comes_back_to_its_own_formation_alone() -> None:
    member = Member(MEMBER, holds_root=False)
    member.home.takes(member_grant())
    with pytest.raises(UsageError) as caught:
        member.trust.restore_root(STRANGER.seed)
    assert caught.value.code == Code.CONFLICT
    assert not member.trust.holds_root
    member.trust.restore_root(ROOT.seed)
    assert member.trust.own().role is Role.OPERATOR
    assert member.trust.may_invite()


@simulated
async def test_a_verdict_is_not_believed_for_longer_than_it_holds() -> None:
    founder = Member()
    founder.trust.grant(MEMBER.public, Role.MEMBER)
    assert founder.state(MEMBER) is State.VALID
    founder.trust.revoke(MEMBER.public, "")
    assert founder.state(MEMBER) is State.REVOKED, "at once, not when the last verdict is old"
    founder.trust.grant(CLIENT.public, Role.CLIENT)
    assert founder.state(CLIENT) is State.VALID
    founder.clock.step(MEMBER_MS + DAY_MS)
    assert founder.state(CLIENT) is State.LAPSED
    founder.clock.step(-2 * DAY_MS)
    assert founder.state(CLIENT) is State.VALID, "the clock was set back"
