"""Members that lie about records: they cost a bounded amount, and what honest nodes hold stays right and equal.

The liars have grants like everybody; nothing that they say is forged by us into a node: it all comes over their links, by the verbs.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from skerry.channel.calls import Body, Served
from skerry.channel.messages import pack_message
from skerry.errors import SkerryError
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement, state
from skerry.records import reconcile
from skerry.records.items import ITEM_BYTES, item_of
from skerry.records.reconcile import Answer
from skerry.records.record import KINDS
from skerry.records.refusals import PEER_MAX
from skerry.records.verbs import ExchangeReply, ExchangeRequest, PushRequest, ReconcileReply, ReconcileRequest
from skerry.sim.checkers import Checker
from skerry.sim.checkers.records import EqualRecords
from skerry.sim.checkers.rights import GrantedRights
from skerry.sim.machine import Machine
from skerry.sim.spreading import LOSSY, equal, say, spread
from skerry.sim.world import World
from tests.support.links import simulated

DAY_MS = 86_400_000
HALF_A_MINUTE_S = 36.0  # the longest that a node waits between two comparisons


async def formation(count: int) -> tuple[World, list[Machine]]:
    world = World("attacked", link=LOSSY)
    return world, await world.formation(count)


def record(liar: Machine, name: str, *, key: KeyPair | None = None, ahead_ms: int = 0, size_bytes: int = 100) -> Statement:
    now_ms = liar.clock.now_ms() + ahead_ms
    return state(
        key or liar.key,
        kind="agent",
        name=name,
        formation=liar.node.formation,
        audience="formation",
        stamp=stamp_at(now_ms),
        expires=now_ms + KINDS["agent"].lifetime_ms,
        body={"card": bytes(size_bytes), "status": "healthy"},
    )


def refused_by_all(liar: Machine, victim: Machine) -> Iterator[tuple[str, bytes]]:
    """What nobody may take in, by the reason."""
    real = say(liar, "liar").signed
    yield "bad_signature", real[:-1] + bytes([real[-1] ^ 1])
    yield "bad_signature", record(liar, "x" * 32).signed.replace(liar.key.public, victim.key.public)
    yield "malformed", real[:-40]
    yield "too_far_ahead", record(liar, "future", ahead_ms=400_000).signed
    yield "too_large", record(liar, "large", size_bytes=50_000).signed
    yield (
        "too_long",
        state(
            liar.key,
            kind="agent",
            name="for-ever",
            formation=liar.node.formation,
            audience="formation",
            stamp=stamp_at(liar.clock.now_ms()),
            expires=liar.clock.now_ms() + 400 * DAY_MS,
            body={"x": 1},
        ).signed,
    )


async def push(liar: Machine, victim: Machine, records: list[bytes]) -> None:
    link = liar.node.links.get(victim.key.public)
    assert link is not None
    for signed in records:
        try:
            await link.call("records.push", pack_message(PushRequest([signed], liar.clock.now_ms())), timeout_s=10.0)
        except SkerryError:
            assert len(signed) > 40_000, "what is too large for a frame goes chunked, and may be refused as a call"


@simulated
async def test_what_is_forged_future_oversized_or_for_ever_is_refused_by_its_reason_and_passed_on_to_nobody() -> None:
    world, machines = await formation(6)
    liar, victim, *others = machines
    wrong = list(refused_by_all(liar, victim))
    before = Counter(victim.node.federation.refused)
    await push(liar, victim, [signed for _, signed in wrong])
    refused = victim.node.federation.refused - before
    del refused["superseded"]  # the liar's real record, by several neighbours
    assert refused == Counter(reason for reason, _ in wrong)
    settle_s = 2 * HALF_A_MINUTE_S
    await asyncio.sleep(settle_s)
    stored = {row.signed for machine in [victim, *others] for row in machine.node.ports.store.of_kind("agent")}
    assert not stored & {signed for _, signed in wrong}
    assert equal(machines)
    await world.close()


@simulated
async def test_a_flood_and_a_replay_leave_honest_nodes_equal_and_the_quota_kept() -> None:
    world, machines = await formation(8)
    liar, *honest = machines
    checkers: list[Checker] = [EqualRecords(world), GrantedRights(world)]
    old = [say(honest[0], f"honest-{number}", lifetime_s=3600.0).signed for number in range(20)]
    await world.until(lambda: equal(machines), 5.0, what="all have them")
    for number in range(20):  # replaced by what is newer: the old ones are there to be replayed
        say(honest[0], f"honest-{number}", lifetime_s=7200.0)
    most = KINDS["agent"].author_max
    flood = [record(liar, f"{number:032x}").signed for number in range(most + 100)]
    for victim in honest[:3]:
        await push(liar, victim, [*flood, *old])
    settle_s = 3 * HALF_A_MINUTE_S
    await asyncio.sleep(settle_s)
    for machine in honest:
        store = machine.node.ports.store
        assert store.count(liar.key.public, "agent") <= most
        assert not {row.signed for row in store.of_kind("agent")} & set(old)
    assert [wrong for checker in checkers for wrong in checker.look()] == []
    assert equal(honest), "its records came to all in one order, and the surplus to none"
    await world.close()


def invent(liar: Machine) -> Counter[str]:
    """It has something for every range that it is asked about, and can give nothing of it."""
    asked: Counter[str] = Counter()
    chance = random.Random(1)

    def serve_reconcile(request: ReconcileRequest, *, reader: bytes) -> ReconcileReply:
        asked["reconcile"] += 1
        answers = []
        for number, (low, high, _, _) in enumerate(request.ranges[:2]):
            drawn = sorted(low + chance.randbytes(ITEM_BYTES - len(low)) for _ in range(reconcile.LISTED_MAX))
            answers.append(Answer(number, [], b"".join(item for item in drawn if low <= item and (not high or item < high))))
        return ReconcileReply(answers, len(answers), 100, "sim.1", liar.clock.now_ms())

    def serve_exchange(request: ExchangeRequest, *, reader: bytes) -> ExchangeReply:
        asked["exchange"] += 1
        return ExchangeReply([], len(request.want) // ITEM_BYTES, 0, {}, liar.clock.now_ms())

    exchange = liar.node.federation.exchange
    exchange.serve_reconcile = serve_reconcile  # type: ignore[method-assign]
    exchange.serve_exchange = serve_exchange  # type: ignore[method-assign]
    return asked


def give_what_nobody_wants(liar: Machine) -> Counter[str]:
    """It lists what it has, and gives something else."""
    asked: Counter[str] = Counter()
    exchange = liar.node.federation.exchange

    def serve_exchange(request: ExchangeRequest, *, reader: bytes) -> ExchangeReply:
        asked["exchange"] += 1
        return ExchangeReply([record(liar, "other").signed], 1, 0, {}, liar.clock.now_ms())

    honest = invent(liar)
    exchange.serve_exchange = serve_exchange  # type: ignore[method-assign]
    return honest


def give_what_is_forged(liar: Machine) -> Counter[str]:
    """It lists records, other ones each time, and gives them: nobody signed them."""
    asked: Counter[str] = Counter()
    exchange = liar.node.federation.exchange
    forged: dict[bytes, bytes] = {}

    def serve_reconcile(request: ReconcileRequest, *, reader: bytes) -> ReconcileReply:
        asked["reconcile"] += 1
        statement = record(liar, f"{asked['reconcile']:032x}")
        item = item_of(statement.stamp, statement.hash)
        forged[item] = statement.signed[:-1] + bytes([statement.signed[-1] ^ 1])
        listed = [
            Answer(number, [], item) for number, (low, high, *_) in enumerate(request.ranges) if low <= item and (not high or item < high)
        ]
        return ReconcileReply(listed[:1], len(request.ranges), 100, "sim.1", liar.clock.now_ms())

    def serve_exchange(request: ExchangeRequest, *, reader: bytes) -> ExchangeReply:
        asked["exchange"] += 1
        return ExchangeReply([forged[request.want[:ITEM_BYTES]]], 1, 0, {}, liar.clock.now_ms())

    exchange.serve_reconcile = serve_reconcile  # type: ignore[method-assign]
    exchange.serve_exchange = serve_exchange  # type: ignore[method-assign]
    return asked


def stall(liar: Machine) -> Counter[str]:
    """It takes every question and answers none in time."""
    asked: Counter[str] = Counter()

    async def stalling(served: Served) -> Body:
        if served.verb.startswith("records."):
            asked["reconcile"] += 1
            await asyncio.sleep(3600.0)
        return await liar.node.household.serve(served)

    for link in liar.node.links.nodes():
        link._handler = stalling
    liar.node.federation.pushes._send_all = lambda: None  # type: ignore[method-assign]
    return asked


LIES = [invent, give_what_nobody_wants, give_what_is_forged, stall]


@pytest.mark.parametrize("lie", LIES)
@simulated
async def test_who_lies_or_stalls_in_comparisons_costs_little_and_delays_nobody(lie: object) -> None:
    """A third of the formation lies. What is new is at all honest nodes by the next comparisons, and liars are asked ever more rarely."""
    world, machines = await formation(12)
    liars, honest = machines[1:5], [machines[0], *machines[5:]]
    asked = [lie(liar) for liar in liars]  # type: ignore[operator]
    half_an_hour_s = 1800.0
    began_s = world.now_s
    found = [await spread(world, honest, honest[number], f"agent-{number}", timeout_s=2 * HALF_A_MINUTE_S) for number in range(4)]
    assert max(one.took_s for one in found) <= 2 * HALF_A_MINUTE_S
    await asyncio.sleep(half_an_hour_s - (world.now_s - began_s))
    rounds = half_an_hour_s / 30.0
    for counts in asked:
        asked_each = (counts["reconcile"] + counts["exchange"]) / len(machines)
        assert asked_each < rounds, f"each node asked {asked_each:.0f} times in {rounds:.0f} rounds"
    for machine in honest:
        assert len(machine.node.federation.holdings.refusals) <= PEER_MAX * len(liars)
        assert len(machine.node.federation._tasks) < 4 * len(machines)
    assert equal(honest)
    await world.close()


def listen(machine: Machine) -> Counter[str]:
    """It tells the truth, and how often it was asked."""
    asked: Counter[str] = Counter()
    exchange = machine.node.federation.exchange
    serve = exchange.serve_reconcile

    def serve_reconcile(request: ReconcileRequest, *, reader: bytes) -> ReconcileReply:
        asked["reconcile"] += 1
        return serve(request, reader=reader)

    exchange.serve_reconcile = serve_reconcile  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize("lie", LIES)
@simulated
async def test_who_lies_or_stalls_in_comparisons_is_asked_ever_more_rarely(lie: object) -> None:
    """Of two members one lies: what it is asked falls off in forty minutes, and the other is asked as often as at first."""
    world, machines = await formation(4)
    one, other, *honest = sorted(machines, key=lambda machine: machine.key.public, reverse=True)
    asked_liar, asked_other = lie(one), listen(other)  # type: ignore[operator]
    ten_minutes_s = 600.0
    found: list[tuple[int, int]] = []
    for _ in range(4):
        asked_liar.clear()
        asked_other.clear()
        say(honest[0], f"agent-{len(found)}")
        await asyncio.sleep(ten_minutes_s)
        found.append((asked_liar["reconcile"], asked_other["reconcile"]))
    lied_to, heard = zip(*found, strict=True)
    assert 2 * sum(lied_to[2:]) < sum(lied_to[:2]), found
    assert 3 * sum(lied_to) < sum(heard), found
    assert max(heard) < 2 * min(heard), found
    assert equal([other, *honest])
    await world.close()
