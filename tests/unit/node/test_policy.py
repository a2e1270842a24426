"""Role to rights, for every state and role there is."""

from __future__ import annotations

import itertools

import pytest

from skerry.identity.grants import Role, Standing, State
from skerry.node.policy import OWNER, RIGHTS, Right, rights_of

STRANGERS = frozenset({Right.PING, Right.JOIN})


@pytest.mark.parametrize(("state", "role"), list(itertools.product(State, [*Role, None])))
def test_every_standing_has_its_rights(state: State, role: Role | None) -> None:
    rights = rights_of(Standing(state, role))
    assert rights <= frozenset(Right)
    assert Right.OWN not in rights, "nobody owns a machine over the network"
    if state is State.REVOKED:
        assert rights == frozenset()
    elif role is None or state not in (State.VALID, State.LAPSED):
        assert rights == STRANGERS
    else:
        assert rights > STRANGERS
        assert Right.CALL in rights


def test_a_greater_role_may_all_that_a_lesser_one_may() -> None:
    client, member, operator = (rights_of(Standing(State.VALID, role)) for role in (Role.CLIENT, Role.MEMBER, Role.OPERATOR))
    assert client < member < operator
    assert operator - member == {Right.OPERATE, Right.ADMIN}
    assert Right.FEDERATE in member - client


@pytest.mark.parametrize("role", Role)
def test_who_lapsed_may_less_and_nothing_new(role: Role) -> None:
    lapsed = rights_of(Standing(State.LAPSED, role))
    assert lapsed < rights_of(Standing(State.VALID, role))
    assert Right.RENEW in lapsed
    assert not lapsed & {Right.OPERATE, Right.ADMIN, Right.OBSERVE}


def test_the_owner_may_everything_whatever_its_standing() -> None:
    for state in State:
        assert rights_of(Standing(state), owner=True) == OWNER == frozenset(Right)


def test_the_table_names_only_states_that_belong() -> None:
    assert {state for state, _ in RIGHTS} == {State.VALID, State.LAPSED}
    assert {role for _, role in RIGHTS} == set(Role)
