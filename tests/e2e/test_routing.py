"""Tasks between real nodes: who does them, what happens when somebody dies, deadlines, large values, the Python client."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import skerry
from skerry.errors import Refused, SkerryError, Unreachable
from tests.support import async_poll_until, poll_until
from tests.support.nodes import Node, Nodes

AGENTS = Path(__file__).with_name("agents.py")
NOBODY_S = 5.0  # a call that nobody can do ends within this
COMMAND_COSTS_S = 1.5  # what starting a command may cost on a busy machine, beside that
LARGE_BYTES = 30 * 1024 * 1024


@pytest.fixture(scope="module")
def alpha(mesh: list[Node]) -> Node:
    """The client's node; what it asks for lives on beta and gamma."""
    mesh[1].run("agent", "run", f"{AGENTS}:Greeter", "--concurrency", "64").ok()
    mesh[1].run("agent", "run", f"{AGENTS}:Large").ok()
    mesh[1].run("agent", "run", f"{AGENTS}:Holder", "--concurrency", "8").ok()
    mesh[2].run("agent", "run", f"{AGENTS}:Asker").ok()
    mesh[0].wait_offered("custom:greet", "custom:reverse", "custom:hold", "custom:ask")
    mesh[2].wait_offered("custom:greet", "custom:hold")
    return mesh[0]


@pytest.fixture(scope="module")
def beta(alpha: Node, mesh: list[Node]) -> Node:
    return mesh[1]


def _log(node: Node, agent: str) -> str:
    """What an agent said so far; its log is made with its first line."""
    log = node.home / "logs" / f"{agent}.log"
    return log.read_text() if log.exists() else ""


# --- agents that call agents ------------------------------------------------------------------------------------------------------


def test_an_agent_calls_and_streams_from_another_on_another_node(alpha: Node) -> None:
    asked = {"capability": "custom:greet", "payload": "Ada"}
    assert alpha.call("custom:ask", asked) == {"heard": "Hello, Ada!"}
    relayed = {"capability": "custom:count", "payload": 3}
    *parts, last = alpha.run("call", "custom:relay", json.dumps(relayed), "--stream", "-o", "jsonl").ok().lines
    assert parts == [{"part": {"relayed": number}} for number in range(3)]
    assert last["success"] is True
    nobody = {"capability": "custom:nobody", "payload": None}
    alpha.run("call", "custom:ask", json.dumps(nobody)).refused(1, "custom:nobody")


def test_a_deadline_is_inherited_and_reaches_the_last_agent(alpha: Node, beta: Node) -> None:
    asked = {"capability": "custom:hold", "payload": "inherited"}
    began = time.monotonic()
    alpha.run("call", "custom:ask", json.dumps(asked), "--timeout", "0.5").refused(1, "deadline", "--timeout")
    assert time.monotonic() - began < 0.5 + COMMAND_COSTS_S
    poll_until(lambda: "was told to stop inherited" in _log(beta, "holder"), what="the last agent is told")


# --- time -------------------------------------------------------------------------------------------------------------------------


def test_a_timeout_cuts_a_call_and_its_agent_hears_of_it(alpha: Node, beta: Node) -> None:
    began = time.monotonic()
    failed = alpha.run("call", "custom:hold", '"cut"', "--timeout", "0.5", "-o", "json")
    assert time.monotonic() - began < 0.5 + COMMAND_COSTS_S
    assert failed.code == 1
    assert failed.json["error"]["code"] == "deadline_exceeded"
    poll_until(lambda: "was told to stop cut" in _log(beta, "holder"), what="the agent is told")
    *parts, last = alpha.run("call", "custom:hold-stream", '"cut too"', "--stream", "--timeout", "0.5", "-o", "jsonl").lines
    assert parts == [{"part": "first"}]
    assert last["error"]["code"] in ("deadline_exceeded", "stream_interrupted")
    poll_until(lambda: "was told to stop cut too" in _log(beta, "holder"), what="the agent is told")


# --- somebody dies ----------------------------------------------------------------------------------------------------------------


def test_what_may_be_done_twice_is_done_by_another_when_one_is_killed(nodes: Nodes) -> None:
    alpha, slow, quick = nodes.mesh("alpha", "slow", "quick")
    slow.run("agent", "run", f"{AGENTS}:Slow").ok()
    quick.run("agent", "run", f"{AGENTS}:Quick").ok()
    poll_until(lambda: len(alpha.json("capability", "list", "custom:either")["capabilities"]) == 2, what="alpha sees both")

    async def go() -> list[Any]:
        async with alpha.connect() as mesh:
            calls: list[asyncio.Task[Any]] = []

            def begun() -> bool:
                calls.append(asyncio.ensure_future(mesh.outcome("custom:either", timeout=20)))
                return "began" in _log(slow, "slow")

            await async_poll_until(begun, what="a task is at the slow one")
            slow.kill()
            return await asyncio.gather(*calls)

    outcomes = asyncio.run(go())
    assert {outcome.payload for outcome in outcomes} == {"quick"}
    assert {outcome.node for outcome in outcomes} == {quick.id}
    assert alpha.call("custom:either") == "quick"


def test_what_may_not_be_done_twice_is_left_open_when_its_node_is_killed(nodes: Nodes) -> None:
    alpha, beta = nodes.mesh("alpha", "beta")
    beta.run("agent", "run", f"{AGENTS}:Holder").ok()
    alpha.wait_offered("custom:hold")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(alpha.run, "call", "custom:hold", '"x"', "-o", "json")
        poll_until(lambda: "began x" in _log(beta, "holder"), what="it has begun")
        beta.kill()
        failed = call.result()
    assert failed.code == 3
    error = failed.json["error"]
    assert error["outcome_unknown"] is True
    began = time.monotonic()
    nobody = alpha.run("call", "custom:hold", '"y"')
    assert time.monotonic() - began < NOBODY_S + COMMAND_COSTS_S
    nobody.refused(3, "custom:hold", "can't be reached", "skerry status")
    assert alpha.run("call", "custom:hold", '"y"', "-o", "json").json["error"]["outcome_unknown"] is False
    assert alpha.run("doctor", "beta").code == 1
    assert "?" in alpha.run("agent", "list").out


def test_a_node_that_hangs_costs_a_call_five_seconds(nodes: Nodes) -> None:
    """Stopped, not dead: its connections stand, and nobody answers."""
    alpha, beta = nodes.mesh("alpha", "beta")
    beta.run("agent", "run", f"{AGENTS}:Who").ok()
    alpha.wait_offered("custom:who")
    beta.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        failed = alpha.run("call", "custom:who", "-o", "json")
        assert time.monotonic() - began < NOBODY_S + COMMAND_COSTS_S
        assert failed.code == 3
    finally:
        beta.process.send_signal(signal.SIGCONT)
    alpha.wait_linked(beta)
    poll_until(lambda: alpha.run("call", "custom:who").code == 0, what="it answers again")


# --- large values -----------------------------------------------------------------------------------------------------------------


def test_thirty_megabytes_go_there_and_come_back(alpha: Node, nodes: Nodes) -> None:
    data = os.urandom(1024) * (LARGE_BYTES // 1024)
    sent, got = nodes.file("large.bin", data), nodes.folder / "back.bin"
    said = alpha.run("call", "custom:reverse", "--bytes", str(sent), "--output", str(got), "-o", "json").ok().json
    assert said["success"] is True
    assert said["payload"] is None
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(data[::-1]).digest()


def test_small_calls_go_on_beside_a_large_one(alpha: Node) -> None:
    async def go() -> None:
        async with alpha.connect() as mesh:
            large = asyncio.ensure_future(mesh.call("custom:reverse", bytes(LARGE_BYTES)))
            small = 0
            while not large.done():
                assert await mesh.call("custom:greet", "Ada", timeout=5) == "Hello, Ada!"
                small += 1
            assert len(await large) == LARGE_BYTES
            assert small > 3

    asyncio.run(go())


# --- the Python client ------------------------------------------------------------------------------------------------------------


async def test_the_client_calls_and_streams(alpha: Node, beta: Node) -> None:
    async with skerry.connect(home=alpha.home) as mesh:
        assert await mesh.call("custom:greet", "Ada") == "Hello, Ada!"
        assert [part async for part in mesh.stream("custom:count", 3)] == [0, 1, 2]
        outcome = await mesh.outcome("custom:greet", "Ada")
        assert outcome.payload == "Hello, Ada!"
        assert outcome.node == beta.id
        with pytest.raises(Refused, match="custom:gret"):
            await mesh.call("custom:gret")
        with pytest.raises(Refused, match="payload"):
            await mesh.call("custom:greet", 3)
        with pytest.raises(Refused, match="deadline"):
            await mesh.call("custom:hold", "client", timeout=0.2)


async def test_the_client_finds_its_home_in_the_environment(alpha: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKERRY_HOME", str(alpha.home))
    async with skerry.connect() as mesh:
        assert await mesh.call("custom:greet", "Ada") == "Hello, Ada!"
    with pytest.raises(Unreachable, match="no node runs"):
        async with skerry.connect(home=alpha.home / "nothing"):
            pass


async def test_many_calls_at_once(alpha: Node) -> None:
    async with skerry.connect(home=alpha.home) as mesh:
        answers = await asyncio.gather(*(mesh.call("custom:greet", str(number)) for number in range(500)))
        assert answers == [f"Hello, {number}!" for number in range(500)]


async def test_a_call_that_is_given_up_is_given_up_by_its_agent(alpha: Node, beta: Node) -> None:
    async with skerry.connect(home=alpha.home) as mesh:
        call = asyncio.ensure_future(mesh.call("custom:hold", "one"))
        await async_poll_until(lambda: "began one" in _log(beta, "holder"), what="it has begun")
        call.cancel()
        await async_poll_until(lambda: "was told to stop one" in _log(beta, "holder"), what="the agent is told")
        with contextlib.suppress(asyncio.CancelledError):
            await call

        parts = mesh.stream("custom:hold-stream", "two")
        assert await anext(parts) == "first"
        await parts.aclose()  # type: ignore[attr-defined]
        await async_poll_until(lambda: "was told to stop two" in _log(beta, "holder"), what="the agent is told")
        assert await mesh.call("custom:greet", "Ada") == "Hello, Ada!"


async def test_what_began_after_a_call_that_was_given_up_is_not_done_again_when_its_agent_dies(alpha: Node, beta: Node) -> None:
    beta.run("agent", "run", f"{AGENTS}:Holder", "--name", "single", "--concurrency", "1").ok()
    poll_until(lambda: len(alpha.json("capability", "list", "custom:hold")["capabilities"]) == 2, what="alpha sees both")
    async with skerry.connect(home=alpha.home) as mesh:
        with pytest.raises(SkerryError):
            await mesh.call("custom:hold", "gives way", agent="single", timeout=0.3)
        call = asyncio.ensure_future(mesh.call("custom:hold", "only once", agent="single", timeout=20))
        await async_poll_until(lambda: "began only once" in _log(beta, "single"), what="it has begun")
        os.kill(beta.json("agent", "show", "single")["pid"], signal.SIGKILL)
        with pytest.raises(Unreachable) as failed:
            await call
    assert failed.value.outcome_unknown
    assert _log(beta, "single").count("began only once") == 1
    beta.run("agent", "remove", "single").ok()


async def test_a_client_that_leaves_takes_its_calls_along(alpha: Node, beta: Node) -> None:
    async with skerry.connect(home=alpha.home) as mesh:
        call = asyncio.ensure_future(mesh.call("custom:hold", "three"))
        await async_poll_until(lambda: "began three" in _log(beta, "holder"), what="it has begun")
    with pytest.raises(SkerryError):
        await call
    await async_poll_until(lambda: "was told to stop three" in _log(beta, "holder"), what="the agent is told")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_command_that_is_interrupted_takes_its_call_along(alpha: Node, beta: Node, number: signal.Signals, code: int) -> None:
    process = alpha.world.spawn("call", "custom:hold", json.dumps(number.name), name="call", home=alpha.home).process
    poll_until(lambda: f"began {number.name}" in _log(beta, "holder"), what="it has begun")
    process.send_signal(number)
    assert process.wait(10) == code
    poll_until(lambda: f"was told to stop {number.name}" in _log(beta, "holder"), what="the agent is told")
