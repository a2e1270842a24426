"""Tickets: their text, and their uses."""

from __future__ import annotations

import base64

import pytest

from skerry.errors import Code, SkerryError, UsageError
from skerry.identity.codec import encode
from skerry.identity.grants import Role
from skerry.identity.ticket import (
    ADDRESS_CHARACTERS_MAX,
    ADDRESSES_MAX,
    PREFIX,
    TICKET_CHARACTERS_MAX,
    Invitation,
    Ticket,
    _checksum,
    hash_secret,
    parse_ticket,
    redeem,
)
from tests.support.formation import CLIENT, FORMATION, MEMBER, NOW_MS, OPERATOR

SECRET = bytes(range(16))
TICKET = Ticket(FORMATION, OPERATOR.public, ("tcp://127.0.0.1:7420",), SECRET)


def written(value: object) -> str:
    body = encode(value)
    return PREFIX + base64.b32encode(body + _checksum(body)).decode().rstrip("=").lower()


@pytest.mark.parametrize(
    "value",
    [
        [FORMATION, OPERATOR.public, [], SECRET],
        [FORMATION, OPERATOR.public, ["a"] * (ADDRESSES_MAX + 1), SECRET],
        [FORMATION, OPERATOR.public, [""], SECRET],
        [FORMATION, OPERATOR.public, ["x" * (ADDRESS_CHARACTERS_MAX + 1)], SECRET],
        [FORMATION, OPERATOR.public, [b"a"], SECRET],
        [FORMATION, OPERATOR.public, "tcp://127.0.0.1:1", SECRET],
        [FORMATION, OPERATOR.public, ["a"], SECRET[:-1]],
        [FORMATION[:-1], OPERATOR.public, ["a"], SECRET],
        [FORMATION, OPERATOR.public[:-1], ["a"], SECRET],
        [FORMATION, OPERATOR.public, ["a"]],
        [FORMATION, OPERATOR.public, ["a"], SECRET, 1],
        {},
        None,
    ],
)
def test_what_is_whole_but_no_invitation_is_refused(value: object) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ticket(written(value))
    assert caught.value.code == Code.BAD_TICKET


@pytest.mark.parametrize(
    "text", ["", "skerry", PREFIX, PREFIX + "a", PREFIX + "====", PREFIX + "a" * TICKET_CHARACTERS_MAX, "hello", "skerry2abc"]
)
def test_what_is_no_ticket_says_why(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ticket(text)
    assert caught.value.code == Code.BAD_TICKET
    assert "node invite" in caught.value.hint
    assert len(caught.value.message) < 200


def test_the_longest_ticket_can_be_read() -> None:
    addresses = tuple(f"tcp://{number:02}{'x' * (ADDRESS_CHARACTERS_MAX - 8)}" for number in range(ADDRESSES_MAX))
    assert {len(address) for address in addresses} == {ADDRESS_CHARACTERS_MAX}
    ticket = Ticket(FORMATION, OPERATOR.public, addresses, SECRET)
    assert parse_ticket(str(ticket)) == ticket


def test_the_secret_is_kept_as_a_hash_alone() -> None:
    assert len(hash_secret(SECRET)) == 32
    assert SECRET not in hash_secret(SECRET)
    assert hash_secret(SECRET) != hash_secret(bytes(16))
    assert SECRET.hex() not in repr(TICKET)
    assert str(SECRET) not in repr(TICKET)


# --- uses -----------------------------------------------------------------------------------------------------------------------------


def used(invitation: Invitation | None, who: bytes, *, at_ms: int = NOW_MS, departed: int = 0) -> Invitation:
    outcome = redeem(invitation, who, now_ms=at_ms, stamp=at_ms << 16, departed=departed)
    assert isinstance(outcome, Invitation), outcome
    return outcome


def refused(invitation: Invitation | None, who: bytes, *, at_ms: int = NOW_MS, departed: int = 0) -> str:
    outcome = redeem(invitation, who, now_ms=at_ms, stamp=at_ms << 16, departed=departed)
    assert isinstance(outcome, SkerryError)
    assert outcome.hint
    return outcome.code


def fresh(uses: int = 1) -> Invitation:
    return Invitation(hash_secret(SECRET), Role.MEMBER, uses, NOW_MS + 1000)


def test_each_use_is_somebodys_and_a_repeated_join_is_none() -> None:
    once = used(fresh(), MEMBER.public)
    assert once.used_by == (MEMBER.public,)
    assert used(once, MEMBER.public) == once
    assert used(once, MEMBER.public, at_ms=NOW_MS + 10**9) == once, "also after its end"
    assert refused(once, CLIENT.public) == Code.TICKET_SPENT
    both = used(used(fresh(2), MEMBER.public), CLIENT.public)
    assert refused(both, OPERATOR.public) == Code.TICKET_SPENT


def test_reasons() -> None:
    assert refused(None, MEMBER.public) == Code.TICKET_UNKNOWN
    assert refused(fresh(), MEMBER.public, at_ms=NOW_MS + 1001) == Code.TICKET_EXPIRED
    assert used(fresh(), MEMBER.public, at_ms=NOW_MS + 1000).used_by


def test_who_left_needs_another_use() -> None:
    once = used(fresh(2), MEMBER.public)
    left = (NOW_MS + 5) << 16
    twice = used(once, MEMBER.public, at_ms=NOW_MS + 10, departed=left)
    assert len(twice.used_by) == 2
    assert refused(used(fresh(), MEMBER.public), MEMBER.public, at_ms=NOW_MS + 10, departed=left) == Code.TICKET_SPENT


def test_it_comes_back_from_the_store() -> None:
    both = used(used(fresh(3), MEMBER.public), CLIENT.public)
    assert Invitation.from_bytes(both.to_bytes()) == both
    assert SECRET not in both.to_bytes()
