"""A checker that never finds anything is worth nothing: each is shown a world with just what it looks for."""

from __future__ import annotations

import asyncio

from skerry.discovery.moves import State
from skerry.discovery.suspicion import Suspicion
from skerry.node.policy import Right
from skerry.sim.agents import Run
from skerry.sim.checkers.calls import TimelyCalls
from skerry.sim.checkers.graves import Graves
from skerry.sim.checkers.leftovers import NothingLeftOpen
from skerry.sim.checkers.once import RunOnce
from skerry.sim.checkers.presence import KnownPresence
from skerry.sim.checkers.records import EqualRecords
from skerry.sim.checkers.rights import GrantedRights
from skerry.sim.world import World
from tests.support.links import simulated

TASK = b"t" * 32


@simulated
async def test_records_that_differ_are_named() -> None:
    world = World("records")
    alpha, beta = await world.formation(2)
    checker = EqualRecords(world)
    assert checker.settled() == []
    beta.node.ports.store.delete(alpha.key.public, "node", "node")
    (wrong,) = checker.settled()
    assert "nothing at beta" in wrong
    await world.close()


@simulated
async def test_a_right_that_no_grant_allows_is_seen() -> None:
    world = World("rights")
    alpha, beta = await world.formation(2)
    checker = GrantedRights(world)
    assert checker.settled() == []
    link = alpha.node.links.get(beta.key.public)
    assert link is not None
    link.rights |= {Right.ADMIN}  # beta is a member
    assert "admin" in checker.settled()[0]
    link.rights -= {Right.ADMIN}
    assert checker.settled() == []
    alpha.node.ports.store.delete(alpha.key.public, "grant", beta.key.public.hex())
    wrong = checker.settled()
    assert "which no grant allows" in wrong[0]
    assert "believes that" in wrong[1]
    await world.close()


@simulated
async def test_a_right_of_a_revoked_node_is_seen() -> None:
    world = World("revoked")
    alpha, beta = await world.formation(2)
    link = alpha.node.links.get(beta.key.public)
    assert link is not None
    held = link.rights
    await alpha.revoke(beta)
    link.rights = held
    assert any("lets " + beta.key.public.hex()[:6] in wrong for wrong in GrantedRights(world)._of(alpha))
    await world.close()


@simulated
async def test_what_comes_back_over_its_tombstone_is_seen() -> None:
    world = World("graves")
    alpha, beta = await world.formation(2)
    graves = Graves(world)
    info = await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    await asyncio.sleep(1)
    row = alpha.node.ports.store.get(beta.key.public, "agent", info.id)
    assert row is not None
    await beta.remove_agent("echo")
    graves.removed[info.id] = "beta"
    await world.until(lambda: not alpha.knows_agent("echo"))
    assert graves.look() == graves.settled() == []
    alpha.node.ports.store.delete(beta.key.public, "agent", info.id)  # a store that forgets its tombstones ...
    alpha.node.replica.ingest(row.signed, now_ms=alpha.clock.now_ms())  # ... takes what an old peer still has
    assert "back over its tombstone" in graves.look()[0]
    assert any("still believes in" in wrong for wrong in graves.settled())
    await world.close()


@simulated
async def test_a_revoked_node_that_is_still_believed_is_seen() -> None:
    world = World("believed")
    alpha, _, gamma = await world.formation(3)
    graves = Graves(world)
    graves.revoked[gamma.key.public] = "gamma"
    world.revoked["gamma"] = None
    wrong = graves.settled()
    assert "alpha does not know that gamma was revoked" in wrong
    assert "beta has a link to gamma, which was revoked" in wrong
    await alpha.revoke(gamma)
    await world.until(lambda: not graves.settled(), 5.0)
    await world.close()


@simulated
async def test_a_task_that_ran_twice_is_seen() -> None:
    world = World("once")
    checker = RunOnce(world.witness)
    world.witness.began(TASK, Run("alpha", "echo", "custom:echo", 1.0))
    world.witness.began(TASK, Run("beta", "echo", "custom:echo", 2.0))
    assert checker.look() == [], "an idempotent task may be done at another node"
    world.witness.began(TASK, Run("alpha", "echo-2", "custom:echo", 3.0))
    assert "twice on one node" in checker.look()[0]
    world.witness.runs.clear()
    world.witness.began(TASK, Run("alpha", "job", "custom:job", 1.0))
    world.witness.began(TASK, Run("beta", "job", "custom:job", 2.0))
    assert "not idempotent" in checker.look()[0]


@simulated
async def test_a_call_that_takes_too_long_is_seen_while_it_lasts_and_after() -> None:
    world = World("calls")
    alpha, beta = await world.formation(2)
    await beta.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    checker = TimelyCalls(world)
    late = checker.begin(alpha, "custom:echo", 2.0)
    await asyncio.sleep(3)
    assert "has not ended" in checker.look()[0]
    checker.end(late, "done")
    assert "2 were allowed" in checker.look()[0]
    checker = TimelyCalls(world)
    world.network.cut("alpha", "beta")
    lost = checker.begin(alpha, "custom:echo", 60.0)
    await asyncio.sleep(6)
    after_all, refused = (checker.begin(alpha, "custom:echo", 60.0) for _ in range(2))
    await asyncio.sleep(6)
    checker.end(after_all, "done")
    checker.end(refused, "stale_task")
    assert checker.look() == [], "somebody has come up, and answered"
    checker.end(lost, "unreachable")
    assert "nobody could be reached" in checker.look()[0]
    await world.close()


@simulated
async def test_what_a_node_leaves_open_is_seen() -> None:
    world = World("bounds")
    (alpha,) = await world.formation(1)
    checker = NothingLeftOpen(world)
    assert checker.settled() == []

    async def forgotten() -> None:
        await asyncio.Event().wait()

    alpha.process.spawn(forgotten())
    await alpha.stop()
    assert any("forgotten" in wrong for wrong in checker.settled())


@simulated
async def test_a_node_that_is_taken_for_gone_in_a_healed_world_is_named() -> None:
    world = World("presence")
    alpha, beta, gamma = await world.formation(3)
    checker = KnownPresence(world)
    await world.until(lambda: checker.settled() == [], 10.0, what="all see each other")
    members = alpha.node.presence.machine._members
    member = members.get(beta.key.public)
    assert member is not None
    members.turn(member, State.GONE)
    assert checker.look() == []
    assert checker.settled() == ["alpha sees beta as gone"]
    gamma.node.presence.machine._us.is_away = True
    assert checker.look() == ["gamma is away and serves"]
    gamma.node.presence.machine._us.is_away = False
    members.add(bytes(32), Suspicion(began_s=0, shortest_s=1, longest_s=1, wanted=0))
    assert checker.look() == [f"alpha counts {'0' * 6} as a member, which it never was"]
    members.drop([bytes(32)])
    await world.close()
