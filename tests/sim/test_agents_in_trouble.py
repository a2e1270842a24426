"""Agents that are stopped, removed and started while the disk is full, the node dies or ends, or somebody else does the opposite."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.agents.host import SPECS
from skerry.agents.launch import STATES
from skerry.agents.letters import KeepRequest, Outgoing
from skerry.agents.mailbox import CURSORS
from skerry.errors import Code, Refused, StorageError
from skerry.identity.codec import pack
from skerry.identity.pieces import joined
from skerry.node.node import Node
from skerry.sim.machine import Machine
from skerry.sim.process import Died
from skerry.sim.world import World
from skerry.wiring.verbs import SendRequest
from tests.support.clerks import address, heard, state, tell
from tests.support.links import simulated

WRITES_MAX = 30  # of one removal


async def _two_clerks(world: World) -> tuple[Machine, Any, Any]:
    (alpha,) = await world.formation(1)
    left = await alpha.run_agent("Clerk", "alpha-left")
    right = await alpha.run_agent("Clerk", "alpha-right")
    await tell(alpha, left, address(alpha, right), 3, echo=True)
    await world.until(lambda: heard(alpha, left, right.name) == 3)
    return alpha, left, right


def test_a_removal_that_is_cut_at_any_write_leaves_the_agent_whole_or_nothing_of_it() -> None:
    """Without its state it would count from one again, and without its cursors it would hear all letters twice."""
    found: set[bool] = set()
    for number in range(WRITES_MAX):

        @simulated
        async def scene(number: int = number) -> None:
            world = World(f"removal-{number}")
            alpha, _, right = await _two_clerks(world)
            await asyncio.sleep(1)
            store: Any = alpha.store
            left, depth = number + 1, 0

            def counting(write: Any) -> Any:
                def counted(*args: Any, **options: Any) -> None:
                    nonlocal left, depth
                    left -= not depth  # in the middle of what is kept together nobody dies
                    if left == 0 and alpha.runs:
                        store.commit()  # whatever was written is there: kill -9 takes only what no commit has
                        alpha.kill()
                        raise Died("it dies here")
                    depth += 1
                    write(*args, **options)
                    depth -= 1

                return counted

            store.set_fact, store.keep_together = counting(store.set_fact), counting(store.keep_together)
            await asyncio.gather(alpha.remove_agent(right.name), return_exceptions=True)
            if alpha.runs:
                alpha.kill()
            await alpha.start()
            is_there = alpha.node.host.get(right.id) is not None
            found.add(is_there)
            kept = [alpha.disk.fact(space, right.id) is not None for space in (SPECS, STATES)]
            cursors = alpha.node.ports.store.facts(CURSORS + right.id)
            assert [*kept, bool(cursors)] == [is_there] * 3
            await world.until(lambda: alpha.knows_agent(right.name) == is_there)
            await world.close()

        scene()
    assert found == {True, False}


@simulated
async def test_what_a_full_disk_refuses_did_not_happen() -> None:
    world = World("refused-by-the-disk")
    alpha, left, right = await _two_clerks(world)
    for refused in (alpha.remove_agent, alpha.stop_agent):
        alpha.disk.is_full = True
        with pytest.raises(StorageError):
            await refused(right.name)
        alpha.disk.is_full = False
        before = heard(alpha, right, left.name)
        await tell(alpha, left, address(alpha, right), 2)
        await world.until(lambda before=before: heard(alpha, right, left.name) == before + 2, what="it serves on")  # type: ignore[misc]
    await alpha.stop_agent(right.name)
    alpha.disk.is_full = True
    with pytest.raises(StorageError):
        await alpha.start_agent(right.name)
    alpha.disk.is_full = False
    alpha.kill()
    await alpha.start()
    resident = alpha.node.host.get(right.id)
    assert resident is not None
    assert not resident.spec.running, "it stays stopped"
    await alpha.start_agent(right.name)
    await alpha.ask("mail.send", SendRequest(right.id, pack(["alpha/x", 1, None])))
    await world.until(lambda: state(alpha, right)["people"] == {"alpha/x": [1]})
    assert state(alpha, right)["wrong"] == []
    await world.close()


@simulated
async def test_nothing_starts_on_a_node_that_ends() -> None:
    world = World("ends-with-a-start")
    alpha, _, right = await _two_clerks(world)
    await alpha.stop_agent(right.name)
    host = alpha.node.host
    resident = host.get(right.id)
    assert resident is not None
    await host.close()
    for work in (host.start(resident), host.restart(resident)):
        with pytest.raises(Refused) as refused:
            await work
        assert refused.value.code == Code.SHUTTING_DOWN
    await alpha.stop()
    assert alpha.left_open == []


@simulated
async def test_whoever_waits_for_an_agent_hears_at_once_that_it_was_stopped() -> None:
    """Not after two minutes, when its time to start is over."""
    world = World("stopped-while-it-starts")
    alpha, _, right = await _two_clerks(world)
    for end in (alpha.stop_agent, alpha.remove_agent):
        await alpha.stop_agent(right.name)
        starting = asyncio.create_task(alpha.start_agent(right.name))
        await asyncio.sleep(0.02)
        began_s = world.now_s
        await end(right.name)
        with pytest.raises(Refused, match="stopped"):
            await starting
        assert world.now_s - began_s < 10
    await world.close()


@simulated
async def test_an_agent_that_is_removed_and_started_at_once_is_gone() -> None:
    """The start came between the end of its process and the end of what is known of it: it lived on, and nobody knew it."""
    world = World("removed-and-started")
    alpha, _, right = await _two_clerks(world)
    workers = len(alpha.executor.workers())
    removing = asyncio.create_task(alpha.remove_agent(right.name))
    await asyncio.sleep(0)
    outcomes = await asyncio.gather(alpha.start_agent(right.name), alpha.stop_agent(right.name), removing, return_exceptions=True)
    assert [isinstance(one, Refused) for one in outcomes] == [True, True, False]
    await asyncio.sleep(1)
    assert len(alpha.executor.workers()) == workers - 1
    assert alpha.node.host.get(right.id) is None
    await alpha.stop()
    assert alpha.left_open == []


@simulated
async def test_a_node_that_ends_waits_for_an_agent_that_is_removed() -> None:
    world = World("removed-at-the-end")
    alpha, _, right = await _two_clerks(world)
    removing = asyncio.create_task(alpha.within(lambda node: node.host.remove(node.host.named(right.name))))
    await asyncio.sleep(0)
    stop = alpha.node.host.named(right.name)._ask_to_stop

    async def slow() -> None:
        await asyncio.sleep(1)
        await stop()

    alpha.node.host.named(right.name)._ask_to_stop = slow  # type: ignore[method-assign]
    await asyncio.sleep(0)
    await alpha.node.host.close()
    assert removing.done()
    await alpha.stop()
    assert alpha.left_open == []


@simulated
async def test_what_was_taken_back_while_a_node_was_silent_is_said_once_its_disk_has_room() -> None:
    world = World("taken-back-in-silence")
    alpha, beta = await world.formation(2)
    clerk = await alpha.run_agent("Clerk", "alpha-clerk")
    await world.until(lambda: beta.knows_agent(clerk.name))
    advertiser = alpha.node.advertiser
    advertiser._silent = True  # as before it knows what it said before
    await alpha.remove_agent(clerk.name)
    alpha.disk.is_full = True
    advertiser.speak()
    alpha.disk.is_full = False
    await alpha.within(_renewed)
    await world.until(lambda: not beta.knows_agent(clerk.name), 10.0)
    await world.close()


async def _renewed(node: Node) -> None:
    node.advertiser.renew()


@simulated
async def test_a_worker_that_brings_letters_without_end_fills_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may say at any moment what its tasks sent, and asks for no room."""
    monkeypatch.setattr("skerry.wiring.outbox.LETTERS_MAX", 10)
    world = World("flood")
    alpha, left, right = await _two_clerks(world)
    resident = alpha.node.host.get(left.id)
    assert resident is not None
    await world.until(lambda: len(alpha.node.mail.outbox) == 0)
    await alpha.stop_agent(right.name)
    sent = [Outgoing(address(alpha, right), pack(["alpha/x", number, None])) for number in range(10)]
    before = resident.restarts
    for _ in range(2):
        resident._keep_brought(joined(KeepRequest(None, sent).to_bytes()))
    with pytest.raises(Refused) as refused:
        resident._keep_brought(joined(KeepRequest(None, sent[:1]).to_bytes()))
    assert refused.value.code == Code.BUSY
    assert len(alpha.node.mail.outbox) == 20
    await world.until(lambda: resident.restarts > before, what="what it knows is not what is kept")
    await alpha.start_agent(right.name)
    await world.until(lambda: len(alpha.node.mail.outbox) == 0)
    await world.close()
