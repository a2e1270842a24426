"""What leaves a formation, and what one formation may leave with another."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.identity.grants import Role, issue, read_grant, revoke
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement, parse
from skerry.ports import Row, Store
from skerry.records import abroad
from skerry.records.abroad import Abroad, Foreign, Shared
from skerry.records.record import Refusal
from skerry.sim.disk import SimDisk
from tests.support.formation import DAY_MS, FORMATION, MEMBER, NOW_MS, OPERATOR, ROOT, key, member_grant, operator_grant, revocation
from tests.support.replicas import Home, said

BOB, CAROL = b"b" * 32, b"c" * 32
THEIR_ROOT, THEIRS, THEIR_CLIENT, THEIR_OPERATOR = key(0x7101), key(0x7102), key(0x7103), key(0x7104)


class Lists:
    """To whom agents are given, and from whom they were taken back."""

    def __init__(self) -> None:
        self.given: dict[tuple[bytes, str], set[bytes]] = {}
        self.back: dict[tuple[bytes, str, bytes], bytes] = {}

    def gives(self, author: bytes, name: str, contact: bytes) -> bool:
        return contact in self.given.get((author, name), set())

    def taken_back(self, author: bytes, name: str, contact: bytes) -> bytes | None:
        return self.back.get((author, name, contact))


class House(Home):
    """A formation's replica, and what of it others may have."""

    def __init__(self, disk: SimDisk | None = None) -> None:
        super().__init__(disk=disk)
        self.takes(operator_grant(), member_grant())
        self.lists = Lists()
        self.shared = Shared(
            self.replica,
            self.store,
            self.roster,
            lists=self.lists,
            believed=lambda node: self.roster.standing(node, now_ms=NOW_MS).belongs,
        )

    def given_to(self, contact: bytes, cursor: str = "") -> list[Statement]:
        found: list[Statement] = []
        while True:
            page, cursor, more = self.shared.page(cursor, contact=contact, limit=2)
            found += [parse(signed) for signed in page]
            if not more:
                self.cursor = cursor
                return found


def names(statements: list[Statement]) -> list[str]:
    return [s.name for s in statements if s.kind == "agent"]


def test_only_what_is_shared_leaves_and_with_it_only_the_grants_of_its_authors() -> None:
    house = House()
    house.takes(
        said(MEMBER, name="private"),
        said(MEMBER, name="for-all", audience="public"),
        said(MEMBER, name="for-some", audience="contacts"),
        said(MEMBER, name="for-nodes", audience=(BOB,)),
        said(OPERATOR, kind="node", name="node", audience="public"),
    )
    house.lists.given[MEMBER.public, "for-some"] = {BOB}
    assert names(house.given_to(BOB)) == ["for-all", "for-some"]
    assert {(s.kind, s.name) for s in house.given_to(BOB) if s.kind != "agent"} == {("grant", MEMBER.public.hex())}
    assert names(house.given_to(CAROL)) == ["for-all"], "another one's share is not theirs"
    assert names(house.given_to(b"")) == ["for-all"], "whoever shows nothing gets what is public"
    assert house.shared.may_have(MEMBER.public, "for-some", BOB)
    assert not house.shared.may_have(MEMBER.public, "for-some", CAROL)
    assert not house.shared.may_have(MEMBER.public, "private", BOB)
    assert house.shared.authors_of("for-some") == [MEMBER.public]


def test_where_nothing_is_shared_not_even_a_grant_leaves() -> None:
    house = House()
    house.takes(said(MEMBER, name="private"), revocation(key(0x7777)))
    assert house.given_to(BOB) == []


def test_pages_go_on_from_their_cursor_and_lose_nothing() -> None:
    house = House()
    house.takes(*(said(MEMBER, name=f"a{number}", audience="public") for number in range(7)))
    assert names(house.given_to(BOB)) == [f"a{number}" for number in range(7)]
    assert house.given_to(BOB, house.cursor) == []
    house.takes(said(MEMBER, name="late", audience="public"))
    assert names(house.given_to(BOB, house.cursor)) == ["late"]
    assert len(names(house.given_to(BOB, "of another life.3"))) == 8


def test_who_is_put_on_a_list_later_gets_what_stands_before_its_cursor() -> None:
    house = House()
    house.takes(said(MEMBER, name="one", audience="contacts"))
    house.lists.given[MEMBER.public, "one"] = {BOB}
    assert names(house.given_to(CAROL)) == []
    house.lists.given[MEMBER.public, "one"].add(CAROL)
    house.shared.touch(MEMBER.public, "one")
    assert names(house.given_to(CAROL, house.cursor)) == ["one"]


def test_who_is_dropped_gets_the_tombstone_and_others_do_not() -> None:
    house = House()
    house.takes(said(MEMBER, name="one", audience="contacts"))
    house.lists.given[MEMBER.public, "one"] = {BOB, CAROL}
    house.given_to(CAROL)
    back = said(MEMBER, name="one", audience="contacts", counter=1, body={})
    house.lists.given[MEMBER.public, "one"] = {BOB}
    house.lists.back[MEMBER.public, "one", CAROL] = back.signed
    house.shared.touch(MEMBER.public, "one")
    (last,) = [s for s in house.given_to(CAROL, house.cursor) if s.kind == "agent"]
    assert last.tombstone
    assert [s.tombstone for s in house.given_to(BOB) if s.kind == "agent"] == [False]


def test_a_removed_agent_leaves_as_a_tombstone_to_those_who_had_it() -> None:
    house = House()
    house.takes(said(MEMBER, name="one", audience="public"))
    house.given_to(BOB)
    house.takes(said(MEMBER, name="one", audience="public", counter=1, body={}))
    (last,) = [s for s in house.given_to(BOB, house.cursor) if s.kind == "agent"]
    assert last.tombstone


def test_a_revoked_author_is_withdrawn_by_its_revocation_and_only_from_those_who_saw_it() -> None:
    house = House()
    house.takes(said(MEMBER, name="one", audience="contacts"))
    house.lists.given[MEMBER.public, "one"] = {BOB}
    house.given_to(BOB)
    house.takes(revocation(MEMBER))
    assert [s.kind for s in house.given_to(BOB, house.cursor)] == ["revocation"]
    assert house.given_to(CAROL) == []
    assert not house.shared.may_have(MEMBER.public, "one", BOB)


def test_a_restart_shows_the_same() -> None:
    house = House()
    house.takes(said(MEMBER, name="one", audience="public"), said(MEMBER, name="two"))
    house.store.commit()
    assert names(House(house.disk).given_to(BOB)) == ["one"]


# --- what we hold of others -------------------------------------------------------------------------------------------------------


def their_grant(subject: KeyPair = THEIRS, *, role: Role = Role.MEMBER, at_ms: int = NOW_MS, lifetime_ms: int | None = None) -> Statement:
    stamp, formation = stamp_at(at_ms), THEIR_ROOT.public
    above = issue(THEIR_ROOT, formation=formation, subject=THEIR_OPERATOR.public, role=Role.OPERATOR, stamp=stamp_at(NOW_MS))
    chain = read_grant(above)
    return issue(THEIR_OPERATOR, formation=formation, subject=subject.public, role=role, stamp=stamp, lifetime_ms=lifetime_ms, chain=chain)


def theirs(name: str = "one", *, by: KeyPair = THEIRS, audience: str = "public", at_ms: int = NOW_MS, **fields: Any) -> Statement:
    return said(by, name=name, formation=THEIR_ROOT.public, audience=audience, at_ms=at_ms, **fields)


def foreign(store: Store | None = None) -> Foreign:
    found = Abroad(store or SimDisk().open()).of(THEIR_ROOT.public)
    assert isinstance(found.ingest(their_grant().signed, now_ms=NOW_MS), Statement)
    return found


def taken(place: Foreign, statement: Statement, only_of: bytes | None = None) -> str:
    outcome = place.ingest(statement.signed, now_ms=NOW_MS, only_of=only_of)
    return outcome.reason.value if isinstance(outcome, Refusal) else ""


def test_what_is_shared_with_us_is_held_apart_from_ours() -> None:
    home = Home()
    home.takes(operator_grant(), said(name="ours"))
    place = Abroad(home.store).of(THEIR_ROOT.public)
    place.ingest(their_grant().signed, now_ms=NOW_MS)
    assert taken(place, theirs()) == ""
    assert [s.name for s in place.agents(now_ms=NOW_MS)] == ["one"]
    assert [s.name for s in home.replica.living("agent", now_ms=NOW_MS)] == ["ours"]
    assert all(parse(signed).formation == FORMATION for signed in home.replica.page("", reader=MEMBER.public)[0]), "it goes to nobody"
    assert not home.roster.knows(THEIRS.public)


def test_a_restart_finds_it_and_dropping_leaves_nothing() -> None:
    disk = SimDisk()
    store = disk.open()
    place = Abroad(store).of(THEIR_ROOT.public)
    place.ingest(their_grant().signed, now_ms=NOW_MS)
    place.ingest(theirs().signed, now_ms=NOW_MS)
    store.commit()
    again = Abroad(disk.open())
    assert again.formations() == [THEIR_ROOT.public]
    assert [s.name for s in again.of(THEIR_ROOT.public).agents(now_ms=NOW_MS)] == ["one"]
    again.drop(THEIR_ROOT.public)
    assert again.formations() == []
    assert again.find(THEIR_ROOT.public) is None
    assert SimDisk().open().formations() == []


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (theirs(audience="formation"), "not_granted"),
        (theirs(by=key(0x7999)), "not_granted"),
        (said(THEIRS, kind="node", name="node", formation=THEIR_ROOT.public, audience="public"), "unknown_kind"),
        (said(OPERATOR, name="ours", audience="public"), "not_granted"),
        (theirs(at_ms=NOW_MS + DAY_MS), "too_far_ahead"),
        (operator_grant(), "wrong_formation"),
    ],
)
def test_what_is_not_taken(statement: Statement, reason: str) -> None:
    assert taken(foreign(), statement) == reason


def test_a_forged_record_is_not_taken() -> None:
    outcome = foreign().ingest(theirs().signed[:-1] + bytes([theirs().signed[-1] ^ 1]), now_ms=NOW_MS)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "bad_signature"
    broken = foreign().ingest(b"no record", now_ms=NOW_MS)
    assert isinstance(broken, Refusal)
    assert broken.reason == "malformed"


def test_where_the_contact_is_one_node_nobody_else_speaks_through_it() -> None:
    place = foreign()
    place.ingest(their_grant(key(0x7998)).signed, now_ms=NOW_MS)
    assert taken(place, theirs(), THEIRS.public) == ""
    assert taken(place, theirs("two", by=key(0x7998)), THEIRS.public) == "not_granted"


def test_a_deletion_travels_and_does_not_come_back() -> None:
    place = foreign()
    old = theirs()
    assert taken(place, old) == ""
    assert taken(place, said(THEIRS, formation=THEIR_ROOT.public, audience="contacts", counter=1, body={})) == ""
    assert taken(place, old) == "superseded"
    assert list(place.agents(now_ms=NOW_MS)) == []


def test_agents_of_the_revoked_the_lapsed_and_of_clients_are_not_shown() -> None:
    place = foreign()
    place.ingest(their_grant(THEIR_CLIENT, role=Role.CLIENT).signed, now_ms=NOW_MS)
    assert taken(place, theirs()) == taken(place, theirs("two", by=THEIR_CLIENT)) == ""
    assert [s.author for s in place.agents(now_ms=NOW_MS)] == [THEIRS.public]
    later = NOW_MS + 31 * DAY_MS
    assert not place.belongs(THEIRS.public, now_ms=later), "a lapsed grant serves at home alone"
    out = revoke(THEIR_ROOT, formation=THEIR_ROOT.public, subject=THEIRS.public, stamp=stamp_at(NOW_MS), reason="lost")
    assert taken(place, out) == ""
    assert list(place.agents(now_ms=NOW_MS)) == []


def test_what_one_formation_can_make_us_hold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abroad, "AGENTS_MAX", 3)
    place = foreign()
    assert [taken(place, theirs(f"a{number}")) for number in range(5)] == ["", "", "", "over_quota", "over_quota"]
    assert taken(place, theirs("a1", counter=1)) == "", "what is here may be said anew"
    monkeypatch.setattr(abroad, "TRUST_MAX", 1)
    assert taken(place, their_grant(key(0x7997))) == "over_quota"
    assert taken(place, their_grant(at_ms=NOW_MS + 1)) == ""
    monkeypatch.setattr(abroad, "BYTES_MAX", place.size_bytes)
    assert taken(place, said(THEIRS, name="a1", formation=THEIR_ROOT.public, audience="public", counter=2, body={"x": "y" * 90})) != ""


def test_what_a_formation_took_back_makes_room_and_is_bounded_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abroad, "AGENTS_MAX", 2)
    monkeypatch.setattr(abroad, "TOMBSTONES_MAX", 3)
    store = SimDisk().open()
    place = foreign(store)
    for number in range(6):
        assert taken(place, theirs(f"a{number}", counter=2 * number)) == "", "one stands at a time"
        assert taken(place, theirs(f"a{number}", counter=2 * number + 1, body={})) == ""
    assert [name for _, name in place.identities("agent")] == ["a3", "a4", "a5"], "the first that was taken back goes"
    assert taken(place, theirs("a5", counter=0)) == "superseded", "what was taken back lately does not come again"
    assert [taken(place, theirs(name, counter=20)) for name in ("b", "a4", "c", "a3")] == ["", "", "over_quota", "over_quota"]
    again = Foreign(store, THEIR_ROOT.public)
    assert taken(again, theirs("a3", counter=21)) == "over_quota"
    assert taken(again, theirs("b", counter=22, body={})) == ""
    assert taken(again, theirs("a3", counter=23)) == ""


def test_what_is_over_is_forgotten_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abroad, "AGENTS_MAX", 1)
    everything = Abroad(SimDisk().open())
    place = everything.of(THEIR_ROOT.public)
    place.ingest(their_grant().signed, now_ms=NOW_MS)
    heard: list[tuple[bytes, str]] = []
    everything.watch(lambda formation, statement: heard.append((formation, statement.name)))
    assert taken(place, said(THEIRS, formation=THEIR_ROOT.public, audience="public", expires=NOW_MS + 1000)) == ""
    assert heard == [(THEIR_ROOT.public, "one")]
    size = place.size_bytes
    assert everything.purge(now_ms=NOW_MS + DAY_MS) == 1
    assert place.size_bytes < size
    assert taken(place, theirs("two")) == ""
    assert ROOT.public not in everything.formations()


def test_a_page_costs_what_is_on_it_and_not_what_is_shared_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    house.takes(*(said(MEMBER, name=f"agent{number:03}", audience="public" if number % 100 == 0 else "contacts") for number in range(300)))
    assert len(names(house.given_to(b""))) == 3
    looked: list[str] = []
    get = house.store.get

    def noting(author: bytes, kind: str, name: str) -> Row | None:
        looked.append(name)
        return get(author, kind, name)

    monkeypatch.setattr(house.store, "get", noting)
    assert house.given_to(b"", house.cursor) == []
    assert looked == [], "who knows all costs nothing"
    house.takes(said(MEMBER, name="agent007", audience="public", at_ms=NOW_MS + 1))
    house.given_to(b"", house.cursor)
    looked.clear()
    assert house.given_to(b"", house.cursor) == []
    assert looked == []
    monkeypatch.setattr(abroad, "PAGE_ROWS_LOOKED_AT", 10)
    assert house.shared.page("", contact=CAROL, limit=200)[2], "most are for others: the next page goes on"
    assert len(names(house.given_to(CAROL))) == 4
