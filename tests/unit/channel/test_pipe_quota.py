"""What a relay forwards, and no more."""

from __future__ import annotations

import pytest

from skerry.channel.pipe_quota import (
    BURST_S,
    BYTES_PER_S,
    BYTES_PER_S_EACH,
    OPENINGS_AT_ONCE,
    OPENINGS_PER_S,
    PIPES_CONTACT_MAX,
    PIPES_CONTACTS_MAX,
    PIPES_EACH_MAX,
    PIPES_MAX,
    PIPES_PAIR_MAX,
    READ_BYTES,
    PipeQuota,
)
from skerry.errors import Code, Refused


def node(number: int) -> bytes:
    return number.to_bytes(32, "big")


def refusal(quota: PipeQuota, dialler: bytes, called: bytes, *, now: float, contact: bytes = b"") -> str:
    with pytest.raises(Refused) as caught:
        quota.open(dialler, called, contact=contact, now=now)
    assert caught.value.code == Code.BUSY
    assert caught.value.hint
    return caught.value.message


def test_a_node_has_so_many_pipes_whichever_end_it_is() -> None:
    quota = PipeQuota(now=0.0)
    numbers = [quota.open(node(100 + n), node(1), now=n) for n in range(PIPES_EACH_MAX)]
    assert quota.of(node(1)) == PIPES_EACH_MAX
    assert str(PIPES_EACH_MAX) in refusal(quota, node(1), node(2), now=1000)
    assert str(PIPES_EACH_MAX) in refusal(quota, node(3), node(1), now=1000)
    quota.open(node(3), node(2), now=1000)
    quota.close(numbers[0])
    quota.close(numbers[0])
    quota.open(node(1), node(2), now=1001)
    assert len(quota) == PIPES_EACH_MAX + 1


def test_all_together_have_so_many() -> None:
    quota = PipeQuota(now=0.0)
    for number in range(PIPES_MAX):
        quota.open(node(2 * number), node(2 * number + 1), now=0)
    assert str(PIPES_MAX) in refusal(quota, node(9998), node(9999), now=0)


def test_one_dialler_opens_no_more_than_so_many_a_second_and_the_others_are_not_held_up() -> None:
    quota = PipeQuota(now=0.0)
    for _ in range(OPENINGS_AT_ONCE):
        quota.close(quota.open(node(1), node(2), now=0))
    assert "a second" in refusal(quota, node(1), node(2), now=0)
    quota.close(quota.open(node(3), node(2), now=0))
    quota.close(quota.open(node(1), node(2), now=1 / OPENINGS_PER_S))


def test_calls_never_wait_and_a_flood_waits_as_long_as_it_is_too_fast() -> None:
    quota = PipeQuota(now=0.0)
    number = quota.open(node(1), node(2), now=0)
    assert all(quota.passed(number, 500, now=at / 10_000) == 0 for at in range(10_000)), "10,000 calls in a second"
    began = now = 10.0
    sent = 0
    while now < began + 10:
        now += max(quota.passed(number, 65536, now=now), 1e-5)
        sent += 65536
    assert sent <= BYTES_PER_S_EACH * (10 + BURST_S) + 2 * 65536
    assert sent >= BYTES_PER_S_EACH * 10 * 0.9


def test_very_small_reads_are_counted_too_because_they_cost_the_relay_more_than_their_bytes() -> None:
    quota = PipeQuota(now=0.0)
    number = quota.open(node(1), node(2), now=0)
    now, reads = 0.0, 0
    while now < 10:
        now += max(quota.passed(number, 1, now=now), 1e-6)
        reads += 1
    assert reads <= BYTES_PER_S_EACH / READ_BYTES * (10 + BURST_S) + 1


def test_all_pipes_together_are_as_fast_as_they_may() -> None:
    quota = PipeQuota(now=0.0)
    numbers = [quota.open(node(2 * n), node(2 * n + 1), now=0) for n in range(8)]
    free_at = dict.fromkeys(numbers, 0.0)
    sent = 0
    while (now := min(free_at.values())) < 10:
        number = min(free_at, key=lambda n: free_at[n])
        free_at[number] = now + max(quota.passed(number, 65536, now=now), 1e-4)
        sent += 65536
    assert sent <= BYTES_PER_S * (10 + BURST_S) + len(numbers) * 2 * 65536
    assert quota.bytes_passed == sent


def test_who_uses_less_than_a_share_waits_for_nobody_else_s_flood() -> None:
    quota = PipeQuota(now=0.0)
    floods = [quota.open(node(2 * n), node(2 * n + 1), now=0) for n in range(64)]
    calm = quota.open(node(1000), node(1001), now=0)
    free_at = dict.fromkeys(floods, 0.0)
    sent, waited_s, next_call = 0, 0.0, 0.0
    while (now := min(free_at.values())) < 10:
        while next_call <= now:
            waited_s = max(waited_s, quota.passed(calm, 500, now=next_call))
            next_call += 0.01
        number = min(free_at, key=lambda n: free_at[n])
        free_at[number] = now + max(quota.passed(number, 262_144, now=now), 1e-4)
        sent += 262_144
    assert waited_s == 0, "100 calls a second"
    assert sent <= BYTES_PER_S * (10 + BURST_S) + len(floods) * 2 * 262_144, "and the bound of all holds"


def test_who_was_alone_for_long_pays_nothing_for_it_when_others_come() -> None:
    quota = PipeQuota(now=0.0)
    first, second = (quota.open(node(n), node(n + 1), now=0) for n in (1, 3))
    now = 0.0
    while now < 100:
        now += max(quota.passed(first, 262_144, now=now), 1e-4)
    now += 5.0  # it is calm again
    while quota.passed(second, 262_144, now=now) < 0.05:  # who takes more than there is
        pass
    assert quota.passed(first, 500, now=now) == 0


def test_two_nodes_have_so_many_pipes_between_them_and_the_others_keep_their_places() -> None:
    """Else one who proves who it is takes all the places of a node that is reached over this relay alone."""
    quota = PipeQuota(now=0.0)
    numbers = [quota.open(node(1 + n % 2), node(2 - n % 2), now=0) for n in range(PIPES_PAIR_MAX)]
    assert str(PIPES_PAIR_MAX) in refusal(quota, node(2), node(1), now=0)
    quota.open(node(3), node(1), now=0)
    quota.close(numbers[0])
    quota.open(node(1), node(2), now=0)
    assert str(PIPES_PAIR_MAX) in refusal(quota, node(1), node(2), now=0)


def test_contacts_take_a_part_of_the_pipes_however_many_nodes_they_have() -> None:
    quota = PipeQuota(now=0.0)
    lab, shop, third = (bytes([n]) * 32 for n in (101, 102, 103))
    for contact in (lab, shop):
        for number in range(PIPES_CONTACT_MAX):
            quota.open(contact[:30] + bytes([number, 0]), contact[:30] + bytes([number, 1]), contact=contact, now=0)
        assert str(PIPES_CONTACT_MAX) in refusal(quota, contact, node(9), contact=contact, now=0)
    assert len(quota) == PIPES_CONTACTS_MAX
    assert str(PIPES_CONTACTS_MAX) in refusal(quota, third, node(9), contact=third, now=0)
    mine = quota.open(node(1), node(2), now=0)
    quota.close(mine)
    quota.close(1)
    quota.open(third, node(9), contact=third, now=0)
    assert str(PIPES_CONTACTS_MAX) in refusal(quota, third, node(8), contact=third, now=0)


def test_a_contact_opens_no_more_than_one_node_of_ours_does() -> None:
    quota = PipeQuota(now=0.0)
    lab = bytes([101]) * 32
    for number in range(OPENINGS_AT_ONCE):
        quota.close(quota.open(node(2 * number), node(2 * number + 1), contact=lab, now=0))
    assert "a second" in refusal(quota, node(5000), node(5001), contact=lab, now=0)
    quota.close(quota.open(node(5000), node(5001), now=0))
