"""Tasks that go to another formation: signed for whoever asked, tried elsewhere where that is safe, and never in a circle."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.errors import Code, SkerryError
from skerry.identity.codec import pack, unpack
from skerry.identity.pieces import joined
from skerry.node.node import Node
from skerry.node.verbs import ContactAddRequest
from skerry.routing.receipt import PartsDigest, digest, read_receipt
from skerry.routing.task import Request, Task, TaskResult, new_task_id, veil
from skerry.sim.machine import Machine
from tests.support.links import simulated
from tests.support.neighbours import SETTLES_S, call, contact_link, known, neighbours, share


async def streamed(machine: Machine, capability: str, payload: object, *, restart: bool = False) -> tuple[list[bytes], TaskResult]:
    async def go(node: Node) -> list[Any]:
        request = Request(capability, pack(payload), reach="contacts", restart=restart)
        return [item async for item in node.dispatcher.stream(request, timeout_s=20.0)]

    *parts, last = await machine.within(go)
    assert isinstance(last, TaskResult)
    return [bytes(joined(part)) for part in parts], last


@simulated
async def test_what_a_contacts_agent_did_is_signed_for_whoever_asked_wherever_it_lives() -> None:
    async with neighbours("signed", "federate", "call:*") as (world, alpha, beta, xi):
        for host in (alpha, beta):
            info = await host.run_agent("Count")
            await share(host, "count", "xis")
            await world.until(lambda: known(xi) == ["count"], SETTLES_S, what="xi knows it")
            link = await xi.within(contact_link)
            assert link.id == alpha.key.public, "so beta's is asked through alpha"
            done = await call(xi, "custom:count", 0, agent="alphas/count")
            assert isinstance(done, TaskResult)
            assert done.receipt is not None
            assert done.payload is not None
            receipt = read_receipt(done.receipt)
            assert (receipt.agent, receipt.node, receipt.requester) == (info.id, host.key.public, xi.key.public)
            assert (receipt.task, receipt.result) == (done.task_id, digest(done.payload))
            parts, last = await streamed(xi, "custom:count", 3)
            assert [unpack(part) for part in parts] == [0, 1, 2]
            assert last.receipt is not None
            signed = PartsDigest()
            for part in parts:
                signed.add(part)
            receipt = read_receipt(last.receipt)
            assert (receipt.agent, receipt.node, receipt.requester) == (info.id, host.key.public, xi.key.public)
            assert (receipt.task, receipt.result, last.node) == (last.task_id, signed.digest(), host.key.public)
            await host.remove_agent("count")
            await world.until(lambda: known(xi) == [], SETTLES_S, what="xi hears that it is gone")


@simulated
async def test_nobody_has_a_task_signed_in_anothers_name() -> None:
    """Only a node of the formation is believed when it says whose task it hands on."""
    async with neighbours("origin", "federate", "call:*") as (_, alpha, beta, xi):
        info = await alpha.run_agent("Echo")
        await share(alpha, "echo", "xis")

        async def run(node: Node) -> str:
            link = node.links.get(alpha.key.public) or await contact_link(node)
            requester = node.key.public
            origin = [b"t" * 32, b"r" * 32]
            identity, now_ms = new_task_id(requester, node.ports.random.token(16)), node.ports.clock.now_ms()
            task = Task(identity, "custom:echo", info.id, pack(1), requester, now_ms, receipt=True, origin=origin)
            try:
                result = TaskResult.from_bytes(await link.call("task.run", task.to_bytes(), timeout_s=5.0))
            except SkerryError as error:
                return error.code
            assert result.receipt is not None
            return read_receipt(result.receipt).requester.hex()

        assert await xi.within(run) == Code.NOT_GRANTED
        assert await beta.within(run) == (b"r" * 32).hex()


@simulated
async def test_agents_of_two_formations_that_wait_for_each_other_are_told_so() -> None:
    async with neighbours("circle", "federate", "call:*") as (world, alpha, _, xi):
        await alpha.ask("contact.add", ContactAddRequest("xis", [], formation=xi.node.formation.hex(), allow=["federate", "call:*"]))
        ours, theirs = await alpha.run_agent("Abroad"), await xi.run_agent("Abroad")
        await share(alpha, "abroad", "xis")
        await share(xi, "abroad", "alphas")
        await world.until(lambda: known(xi) == ["abroad"] and known(alpha) == ["abroad"], SETTLES_S, what="both know both")
        assert ours.id != theirs.id
        started = asyncio.get_running_loop().time()
        with pytest.raises(SkerryError, match="waits for this very task"):
            await call(alpha, "custom:abroad", ["custom:abroad", ["custom:abroad", ["custom:echo", 1]]], agent=ours.id)
        assert asyncio.get_running_loop().time() - started < 5.0, "nobody waited for itself until the deadline"
        await xi.run_agent("Echo")
        done = await call(alpha, "custom:abroad", ["custom:abroad", ["custom:echo", 1]], agent=ours.id)
        assert isinstance(done, TaskResult)
        assert done.payload == pack(1)


def test_another_formation_learns_no_id_of_an_agent_that_waits() -> None:
    agent = "a" * 64
    assert agent not in veil(agent)
    assert veil(veil(agent)) == veil(agent)
    waits = Task(b"t" * 32, "web", agent, b"", b"r" * 32, 1, chain=[veil("b" * 64), veil(agent), agent])
    assert waits.waits(agent) == 2
    assert waits.waits("c" * 64) == 0


@simulated
async def test_a_stream_whose_agent_is_killed_before_its_first_part_comes_from_a_contact() -> None:
    async with neighbours("stream", "federate", "call:*") as (world, alpha, _, xi):
        await alpha.run_agent("Count")
        await share(alpha, "count", "xis")
        omicron = world.machine("omicron")
        await omicron.start(await xi.invite())
        await omicron.run_agent("Count")
        await world.until(lambda: known(xi) == ["count"] and xi.knows_agent("count"), SETTLES_S, what="xi knows both")
        parts, last = await streamed(xi, "custom:count", 2)
        assert last.node == omicron.key.public, "ours first"
        asked = asyncio.ensure_future(streamed(xi, "custom:count", 30))
        await asyncio.sleep(0.05)
        omicron.kill()
        parts, last = await asked
        assert last.node == alpha.key.public
        assert [unpack(part) for part in parts] == list(range(30))


@simulated
async def test_a_stream_that_is_cut_after_its_first_part_begins_anew_at_a_contact_where_that_was_asked_for() -> None:
    async with neighbours("restart-stream", "federate", "call:*") as (world, alpha, _, xi):
        await alpha.run_agent("Count")
        await share(alpha, "count", "xis")
        omicron = world.machine("omicron")
        await omicron.start(await xi.invite())
        await omicron.run_agent("Count")
        await world.until(lambda: known(xi) == ["count"] and xi.knows_agent("count"), SETTLES_S, what="xi knows both")
        anew = asyncio.ensure_future(streamed(xi, "custom:count", 30, restart=True))
        await asyncio.sleep(1.0)
        omicron.kill()
        parts, last = await anew
        assert last.node == alpha.key.public
        assert b"" in parts, "the caller is told that it begins anew"
        assert [unpack(part) for part in parts[parts.index(b"") + 1 :]] == list(range(30))
        assert last.receipt is not None, "what was signed is the stream that counts"
