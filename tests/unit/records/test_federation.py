"""How records travel between nodes that are connected."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from skerry.channel.calls import Body, Served
from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import ProtocolError, Refused, SkerryError
from skerry.identity.codec import pack
from skerry.ports import Executor, Network, Ports
from skerry.records.federation import Federation
from skerry.records.reconcile import Range
from skerry.records.record import TOMBSTONE_MS
from skerry.records.verbs import (
    ExchangeReply,
    ExchangeRequest,
    NeighbourRequest,
    PullReply,
    PullRequest,
    PushReply,
    PushRequest,
    ReconcileReply,
    ReconcileRequest,
)
from skerry.sim.clock import SimClock, SimRandom
from tests.support import async_poll_until
from tests.support.formation import CLIENT, MEMBER, NOW_MS, key, member_grant, operator_grant, revocation
from tests.support.links import Household, Side, World, simulated
from tests.support.replicas import Home, said


class Node(Household):
    """Records over one side's links; all clocks show NOW_MS and run."""

    def __init__(self, side: Side) -> None:
        super().__init__()
        self.side = side
        self.home = Home(side.key, incarnation=side.name)
        self.clock = SimClock(asyncio.get_running_loop(), start_ms=NOW_MS)
        self.pulls: list[PullRequest] = []
        self.pushed = 0
        self.compared = 0
        self.exchanged = 0
        self.swallows = False
        self.endless = False
        self.federation = self.federate()
        side.household = self
        side.links._household = self

    def federate(self) -> Federation:
        return Federation(
            self.side.id,
            self.home.replica,
            self.home.roster,
            ports=self.ports(),
            links=self.side.links,
        )

    def ports(self) -> Ports:
        """Those that records need; they dial nobody and start nothing."""
        disk, random = self.home.disk, SimRandom(self.side.name)
        return Ports(self.clock, random, cast("Network", None), self.home.store, disk.keyring, disk.blobs, cast("Executor", None))

    async def _answer(self, served: Served) -> Body:
        if served.verb == "records.pull":
            request = unpack_message(PullRequest, served.body)
            self.pulls.append(request)
            if self.endless:
                return pack_message(PullReply([], "same", True))
            return pack_message(self.federation.serve_pull(request, reader=served.link.id))
        federation, reader = self.federation, served.link.id
        if served.verb == "records.reconcile":
            self.compared += 1
            reconcile = unpack_message(ReconcileRequest, served.body)
            return pack_message(federation.exchange.serve_reconcile(reconcile, reader=reader))
        if served.verb == "records.exchange":
            self.exchanged += 1
            exchange = unpack_message(ExchangeRequest, served.body)
            return pack_message(federation.exchange.serve_exchange(exchange, reader=reader))
        if served.verb == "records.neighbour":
            federation.serve_neighbour(unpack_message(NeighbourRequest, served.body), sender=reader)
            return b""
        request_push = unpack_message(PushRequest, served.body)
        if self.swallows:
            return pack_message(PushReply(0))
        self.pushed += len(request_push.records)
        return pack_message(self.federation.serve_push(request_push, sender=served.link.id))

    def link_up(self, link: Link) -> None:
        super().link_up(link)
        self.federation.link_up(link)

    def link_down(self, link: Link, reason: SkerryError) -> None:
        super().link_down(link, reason)
        self.federation.link_down(link)

    def say_as(self, number: int) -> None:
        """Something by somebody of whom nothing is known yet."""
        self.home.takes(said(key(0x1000 + number)))

    def say(self, name: str, **options: object) -> None:
        self.home.replica.publish(said(self.side.key, name=name, **options))  # type: ignore[arg-type]


async def nodes(count: int) -> tuple[World, list[Node]]:
    world = World(count)
    found = [Node(side) for side in world.sides]
    await world.open()
    for node in found:
        node.home.takes(operator_grant(node.side.key))
    return world, found


async def equal(*all_of: Node) -> None:
    await async_poll_until(lambda: len({tuple(node.home.holds()) for node in all_of}) == 1, what="all hold the same")


@simulated
async def test_who_connects_gets_everything_both_ways() -> None:
    _, (alpha, beta) = await nodes(2)
    for number in range(450):
        (alpha if number % 2 else beta).say(str(number))
    await alpha.side.to(beta.side)
    await equal(alpha, beta)
    assert len(alpha.home.holds()) == 452
    await async_poll_until(lambda: beta.side.id in alpha.federation.in_sync)


@simulated
async def test_what_is_new_is_pushed_along_a_line_and_comes_back_to_nobody() -> None:
    _, (alpha, beta, gamma) = await nodes(3)
    await alpha.side.to(beta.side)
    await beta.side.to(gamma.side)
    await equal(alpha, beta, gamma)
    before = [node.pushed for node in (alpha, beta, gamma)]
    alpha.say("news")
    await equal(alpha, beta, gamma)
    settle_s = 2.0
    await asyncio.sleep(settle_s)
    assert [node.pushed - was for node, was in zip((alpha, beta, gamma), before, strict=True)] == [0, 1, 1]


@simulated
async def test_a_reconnect_brings_only_what_is_new() -> None:
    world, (alpha, beta) = await nodes(2)
    for number in range(30):
        alpha.say(str(number))
    await beta.side.to(alpha.side)
    await equal(alpha, beta)
    await async_poll_until(lambda: alpha.side.id in beta.federation.in_sync)
    world.network.reset("alpha", "beta")
    await async_poll_until(lambda: not alpha.side.links.all() and not beta.side.links.all())
    assert alpha.side.id not in beta.federation.in_sync
    alpha.say("while you were away")
    served = len([pull for pull in alpha.pulls if not pull.author])
    exchanged = alpha.exchanged
    await beta.side.to(alpha.side)
    await equal(alpha, beta)
    assert len([pull for pull in alpha.pulls if not pull.author]) == served, "nothing was copied"
    assert alpha.exchanged == exchanged + 1
    await async_poll_until(lambda: (beta.home.store.fact("cursor", alpha.side.id.hex()) or b"").startswith(b"alpha."))


@simulated
async def test_revocations_go_first_and_reach_who_missed_them() -> None:
    _, (alpha, beta) = await nodes(2)
    alpha.home.takes(member_grant(), revocation(MEMBER))
    beta.home.takes(member_grant())
    await beta.side.to(alpha.side)
    await async_poll_until(lambda: beta.home.roster.revocation_of(MEMBER.public))


@simulated
async def test_who_may_not_have_a_record_is_not_sent_it() -> None:
    _, (alpha, beta, gamma) = await nodes(3)
    await alpha.side.to(beta.side)
    await alpha.side.to(gamma.side)
    alpha.say("for beta", audience=(beta.side.id,))
    alpha.say("for all")
    await async_poll_until(lambda: "for beta" in {name for _, _, name, _ in beta.home.holds()})
    await async_poll_until(lambda: "for all" in {name for _, _, name, _ in gamma.home.holds()})
    assert "for beta" not in {name for _, _, name, _ in gamma.home.holds()}


@simulated
async def test_what_is_refused_is_counted_and_the_rest_is_taken() -> None:
    _, (alpha, _) = await nodes(2)
    alpha.home.takes(member_grant())
    good, bad = said(MEMBER), said(CLIENT, at_ms=NOW_MS + 10**9)
    reply = alpha.federation.serve_push(PushRequest([b"garbage", good.signed, bad.signed, good.signed]), sender=MEMBER.public)
    assert reply.taken == 1
    assert reply.refused == {"malformed": 1, "too_far_ahead": 1, "superseded": 1}


@simulated
async def test_a_peer_that_never_comes_to_an_end_is_not_asked_for_ever() -> None:
    _, (alpha, beta) = await nodes(2)
    alpha.endless = True
    for number in range(600):  # more than is worth comparing
        alpha.say_as(number)
    await beta.side.to(alpha.side)
    await async_poll_until(lambda: len(alpha.pulls) >= 2)
    settle_s = 20.0
    await asyncio.sleep(settle_s)
    assert len(alpha.pulls) < 10


@simulated
async def test_a_full_disk_is_tried_again() -> None:
    _, (alpha, beta) = await nodes(2)
    alpha.say("one")
    beta.home.disk.is_full = True
    await beta.side.to(alpha.side)
    settle_s = 20.0
    await asyncio.sleep(settle_s)
    assert not beta.side.links.all()[0].closed, "the node serves on"
    beta.home.disk.is_full = False
    await equal(alpha, beta)


@pytest.mark.parametrize("cursor", ["", "x", "alpha." + "9" * 5000])
@simulated
async def test_any_cursor_is_answered(cursor: str) -> None:
    _, (alpha, _) = await nodes(2)
    reply = alpha.federation.serve_pull(PullRequest(cursor, limit=-5), reader=MEMBER.public)
    assert reply.records
    assert TOMBSTONE_MS > 0


@simulated
async def test_what_a_neighbour_swallows_is_found_by_the_next_comparison() -> None:
    _, (alpha, beta) = await nodes(2)
    await alpha.side.to(beta.side)
    await equal(alpha, beta)
    alpha.swallows = beta.swallows = True
    compared, exchanged = alpha.compared + beta.compared, alpha.exchanged + beta.exchanged
    for number in range(30):
        (alpha if number % 2 else beta).say(f"{number}" * 30)
    settle_s = 5.0
    await asyncio.sleep(settle_s)
    assert len(alpha.home.holds()) == len(beta.home.holds()) == 2 + 15
    alpha.federation.tick(alone=False)
    beta.federation.tick(alone=False)
    await equal(alpha, beta)
    assert alpha.compared + beta.compared - compared <= 2, "one of the two compares, both ways"
    assert alpha.exchanged + beta.exchanged - exchanged == 1


@simulated
async def test_a_record_that_one_side_refuses_is_not_found_again_and_again() -> None:
    _, (alpha, beta) = await nodes(2)
    ahead_ms = 6 * 60 * 1000
    alpha.clock.step(ahead_ms)
    await alpha.side.to(beta.side)
    await equal(alpha, beta)
    alpha.say("of the future", at_ms=NOW_MS + ahead_ms)
    await async_poll_until(lambda: len(beta.federation.holdings.refusals))
    (refused,) = beta.federation.holdings.refusals.all()
    assert (refused.peer, refused.reason) == (alpha.side.id, "too_far_ahead")
    alpha.clock.step(-ahead_ms)
    for _ in range(3):
        alpha.federation.tick(alone=False)
        beta.federation.tick(alone=False)
        settle_s = 5.0
        await asyncio.sleep(settle_s)
    assert alpha.exchanged + beta.exchanged == 0, "nothing was sent again"
    beta.clock.step(ahead_ms)
    alpha.clock.step(ahead_ms)
    beta.clock.step(3_600_000)  # beyond the wait
    alpha.clock.step(3_600_000)
    alpha.federation.tick(alone=False)
    beta.federation.tick(alone=False)
    await equal(alpha, beta)
    assert not len(beta.federation.holdings.refusals)


@simulated
async def test_what_names_two_nodes_is_compared_between_them_alone() -> None:
    _, (alpha, beta, gamma) = await nodes(3)
    for node in (alpha, beta, gamma):
        node.swallows = True
    await alpha.side.to(beta.side)
    await alpha.side.to(gamma.side)
    await beta.side.to(gamma.side)
    await equal(alpha, beta, gamma)
    alpha.say("for beta", audience=(beta.side.id,))
    for node in (alpha, beta, gamma):
        node.federation.tick(alone=False)
    await async_poll_until(lambda: "for beta" in {name for _, _, name, _ in beta.home.holds()})
    settle_s = 5.0
    await asyncio.sleep(settle_s)
    exchanged = alpha.exchanged + beta.exchanged + gamma.exchanged
    for node in (alpha, beta, gamma):
        node.federation.tick(alone=False)
    await asyncio.sleep(settle_s)
    assert alpha.exchanged + beta.exchanged + gamma.exchanged == exchanged, "gamma's lack is no difference"
    assert "for beta" not in {name for _, _, name, _ in gamma.home.holds()}


@simulated
async def test_a_comparison_as_of_another_time_is_refused() -> None:
    _, (alpha, _) = await nodes(2)
    alpha.federation.holdings.build()
    whole = Range(b"", b"", 0, bytes(32))
    with pytest.raises(Refused) as refused:
        alpha.federation.exchange.serve_reconcile(ReconcileRequest(NOW_MS - 10**7, [whole]), reader=MEMBER.public)
    assert "as_of_ms" in refused.value.message
    with pytest.raises(ProtocolError) as wrong:
        alpha.federation.exchange.serve_exchange(ExchangeRequest([], b"half", NOW_MS), reader=MEMBER.public)
    assert "a wrong want" in wrong.value.message


@simulated
async def test_what_is_refused_although_it_is_here_is_no_difference() -> None:
    """A peer that was away for long offers what we hold: refused for its sake, and counted once all the same."""
    _, (alpha, beta) = await nodes(2)
    alpha.home.takes(member_grant(), said(MEMBER))
    beta.home.takes(member_grant(), said(MEMBER))
    held = [row.signed for row in alpha.home.store.of_kind("agent")]
    beta.federation.attendance.caught_up(None, now_ms=NOW_MS)
    reply = beta.federation.serve_push(PushRequest(held, heard_until=0), sender=alpha.side.id)
    assert reply.refused == {"stale": 1}
    assert not len(beta.federation.holdings.refusals)
    await alpha.side.to(beta.side)
    await equal(alpha, beta)
    await async_poll_until(lambda: beta.side.id in alpha.federation.in_sync)


@simulated
async def test_who_joins_copies_from_one_and_compares_with_the_others() -> None:
    _, (alpha, beta, gamma, newcomer) = await nodes(4)
    for number in range(700):
        alpha.say_as(number)
    await alpha.side.to(beta.side)
    await equal(alpha, beta)
    await gamma.side.to(alpha.side)
    await equal(alpha, gamma)
    before = sum(not pull.author for node in (alpha, beta, gamma) for pull in node.pulls)
    for node in (alpha, beta, gamma):
        await newcomer.side.to(node.side)
    await equal(alpha, newcomer)
    await async_poll_until(lambda: len(newcomer.federation.in_sync) == 3)
    pages = 4
    assert sum(not pull.author for node in (alpha, beta, gamma) for pull in node.pulls) - before == pages, "of one copy"


@pytest.mark.parametrize(
    ("kind", "said_wrong", "field"),
    [
        (ReconcileRequest, {"as_of_ms": "now", "ranges": []}, "$.as_of_ms"),
        (ReconcileRequest, {"as_of_ms": 1}, "`ranges`"),
        (ReconcileRequest, {"as_of_ms": 1, "ranges": [[b"", b"", 1]]}, "$.ranges[0]"),
        (ReconcileRequest, {"as_of_ms": 1, "ranges": [[b"", b"", 1, "digest"]]}, "$.ranges[0][3]"),
        (ReconcileReply, {"answers": [[0, [[b"", 1, 3]], b""]], "answered": 1, "holds": 1, "cursor": ""}, "$.answers[0][1][0][2]"),
        (ReconcileReply, {"answers": [], "answered": True, "holds": 1, "cursor": ""}, "$.answered"),
        (ExchangeRequest, {"give": ["text"], "want": b"", "as_of_ms": 1}, "$.give[0]"),
        (ExchangeRequest, {"give": [], "want": 7, "as_of_ms": 1}, "$.want"),
        (ExchangeReply, {"records": [], "covered": "all", "taken": 0}, "$.covered"),
        (NeighbourRequest, {"wanted": "yes"}, "$.wanted"),
    ],
)
def test_a_message_of_wrong_types_is_refused_by_the_name_of_its_field(kind: type[object], said_wrong: object, field: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        unpack_message(kind, pack(said_wrong))
    assert f"a malformed {kind.__name__}" in refused.value.message
    assert field in refused.value.message


@simulated
async def test_an_exchange_with_a_wrong_want_is_refused_by_its_name() -> None:
    _, (alpha, beta) = await nodes(2)
    await alpha.side.to(beta.side)
    for want in (b"x", bytes(40 * 301)):
        with pytest.raises(ProtocolError, match="a wrong want"):
            beta.federation.exchange.serve_exchange(ExchangeRequest([], want, NOW_MS), reader=alpha.side.id)
    with pytest.raises(Refused, match="a wrong as_of_ms"):
        beta.federation.exchange.serve_exchange(ExchangeRequest([], b"", -1), reader=alpha.side.id)
