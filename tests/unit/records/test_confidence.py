"""What nodes of one formation tell each other in confidence: whose word counts, and what is not taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skerry.identity.contacts import Contact, make_contact
from skerry.identity.grants import DAY_MS, NEVER_MS, Roster
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement, state
from skerry.records import confidence
from skerry.records.confidence import CONTACT, SHARE, Confidence, contact_body, contact_key, share_body
from skerry.records.record import Refusal
from skerry.sim.disk import SimDisk
from tests.support.formation import (
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
from tests.support.replicas import said

BOB = make_contact("bob", addresses=[], formation=key(0x7301).public.hex(), allow=["federate"])
ANN = make_contact("ann", addresses=[], node=key(0x7302).public.hex())


def confided(*, disk: SimDisk | None = None, by: KeyPair = OPERATOR) -> Confidence:
    roster = Roster(FORMATION)
    for grant in (operator_grant(), operator_grant(OTHER_OPERATOR), member_grant()):
        roster.learn(grant)
    found = Confidence((disk or SimDisk()).open(), by, formation=FORMATION, roster=roster)
    found.roster_of_test = roster  # type: ignore[attr-defined]
    return found


def word(contact: Contact, *, by: KeyPair = OPERATOR, counter: int = 0, gone: bool = False, **more: Any) -> Statement:
    fields: dict[str, Any] = {
        "kind": CONTACT,
        "name": contact_key(contact),
        "formation": FORMATION,
        "audience": "formation",
        "stamp": stamp_at(NOW_MS) + counter,
        "expires": NEVER_MS,
        "body": {} if gone else contact_body(contact),
    }
    return state(by, **fields | more)


def taken(place: Confidence, *statements: Statement) -> list[str]:
    outcomes = [place.ingest(s.signed, now_ms=NOW_MS) for s in statements]
    return [outcome.reason.value if isinstance(outcome, Refusal) else "" for outcome in outcomes]


def test_the_newest_word_of_any_operator_counts_in_whatever_order_it_comes() -> None:
    changed = make_contact("robert", addresses=[], formation=BOB.id.hex())
    words = [word(BOB), word(changed, by=OTHER_OPERATOR, counter=1), word(BOB, counter=2, gone=True), word(ANN)]
    for order in (words, words[::-1], [words[2], words[0], words[3], words[1]]):
        place = confided()
        taken(place, *order)
        assert place.contacts() == [ANN]
    place = confided()
    taken(place, *words[:2])
    assert place.contacts() == [changed]


def test_members_and_the_revoked_say_nothing_about_contacts() -> None:
    place = confided()
    assert taken(place, word(BOB, by=MEMBER), word(ANN, by=OTHER_OPERATOR)) == ["", ""]
    assert place.contacts() == [ANN]
    place.roster_of_test.learn(revocation(OTHER_OPERATOR, by=ROOT))  # type: ignore[attr-defined]
    assert place.contacts() == []


def test_of_two_with_one_name_the_older_keeps_it() -> None:
    twin = make_contact("bob", addresses=[], formation=key(0x7303).public.hex())
    place = confided()
    taken(place, word(twin, by=OTHER_OPERATOR, counter=1), word(BOB))
    assert [c.name for c in place.contacts()] == ["bob", f"bob~{twin.id.hex()[:4]}"]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (word(BOB, by=STRANGER), "not_granted"),
        (word(BOB, formation=STRANGER.public), "wrong_formation"),
        (word(BOB, audience="public"), "unknown_kind"),
        (word(BOB, kind="agent"), "unknown_kind"),
        (word(BOB, stamp=stamp_at(NOW_MS + DAY_MS)), "too_far_ahead"),
        (word(BOB, expires=NOW_MS - DAY_MS), "expired"),
        (word(BOB, body={"name": "bob"}), "malformed"),
        (word(BOB, body=contact_body(BOB) | {"allow": ["everything"]}), "malformed"),
        (word(BOB, name="ab"), "malformed"),
        (word(BOB, kind=SHARE, body={"to": [b"short"], "had": [], "anybody": False, "tombstone": b""}), "malformed"),
        (word(BOB, kind=SHARE, name="one", body=share_body([], had=[], anybody=False, tombstone=b"no record")), "malformed"),
    ],
)
def test_what_is_not_taken(statement: Statement, reason: str) -> None:
    assert taken(confided(), statement) == [reason]


def test_a_share_list_carries_the_tombstone_of_its_own_agent_alone() -> None:
    back = said(MEMBER, name="one", audience="contacts", body={})
    for wrong in (said(MEMBER, name="two", body={}), said(OPERATOR, name="one", body={}), said(MEMBER, name="one")):
        body = share_body([], had=[BOB.id], anybody=False, tombstone=wrong.signed)
        assert taken(confided(), word(BOB, by=MEMBER, kind=SHARE, name="one", body=body)) == ["malformed"]
    place = confided()
    good = share_body([ANN.id], had=[BOB.id], anybody=False, tombstone=back.signed)
    assert taken(place, word(BOB, by=MEMBER, kind=SHARE, name="one", body=good)) == [""]
    assert place.gives(MEMBER.public, "one", ANN.id)
    assert not place.gives(MEMBER.public, "one", BOB.id)
    assert place.taken_back(MEMBER.public, "one", BOB.id) == back.signed
    assert place.taken_back(MEMBER.public, "one", b"") is None
    assert not place.gives(OPERATOR.public, "one", ANN.id), "each speaks for its own agents"


def test_a_restart_finds_all_and_what_is_over_goes() -> None:
    disk = SimDisk()
    place = confided(disk=disk)
    place.say(CONTACT, contact_key(BOB), contact_body(BOB), expires=NEVER_MS, now_ms=NOW_MS)
    place.say(SHARE, "one", share_body([BOB.id], had=[], anybody=False, tombstone=b""), expires=NOW_MS + 1000, now_ms=NOW_MS)
    again = confided(disk=disk)
    assert again.digest() == place.digest()
    assert again.contacts() == [BOB]
    assert again.purge(now_ms=NOW_MS + DAY_MS) == 1
    assert [s.kind for s in again.own(CONTACT) + again.own(SHARE)] == [CONTACT]
    assert again.of_kind(SHARE) == []


def test_what_an_older_release_took_in_and_this_one_refuses_is_passed_over() -> None:
    disk = SimDisk()
    place = confided(disk=disk)
    taken(place, word(ANN))
    place._keep(word(replace(BOB, addresses=("tcp://a..b:1",))))
    assert confided(disk=disk).contacts() == [ANN]


def test_what_one_author_can_make_us_hold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(confidence.AUTHOR_MAX, SHARE, 2)
    place = confided()
    body = share_body([], had=[], anybody=False, tombstone=b"")
    lists = [word(BOB, by=MEMBER, kind=SHARE, name=name, body=body) for name in ("a", "b", "c")]
    assert taken(place, *lists) == ["", "", "over_quota"]
    assert taken(place, word(BOB, by=MEMBER, kind=SHARE, name="a", body=body, stamp=stamp_at(NOW_MS) + 9)) == [""]
