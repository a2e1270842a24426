"""Admit, merge, view, forget: what a replica takes in and what it hands on."""

from __future__ import annotations

import pytest

from skerry.errors import ProtocolError, StorageError
from skerry.identity.grants import LAPSED_MS, State
from skerry.identity.stamps import AHEAD_MS_MAX
from skerry.identity.statement import Statement
from skerry.records import quotas
from skerry.records import replica as module
from skerry.records.record import KINDS, TOMBSTONE_MS, Refusal
from skerry.records.replica import PAGE_BYTES_MAX, PAGE_RECORDS_MAX, UNKNOWN_AUTHORS_RECORDS_MAX
from tests.support.formation import (
    CLIENT,
    DAY_MS,
    MEMBER,
    NOW_MS,
    OPERATOR,
    STRANGER,
    key,
    member_grant,
    operator_grant,
    revocation,
)
from tests.support.replicas import Home, said

HOUR_MS = 3_600_000


# --- admit ----------------------------------------------------------------------------------------------------------------------------


def test_what_is_new_is_taken_in_once_and_told() -> None:
    home = Home()
    record = said()
    assert home.takes(record, record) == ["", "superseded"]
    assert home.heard == [(record, b"")]
    assert home.replica.get(*record.identity, now_ms=NOW_MS) == record


@pytest.mark.parametrize(
    ("reason", "signed"),
    [
        ("malformed", b""),
        ("malformed", b"garbage"),
        ("malformed", said().signed[:-1]),
        ("bad_signature", said().signed[:-1] + bytes([said().signed[-1] ^ 1])),
        ("too_large", said(kind="node", name="node", body={"x": bytes(KINDS["node"].size_bytes_max)}).signed),
        ("too_large", bytes(65_537)),
        ("unknown_kind", said(kind="poem").signed),
        ("wrong_formation", said(formation=STRANGER.public).signed),
        ("too_far_ahead", said(at_ms=NOW_MS + AHEAD_MS_MAX + 1).signed),
        ("expired", said(expires=NOW_MS - AHEAD_MS_MAX - 1).signed),
        ("malformed", said(kind="grant", name=MEMBER.public.hex(), body={}).signed),
        (
            "not_granted",
            said(kind="grant", name=MEMBER.public.hex(), body={"subject": MEMBER.public, "role": "member", "chain": []}).signed,
        ),
        ("not_granted", said(MEMBER, kind="revocation", name=CLIENT.public.hex(), body={"subject": b""}).signed),
    ],
)
def test_each_reason_to_refuse(reason: str, signed: bytes) -> None:
    home = Home()
    outcome = home.replica.ingest(signed, now_ms=NOW_MS)
    assert getattr(outcome, "reason", "taken") == reason
    assert getattr(outcome, "detail", "")
    assert home.holds() == []
    assert home.heard == []


def test_a_little_ahead_and_a_little_late_are_admitted() -> None:
    assert Home().takes(said(at_ms=NOW_MS + AHEAD_MS_MAX), said(name="two", expires=NOW_MS - AHEAD_MS_MAX)) == ["", ""]


def test_an_author_has_a_quota_of_what_stands() -> None:
    home = Home()
    most = KINDS["agent"].author_max
    assert set(home.takes(*(said(name=str(number)) for number in range(most)))) == {""}
    assert home.takes(said(name="more")) == ["over_quota"]
    assert home.takes(said(name="0", counter=1)) == [""], "what is there may still change"
    assert home.takes(said(MEMBER, name="more")) == [""], "another author has its own"
    assert home.takes(said(name="1", counter=1, body={})) == [""]
    assert home.takes(said(name="more")) == [""], "what was taken back makes room"
    assert home.takes(said(name="1", counter=2)) == ["over_quota"], "and does not come back beside it"


def gone(number: int) -> Statement:
    return said(name=str(number), counter=number, body={}, expires=NOW_MS + TOMBSTONE_MS)


def test_tombstones_have_a_quota_of_their_own_and_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "TOMBSTONES_EACH", 1)
    most = KINDS["agent"].author_max
    home, other = Home(), Home()
    assert set(home.takes(*(gone(number) for number in range(most + 10)))) == {""}
    assert [name for _, _, name, *_ in home.holds()] == sorted(str(number) for number in range(10, most + 10))
    assert home.takes(said(name="one")) == [""], "they take no room of what stands"
    other.takes(said(name="one"), *(gone(number) for number in reversed(range(most + 10))))
    assert other.holds() == home.holds(), "in whatever order they come"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (said(expires=NOW_MS + KINDS["agent"].lifetime_ms + AHEAD_MS_MAX), ""),
        (said(expires=NOW_MS + KINDS["agent"].lifetime_ms + AHEAD_MS_MAX + 1), "too_long"),
        (said(kind="node", name="node", expires=NOW_MS + 2 * DAY_MS), "too_long"),
        (said(body={}, expires=NOW_MS + TOMBSTONE_MS), ""),
        (said(body={}, expires=NOW_MS + 2 * TOMBSTONE_MS), "too_long"),
    ],
)
def test_nothing_lives_longer_than_its_kind(record: Statement, reason: str) -> None:
    """Else one author could fill every store for good."""
    assert Home().takes(record) == [reason]


# --- authors that nobody has vouched for ----------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    assert UNKNOWN_AUTHORS_RECORDS_MAX == 1000
    monkeypatch.setattr(module, "UNKNOWN_AUTHORS_RECORDS_MAX", 5)
    return 5


def strangers(count: int, *, kind: str = "agent", start: int = 900) -> list[object]:
    if kind == "revocation":
        return [revocation(MEMBER, by=key(start + number)) for number in range(count)]
    return [said(key(start + number), kind=kind, name="node" if kind == "node" else "one") for number in range(count)]


@pytest.mark.parametrize("kind", ["agent", "node", "revocation"])
def test_records_of_the_unknown_are_capped_in_all(few: int, kind: str) -> None:
    """Also revocations: they are kept for ever, and anybody can sign one."""
    home = Home()
    assert home.takes(*strangers(few, kind=kind)) == [""] * few  # type: ignore[arg-type]
    assert home.takes(*strangers(3, kind=kind, start=990)) == ["not_granted"] * 3  # type: ignore[arg-type]
    assert len(home.holds()) == few


def test_news_of_the_same_record_takes_no_more_room(few: int) -> None:
    home = Home()
    author = key(900)
    assert set(home.takes(*(said(author, counter=number) for number in range(few * 4)))) == {""}
    assert home.takes(*strangers(few - 1, start=950)) == [""] * (few - 1)  # type: ignore[arg-type]


def test_who_is_vouched_for_later_makes_room(few: int) -> None:
    home = Home()
    assert home.takes(*(said(MEMBER, name=str(number)) for number in range(few))) == [""] * few
    assert home.takes(said(CLIENT)) == ["not_granted"]
    assert home.takes(member_grant()) == [""]
    home.replica.purge(now_ms=NOW_MS)
    assert home.takes(said(CLIENT)) == [""]


def test_what_has_expired_makes_room_and_a_restart_does_not(few: int) -> None:
    home = Home()
    assert home.takes(*strangers(few)) == [""] * few  # type: ignore[arg-type]
    home.store.commit()
    home = Home(disk=home.disk)
    assert home.takes(said(CLIENT)) == ["not_granted"]
    later_ms = NOW_MS + 2 * DAY_MS
    assert home.replica.purge(now_ms=later_ms) == few
    assert home.takes(said(CLIENT, at_ms=later_ms, expires=later_ms + DAY_MS), now_ms=later_ms) == [""]


def test_grants_and_what_the_root_says_need_no_room(few: int) -> None:
    home = Home()
    home.takes(*strangers(few))  # type: ignore[arg-type]
    assert home.takes(operator_grant(), member_grant(), revocation(MEMBER), revocation(CLIENT, by=OPERATOR)) == [""] * 4
    assert home.roster.standing(MEMBER.public, now_ms=NOW_MS).state is State.REVOKED


# --- merge ----------------------------------------------------------------------------------------------------------------------------


def test_the_newer_stamp_wins_then_the_greater_hash() -> None:
    old, new = said(at_ms=NOW_MS - 1), said()
    left, right = said(body={"x": 2}), said(body={"x": 3})
    greater = max((left, right), key=lambda one: one.hash)
    for order in ((old, new), (new, old)):
        home = Home()
        home.takes(*order)
        assert home.replica.get(*old.identity, now_ms=NOW_MS) == new
    for order in ((left, right), (right, left)):
        home = Home()
        home.takes(*order)
        assert home.replica.get(*left.identity, now_ms=NOW_MS) == greater


def test_each_author_has_its_own_record_of_a_name() -> None:
    home = Home()
    ours, theirs = said(), said(MEMBER)
    assert home.takes(ours, theirs) == ["", ""]
    assert sorted(one.author for one in home.replica.living("agent", now_ms=NOW_MS)) == sorted((OPERATOR.public, MEMBER.public))


# --- view -----------------------------------------------------------------------------------------------------------------------------


def test_what_is_gone_or_over_is_not_shown() -> None:
    home = Home()
    home.takes(said(name="gone", body={}), said(name="over", expires=NOW_MS), said(name="here"))
    later_ms = NOW_MS + AHEAD_MS_MAX + 1
    assert [one.name for one in home.replica.living("agent", now_ms=later_ms)] == ["here"]
    assert home.replica.get(OPERATOR.public, "agent", "gone", now_ms=later_ms) is None
    assert home.replica.get(OPERATOR.public, "agent", "over", now_ms=later_ms) is None
    assert home.replica.get(OPERATOR.public, "agent", "never there", now_ms=later_ms) is None


def test_a_deleted_record_does_not_come_back() -> None:
    home = Home()
    record, tombstone = said(), said(counter=1, body={}, expires=NOW_MS + TOMBSTONE_MS)
    assert home.takes(tombstone, record) == ["", "superseded"]


# --- our own --------------------------------------------------------------------------------------------------------------------------


def test_our_stamps_are_above_all_that_we_saw_also_after_a_restart() -> None:
    home = Home()
    ahead = said(at_ms=NOW_MS + AHEAD_MS_MAX, counter=7)
    home.takes(ahead)
    stamp = home.replica.next_stamp(now_ms=NOW_MS)
    assert stamp > ahead.stamp
    assert home.replica.next_stamp(now_ms=NOW_MS - HOUR_MS) > stamp, "our clock was set back"
    home.store.commit()
    assert Home(disk=home.disk).replica.next_stamp(now_ms=NOW_MS) > ahead.stamp


def test_what_breaks_a_limit_is_not_published() -> None:
    home = Home()
    for record in (said(body={"x": bytes(60_000)}), said(kind="poem"), said(formation=STRANGER.public)):
        with pytest.raises(ProtocolError, match="can't be published"):
            home.replica.publish(record)
    assert home.holds() == []


def test_a_full_disk_keeps_nothing_and_says_so() -> None:
    home = Home()
    home.disk.is_full = True
    with pytest.raises(StorageError):
        home.replica.ingest(said().signed, now_ms=NOW_MS)
    assert home.heard == []
    home.disk.is_full = False
    assert home.takes(said()) == [""]


def test_grants_are_known_again_after_a_restart() -> None:
    home = Home()
    home.takes(member_grant(), operator_grant(), revocation(MEMBER))
    again = Home(disk=home.disk)
    assert again.roster.standing(OPERATOR.public, now_ms=NOW_MS).state is State.VALID
    assert again.roster.standing(MEMBER.public, now_ms=NOW_MS).state is State.REVOKED


# --- pages ----------------------------------------------------------------------------------------------------------------------------


def everything(home: Home, *, reader: bytes = MEMBER.public, limit: int = PAGE_RECORDS_MAX) -> list[bytes]:
    cursor, found = "", list[bytes]()
    for _ in range(1000):
        records, cursor, more = home.replica.page(cursor, reader=reader, limit=limit)
        found += records
        if not more:
            return found
    raise AssertionError("it never ends")


@pytest.mark.parametrize("limit", [1, 3, PAGE_RECORDS_MAX, 10**9])
def test_pages_bring_everything_whatever_their_size(limit: int) -> None:
    home = Home()
    home.takes(operator_grant(), member_grant(), *(said(name=str(number)) for number in range(20)))
    found = everything(home, limit=limit)
    assert set(found) == {signed for *_, signed in home.holds()}
    judging = {operator_grant().signed, member_grant().signed}
    assert set(found[:2]) == judging, "what others are judged by comes first"


def test_pages_have_a_size_and_still_go_on() -> None:
    home = Home()
    home.takes(*(said(name=str(number), body={"x": bytes(40_000)}) for number in range(30)))
    cursor, found = "", 0
    while True:
        records, cursor, more = home.replica.page(cursor, reader=MEMBER.public)
        assert sum(map(len, records)) <= PAGE_BYTES_MAX
        found += len(records)
        if not more:
            break
        assert records
    assert found == 30


def test_a_cursor_brings_only_what_is_new() -> None:
    home = Home()
    home.takes(said(name="one"))
    cursor = home.replica.cursor()
    assert home.replica.page(cursor, reader=MEMBER.public)[0] == []
    new = said(name="two")
    home.takes(new)
    records, cursor, more = home.replica.page(cursor, reader=MEMBER.public)
    assert (records, more) == ([new.signed], False)
    assert cursor == home.replica.cursor()


@pytest.mark.parametrize(
    "text", ["", "x", ".", "other.1", "sim", "sim.", "sim.-1", "sim.x", "sim.\u0661", "sim." + "9" * 5000, "sim." + "9" * 18]
)
def test_a_cursor_that_means_nothing_is_the_beginning_or_the_end(text: str) -> None:
    home = Home()
    home.takes(said())
    records, cursor, _ = home.replica.page(text, reader=MEMBER.public)
    assert records in ([said().signed], [])
    assert cursor.startswith("sim.")


def test_who_may_have_what() -> None:
    home = Home()
    home.takes(
        said(name="all"),
        said(name="public", audience="public"),
        said(name="hers", audience=(MEMBER.public,)),
        said(name="others", audience=(CLIENT.public,)),
    )
    hers = {name for *_, name, signed in home.holds() if signed in everything(home)}
    assert hers == {"all", "public", "hers"}
    assert len(everything(home, reader=OPERATOR.public)) == 4, "an author may have its own"


# --- forgetting -----------------------------------------------------------------------------------------------------------------------


def test_what_is_over_is_forgotten_each_kind_in_its_time() -> None:
    home = Home()
    end_ms = NOW_MS + DAY_MS
    grant = member_grant(lifetime_ms=DAY_MS)
    home.takes(said(name="agent", expires=end_ms), grant, revocation(MEMBER), said(name="gone", body={}, expires=NOW_MS + TOMBSTONE_MS))
    assert home.replica.purge(now_ms=end_ms + AHEAD_MS_MAX) == 0
    assert home.replica.purge(now_ms=end_ms + AHEAD_MS_MAX + 1) == 1
    assert home.replica.purge(now_ms=end_ms + TOMBSTONE_MS + AHEAD_MS_MAX + 1) == 1
    assert home.replica.purge(now_ms=end_ms + LAPSED_MS + AHEAD_MS_MAX + 1) == 1
    assert home.replica.purge(now_ms=end_ms + 100 * LAPSED_MS) == 0, "a revocation is for ever"
    assert [kind for _, kind, *_ in home.holds()] == ["revocation"]


# --- away for long, and back from a backup ----------------------------------------------------------------------------------------------


def test_a_stale_sender_is_believed_about_itself_and_about_trust_alone() -> None:
    home = Home()
    outcomes = [
        home.replica.ingest(record.signed, now_ms=NOW_MS, sender=MEMBER.public, stale=True)
        for record in (member_grant(), said(MEMBER, name="its own"), said(CLIENT, name="a third one's"), said(OPERATOR, name="ours"))
    ]
    reasons = [outcome.reason.value if isinstance(outcome, Refusal) else "" for outcome in outcomes]
    assert reasons == ["", "", "stale", ""]


def test_a_snapshot_drops_what_nobody_named_and_tells() -> None:
    home = Home()
    forgotten: list[str] = []
    home.replica.watch_forgetting(lambda row: forgotten.append(row.name))
    kept, dropped, own = said(MEMBER, name="kept"), said(MEMBER, name="dropped"), said(OPERATOR, name="own")
    home.takes(member_grant(), revocation(CLIENT), kept, dropped, own)
    assert home.replica.end_snapshot() == 0, "none was begun"
    home.replica.begin_snapshot()
    home.takes(kept, said(MEMBER, name="new"))
    home.replica.begin_snapshot()  # another node is pulled from at the same time
    assert home.replica.end_snapshot() == 1
    assert forgotten == ["dropped"]
    assert {name for _, kind, name, _ in home.holds() if kind == "agent"} == {"kept", "new", "own"}
    assert {kind for _, kind, *_ in home.holds()} == {"agent", "grant", "revocation"}


def test_what_was_last_said_is_held_for_as_long_as_its_author_may_come_back() -> None:
    home = Home()
    node = said(MEMBER, kind="node", name="node")
    home.takes(node)
    month_ms = NOW_MS + 30 * DAY_MS
    home.replica.purge(now_ms=month_ms)
    assert list(home.replica.living("node", now_ms=month_ms)) == []
    assert list(home.replica.held("node")) == [node]
    home.replica.purge(now_ms=NOW_MS + DAY_MS + LAPSED_MS + AHEAD_MS_MAX + 1)
    assert list(home.replica.held("node")) == []


def test_a_restored_replica_regains_what_it_said_and_speaks_with_newer_stamps() -> None:
    home = Home()
    lost = [said(OPERATOR, name="one", at_ms=NOW_MS + 240_000), said(OPERATOR, name="two", at_ms=NOW_MS + 250_000)]
    foreign = said(MEMBER, name="three", at_ms=NOW_MS + 290_000)
    came = [*(record.signed for record in lost), foreign.signed, b"garbage"]
    regained, newest = home.replica.regain(came, now_ms=NOW_MS, sender=MEMBER.public)
    assert regained == lost
    assert newest == lost[1].stamp
    assert home.replica.next_stamp(now_ms=NOW_MS) > lost[1].stamp
    assert home.replica.own_newest() == lost[1].stamp
    assert home.replica.get(*foreign.identity, now_ms=NOW_MS) is None, "only what is ours was asked for"
    assert home.replica.regain([record.signed for record in lost], now_ms=NOW_MS, sender=MEMBER.public)[0] == []


def test_what_came_back_by_another_way_is_regained_too() -> None:
    home = Home()
    lost = said(OPERATOR, name="one", at_ms=NOW_MS + 240_000)
    home.takes(lost)
    regained, _ = home.replica.regain([lost.signed], now_ms=NOW_MS, sender=MEMBER.public)
    assert regained == [lost], "somebody showed it in a handshake before we could ask for it"


def test_after_a_restoration_places_in_the_old_order_of_arrival_mean_nothing() -> None:
    home = Home()
    home.takes(said())
    before = home.replica.cursor()
    home.replica.regain([said(OPERATOR, name="lost", at_ms=NOW_MS + 1).signed], now_ms=NOW_MS, sender=MEMBER.public)
    records, cursor, _ = home.replica.page(before, reader=MEMBER.public)
    assert len(records) == 2
    again = Home(disk=home.disk)
    assert again.replica.page(cursor, reader=MEMBER.public)[0] == [], "the new ones hold across a restart"


def test_a_cursor_that_was_not_given_yet_is_of_a_life_that_a_backup_undid() -> None:
    home = Home()
    home.takes(said())
    incarnation, _, seq = home.replica.cursor().partition(".")
    assert len(home.replica.page(f"{incarnation}.{int(seq) + 1}", reader=MEMBER.public)[0]) == 1


def test_what_an_author_said_is_found_oldest_first() -> None:
    home = Home()
    records = [said(MEMBER, name=name, at_ms=NOW_MS + at) for name, at in (("b", 2), ("a", 1), ("c", 3))]
    home.takes(*records, said(CLIENT, name="d"))
    assert [row.name for row in home.replica.said_by(MEMBER.public, after=0)] == ["a", "b", "c"]
    assert [row.name for row in home.replica.said_by(MEMBER.public, after=records[0].stamp)] == ["c"]


def test_a_purge_is_done_in_slices() -> None:
    home = Home()
    home.takes(operator_grant(), *(said(name=str(number), expires=NOW_MS + number) for number in range(5)))
    later_ms = NOW_MS + DAY_MS
    assert [home.replica.purge(now_ms=later_ms, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert [name for _, _, name, _ in home.holds()] == [OPERATOR.public.hex()]
