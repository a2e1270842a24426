"""The table of kinds, and the times in it."""

from __future__ import annotations

import pytest

from skerry.identity.codec import SIGNED_BYTES_MAX
from skerry.identity.grants import DAY_MS
from skerry.identity.stamps import AHEAD_MS_MAX
from skerry.records.record import KINDS, TOMBSTONE_MS, TRUST, droppable, expired, renewal_due
from tests.support.formation import MEMBER, NOW_MS, member_grant, operator_grant, revocation


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_kind_is_bounded(kind: object) -> None:
    limits = KINDS[kind.name]  # type: ignore[attr-defined]
    assert 0 < limits.size_bytes_max <= SIGNED_BYTES_MAX
    assert 0 < limits.author_max <= 10_000
    assert limits.lifetime_ms > 0
    # what others are judged by survives a crash, and so does a half of a wire, which the other side counts on
    assert limits.durable == (limits.name in {*TRUST, "wire"})


def test_the_real_ones_fit_their_kinds() -> None:
    for statement in (operator_grant(), member_grant(), revocation(MEMBER, reason="x" * 200)):
        assert len(statement.signed) < KINDS[statement.kind].size_bytes_max / 2


def test_our_clock_may_be_a_little_ahead() -> None:
    assert not expired(NOW_MS, now_ms=NOW_MS + AHEAD_MS_MAX)
    assert expired(NOW_MS, now_ms=NOW_MS + AHEAD_MS_MAX + 1)
    assert not droppable("agent", NOW_MS, now_ms=NOW_MS + AHEAD_MS_MAX)
    assert droppable("agent", NOW_MS, now_ms=NOW_MS + AHEAD_MS_MAX + 1)
    assert not droppable("grant", NOW_MS, now_ms=NOW_MS + 90 * DAY_MS)
    assert droppable("a kind of later", NOW_MS, now_ms=NOW_MS + AHEAD_MS_MAX + 1)
    assert TOMBSTONE_MS == 30 * DAY_MS


@pytest.mark.parametrize(("now_ms", "due"), [(0, False), (499, False), (500, True), (10_000, True), (-5, False)])
def test_renewal_is_due_at_half_of_a_life(now_ms: int, due: bool) -> None:
    assert renewal_due(NOW_MS, NOW_MS + 1000, now_ms=NOW_MS + now_ms) == due
