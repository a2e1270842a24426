"""Whom a node stays connected to: what is said of one is what is said of it among all."""

from __future__ import annotations

import asyncio

from skerry.identity.grants import Role
from skerry.node.trust import Trust
from skerry.node.whereabouts import OVER_MAX, STRAIGHT_MAX, Whereabouts
from skerry.sim.clock import SimClock
from tests.support.formation import (
    CLIENT,
    FORMATION,
    MEMBER,
    NOW_MS,
    OPERATOR,
    OTHER_OPERATOR,
    STRANGER,
    member_grant,
    operator_grant,
    revocation,
)
from tests.support.links import simulated
from tests.support.replicas import Home, said

EVERYBODY = (OPERATOR, OTHER_OPERATOR, MEMBER, CLIENT, STRANGER)
TOLD = {STRANGER.public: ("tcp://inviter:1",), OTHER_OPERATOR.public: ("tcp://other:1", "tcp://other:2")}


class Known:
    """What the operator's node knows."""

    def __init__(self) -> None:
        self.home = Home(OPERATOR)
        clock = SimClock(asyncio.get_running_loop(), start_ms=NOW_MS)
        trust = Trust(OPERATOR, FORMATION, self.home.roster, self.home.replica, keyring=self.home.disk.keyring, clock=clock)
        self.whereabouts = Whereabouts(trust, self.home.replica, told=TOLD)

    def all(self) -> dict[bytes, tuple[str, ...]]:
        found = self.whereabouts.all()
        assert all(self.whereabouts.of(one.public) == found.get(one.public, ()) for one in EVERYBODY)
        assert list(found) == sorted(found)
        return found


@simulated
async def test_of_one_the_same_is_known_as_among_all() -> None:
    known = Known()
    assert known.all() == TOLD, "whom we were told of, before anything is known of it"
    known.home.takes(operator_grant(OPERATOR), operator_grant(OTHER_OPERATOR), member_grant(MEMBER), member_grant(CLIENT, role=Role.CLIENT))
    assert known.all() == TOLD, "the others have not said yet where they are"
    known.home.takes(
        said(OPERATOR, kind="node", name="node", body={"addresses": ["tcp://we:1"]}),
        said(OTHER_OPERATOR, kind="node", name="node", body={"addresses": ["tcp://other:2", 7, "tcp://other:3"]}),
        said(MEMBER, kind="node", name="node", body={"addresses": ["tcp://member:1"]}),
        said(CLIENT, kind="node", name="node", body={"addresses": ["tcp://client:1"]}),
    )
    others = {**TOLD, OTHER_OPERATOR.public: ("tcp://other:2", "tcp://other:3", "tcp://other:1")}
    assert known.all() == {**others, MEMBER.public: ("tcp://member:1",)}
    known.home.takes(said(MEMBER, kind="node", name="node", body={"addresses": "tcp://member:1"}, counter=1))
    assert known.all() == others, "that is no list of addresses"
    known.home.takes(said(MEMBER, kind="node", name="node", body={"addresses": ["tcp://member:2"]}, counter=2), revocation(OTHER_OPERATOR))
    assert known.all() == {STRANGER.public: TOLD[STRANGER.public], MEMBER.public: ("tcp://member:2",)}


@simulated
async def test_a_member_that_names_thousands_of_addresses_is_looked_for_at_few() -> None:
    """All nodes dial all of them, one after the other, and again: that looks for ports, or floods whoever is there."""
    known = Known()
    known.home.takes(operator_grant(OPERATOR), member_grant(MEMBER))
    over = [f"via:{number:064x}" for number in range(50)]
    flood = ["tcp://" + "x" * 301 + ":1", *(f"tcp://victim:{port}" for port in range(400)), *over, "tcp://victim:1"]
    known.home.takes(said(MEMBER, kind="node", name="node", body={"addresses": flood}))
    assert known.whereabouts.of(MEMBER.public) == (*(f"tcp://victim:{port}" for port in range(STRAIGHT_MAX)), *over[:OVER_MAX])
    assert MEMBER.public in known.all()
