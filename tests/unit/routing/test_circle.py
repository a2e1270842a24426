"""Circles and what is announced of them: the seed's fields and keys, and what is refused."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from blake3 import blake3

from skerry.agents.profile import Status
from skerry.channel.reachable import read_networks
from skerry.errors import ProtocolError, UsageError
from skerry.identity.codec import encode
from skerry.identity.grants import Role
from skerry.identity.stamps import AHEAD_MS_MAX, stamp_at
from skerry.identity.statement import parse, state
from skerry.records.record import Refusal, Rejection
from skerry.routing.announcement import (
    ADDRESSES_MAX,
    ANNOUNCEMENT_BYTES_MAX,
    CAPABILITIES_MAX,
    PUBLISHED_BYTES_MAX,
    SPEAKERS_MAX,
    PublishedCircle,
    Speaker,
    judge,
    may_dial,
    read_announcement,
)
from skerry.routing.circle import (
    CHARTER_KIND,
    EPOCH_MAX,
    TTL_MS,
    CallableBy,
    Charter,
    CircleStatus,
    announcement_key,
    capability_key,
    check_name,
    circle_id,
    next_epoch,
    query_keys,
    read_charter,
    status_of,
)
from tests.support.circles import HOST, NONCE, PLACE, announced, circle, profile
from tests.support.formation import CLIENT, FORMATION, MEMBER, NOW_MS, OPERATOR, STRANGER, member_grant, operator_grant, revocation

SEED_CIRCLE = bytes(range(32))
PRIVATE = str(ipaddress.IPv4Address(0x0A010203))
METADATA = str(ipaddress.IPv4Address(0xA9FEA9FE))
LINK_LOCAL = str(ipaddress.IPv6Address(0xFE80 << 112 | 1))


def refused(payload: bytes | PublishedCircle, *, now_ms: int = NOW_MS) -> Refusal:
    outcome = judge(payload if isinstance(payload, bytes) else payload.to_bytes(), now_ms=now_ms)
    assert isinstance(outcome, Refusal)
    return outcome


# --- as in the seed ---------------------------------------------------------------------------------------------------------------


def test_circle_announcement() -> None:
    one = circle(profile(status=CircleStatus.AVAILABLE))
    said = announced(one).announcement
    assert (said.circle_id, said.name, said.member_count, said.available_count) == (one.id, "Test Circle", 1, 1)
    assert (said.open_membership, said.timestamp, said.expires) == (True, NOW_MS, NOW_MS + TTL_MS)


def test_capability_keys() -> None:
    said = announced(circle(profile(0x0707, "inference:llama-7b"))).announcement
    assert said.capability_keys() == [capability_key("inference:llama-7b")]


def test_the_keys_are_the_seeds() -> None:
    """BLAKE3 of the seed's prefixes and what follows them; these digests never change."""
    assert announcement_key(SEED_CIRCLE) == blake3(b"abzu:agent-circle:announcement:" + SEED_CIRCLE).digest()
    assert announcement_key(SEED_CIRCLE).hex() == "ac54ef59f3d8b059cd7858200930d1ca17188c2c208bf02415e1d9b96c547fd5"
    assert capability_key("inference:llama-7b").hex() == "9fd9c749a0ec13e4ea5d5e527326fbb317a87c6c029a83e4ec1a7558fe7abf4e"
    assert capability_key("custom:grüße").hex() == "450cbf066aebd2959a49d5fde92b49dfc0b05c4c543e9e494cd8bccebafef38b"


# --- circles ----------------------------------------------------------------------------------------------------------------------


def test_a_circle_offers_what_its_members_do() -> None:
    one = circle(profile(1, "embedding:bge", "web"), profile(2, "web", status=CircleStatus.BUSY))
    assert one.capabilities == ("embedding:bge", "web")
    assert one.available_count == 1
    assert one.roll == circle(*reversed(one.members)).roll != circle(one.members[0]).roll


def test_what_may_be_done_twice_is_what_all_who_offer_it_say() -> None:
    once, twice = profile(1, "custom:a", "custom:b"), profile(2, "custom:a", "web", idempotent=("custom:a", "web"))
    assert circle(once, twice).idempotent == ("web",)
    assert circle(twice).idempotent == ("custom:a", "web")
    outcome = judge(announced(circle(once, twice)).to_bytes(), now_ms=NOW_MS)
    assert isinstance(outcome, PublishedCircle)
    assert outcome.announcement.idempotent == ("web",)
    statement = parse(announced(circle(once, twice)).announcement.signed)
    silent = {name: value for name, value in statement.body.items() if name != "idempotent"}
    assert read_announcement(statement._replace(body=silent)).idempotent == ()


def test_queries_for_a_kind_are_found_too() -> None:
    keys = query_keys(["inference:a", "inference:b", "web"])
    assert keys == [capability_key(text) for text in ("inference:a", "inference:b", "web", "inference:*")]


@pytest.mark.parametrize(
    ("status", "free", "said"),
    [
        (Status.AVAILABLE, True, CircleStatus.AVAILABLE),
        (Status.AVAILABLE, False, CircleStatus.BUSY),
        (Status.STARTING, True, CircleStatus.BUSY),
        (Status.PAUSED, True, CircleStatus.OFFLINE),
        (Status.STOPPED, True, CircleStatus.OFFLINE),
    ],
)
def test_a_members_status_follows_from_its_agents(status: Status, free: bool, said: CircleStatus) -> None:
    assert status_of(status, free=free) is said


def test_the_epoch_rises_with_each_change_of_members_and_is_the_same_for_all_who_see_the_same() -> None:
    assert next_epoch(b"a", []) == 1
    assert next_epoch(b"a", [(1, b"a")]) == 1
    assert next_epoch(b"b", [(1, b"a")]) == 2
    assert next_epoch(b"a", [(1, b"a"), (2, b"b")]) == 3, "who comes back makes a new epoch"
    assert next_epoch(b"b", [(1, b"a"), (2, b"b")]) == 2
    assert next_epoch(b"b", [(EPOCH_MAX, b"a")]) == EPOCH_MAX, "a member that says the last one stops no announcement"


def test_a_charter_is_its_founders_alone() -> None:
    said = Charter("c", NONCE, "what for", True, CallableBy.CONTACTS, False, ("a" * 32,), 3)
    statement = charter_record(said)
    assert read_charter(statement) == said
    with pytest.raises(ProtocolError, match="does not follow"):
        read_charter(statement._replace(author=STRANGER.public))
    for name, value in {"open": 1, "nonce": b"x", "callable_by": "me", "invited": ["a", "a"], "revision": -1, "name": " "}.items():
        with pytest.raises(ProtocolError, match=name):
            read_charter(statement._replace(body=statement.body | {name: value}))


def charter_record(said: Charter) -> Any:
    name = circle_id(FORMATION, OPERATOR.public, said.nonce).hex()
    return state(
        OPERATOR,
        kind=CHARTER_KIND,
        name=name,
        formation=FORMATION,
        audience="formation",
        stamp=stamp_at(NOW_MS),
        expires=NOW_MS + TTL_MS,
        body=said.body(),
    )


@pytest.mark.parametrize("name", ["", " a", "a/b", "x" * 65, "-a", "a\n"])
def test_a_name_that_is_none_is_refused_with_what_one_looks_like(name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits"):
        check_name(name)
    assert check_name("Big Models 2") == "Big Models 2"


# --- announcements: what is believed ----------------------------------------------------------------------------------------------


def test_an_announcement_of_a_member_is_believed_by_its_chain() -> None:
    published = announced(circle(), by=MEMBER, grants=[member_grant().signed])
    outcome = judge(published.to_bytes(), now_ms=NOW_MS + 1000)
    assert isinstance(outcome, PublishedCircle)
    assert outcome.announcement.speakers == (Speaker(MEMBER.public, (PLACE,)),)
    assert outcome.announcement.signature == published.announcement.signed[-64:]
    assert outcome.to_bytes() == published.to_bytes()


def test_a_forged_one_is_refused() -> None:
    payload = announced(circle()).to_bytes()
    signed = announced(circle()).announcement.signed
    at = payload.index(b"Test Circle")
    assert refused(payload[:at] + b"Best" + payload[at + 4 :]).reason is Rejection.BAD_SIGNATURE, "every field that decides is signed"
    assert refused(announced(circle(), by=STRANGER)).reason is Rejection.NOT_GRANTED
    assert refused(announced(circle(), grants=[])).reason is Rejection.NOT_GRANTED
    assert refused(announced(circle(), by=CLIENT, grants=[member_grant(CLIENT, role=Role.CLIENT).signed])).reason is Rejection.NOT_GRANTED
    ended = [operator_grant().signed, member_grant().signed, revocation(MEMBER).signed]
    assert refused(announced(circle(), by=MEMBER, grants=ended)).reason is Rejection.NOT_GRANTED
    assert refused(announced(circle(), nonce=b"m" * 16)).reason is Rejection.NOT_GRANTED, "an id that others can't make"
    assert refused(announced(circle(), founder=MEMBER.public)).reason is Rejection.NOT_GRANTED
    assert refused(encode([signed])).reason is Rejection.MALFORMED
    assert refused(b"\xff").reason is Rejection.MALFORMED


def test_a_stale_one_is_refused() -> None:
    payload = announced(circle()).to_bytes()
    assert not isinstance(judge(payload, now_ms=NOW_MS + TTL_MS), Refusal)
    assert refused(payload, now_ms=NOW_MS + TTL_MS + AHEAD_MS_MAX + 1).reason is Rejection.EXPIRED
    assert refused(announced(circle(), now_ms=NOW_MS + AHEAD_MS_MAX + 1)).reason is Rejection.TOO_FAR_AHEAD


def test_a_huge_one_is_refused_before_it_is_read() -> None:
    assert refused(b"\x82" + b"x" * PUBLISHED_BYTES_MAX).reason is Rejection.TOO_LARGE
    many = tuple(f"custom:{number:03d}{'x' * 190}" for number in range(CAPABILITIES_MAX * 2))
    huge = announced(circle(), capabilities=many)
    assert len(huge.announcement.signed) > ANNOUNCEMENT_BYTES_MAX
    assert refused(huge).reason is Rejection.TOO_LARGE
    name = ".".join(["x" * 60] * 4)  # as long as a name may be
    full = Speaker(OPERATOR.public, tuple(f"tcp://h{n}.{name}:7420" for n in range(ADDRESSES_MAX)), bytes(32))
    largest = announced(circle(), capabilities=many[:CAPABILITIES_MAX], speakers=(full,) * SPEAKERS_MAX, description="d" * 500)
    assert len(largest.announcement.signed) < ANNOUNCEMENT_BYTES_MAX, "the bounds fit together"
    assert not isinstance(judge(largest.to_bytes(), now_ms=NOW_MS), Refusal)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:7420",
        f"tcp://{METADATA}:7420",
        f"tcp://{PRIVATE}:7420",
        f"tcp://[::ffff:{PRIVATE}]:7420",
        f"tcp://[{LINK_LOCAL}]:7420",
        f"tcp://{HOST}:22",
        "uds:///run/x",
        "via:abc",
        "nonsense",
    ],
)
def test_addresses_that_it_may_not_name_are_left_out_and_without_any_other_it_is_refused(address: str) -> None:
    assert refused(announced(circle(), addresses=[address])).reason is Rejection.ADDRESS
    outcome = judge(announced(circle(), addresses=[address, PLACE]).to_bytes(), now_ms=NOW_MS)
    assert isinstance(outcome, PublishedCircle)
    assert outcome.announcement.speakers[0].addresses == (PLACE,)


def test_settings_may_add_networks() -> None:
    also = read_networks("127.0.0.0/8")
    assert may_dial("tcp://127.0.1.2:7420", also=also)
    assert may_dial("tcp://node.example.org:7420")
    assert not isinstance(judge(announced(circle(), addresses=["tcp://127.0.0.1:7420"]).to_bytes(), now_ms=NOW_MS, also=also), Refusal)


def test_what_is_not_for_everybody_is_nobodys_elsewhere() -> None:
    assert refused(announced(circle(), audience="formation")).reason is Rejection.MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capabilities", ["telepathy:all"]),
        ("capabilities", ["web", "web"]),
        ("capabilities", [3]),
        ("available_count", 2),
        ("member_count", -1),
        ("member_count", True),
        ("epoch", "1"),
        ("roll", b""),
        ("idempotent", "web"),
        ("idempotent", [1]),
        ("idempotent", [True]),
        ("idempotent", [0, 0]),
        ("callable_by", "everybody"),
        ("speakers", []),
        ("speakers", [{"node": b"x", "addresses": []}]),
        ("speakers", [{"node": bytes(32), "addresses": ["tcp://a:1"] * 2, "dht_key": b""}]),
        ("name", "\x1b[2J"),
        ("description", "d" * 501),
    ],
)
def test_a_wrong_field_is_named(name: str, value: object) -> None:
    statement = parse(announced(circle()).announcement.signed)
    with pytest.raises(ProtocolError, match=name if name != "speakers" else "speakers|node|addresses"):
        read_announcement(statement._replace(body=statement.body | {name: value}))
