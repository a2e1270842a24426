"""The table of the others."""

from __future__ import annotations

from skerry.discovery.members import Members
from skerry.discovery.moves import State
from skerry.discovery.suspicion import Suspicion


def doubt() -> Suspicion:
    return Suspicion(began_s=0, shortest_s=1, longest_s=2, wanted=1)


def test_the_ring_is_of_those_who_are_present() -> None:
    members = Members()
    for node in (b"c", b"a", b"b"):
        members.add(node, doubt())
    assert members.ring == [b"a", b"b", b"c"]
    member = members.get(b"b")
    assert member is not None
    assert members.turn(member, State.GONE) is State.SUSPECT
    assert members.ring == [b"a", b"c"]
    members.turn(member, State.ALIVE)
    assert members.ring == [b"a", b"b", b"c"]
    members.drop([b"a"])
    assert members.ring == [b"b", b"c"]
    assert b"a" not in members
    assert members.get(None) is None


def test_who_is_doubted_is_known_and_nobody_else() -> None:
    members = Members()
    members.add(b"a", doubt())
    members.add(b"b", doubt())
    a, b = members
    members.turn(a, State.ALIVE)
    assert [member.node for member, _ in members.suspects()] == [b"b"]
    again = doubt()
    members.turn(a, State.SUSPECT, suspicion=again)
    members.drop([b.node])
    assert members.suspects() == [(a, again)]
