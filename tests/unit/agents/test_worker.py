"""A worker and its letters: state, what was sent and how many were handled belong together, whatever ends a batch."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from skerry.agents.begun import Begun
from skerry.agents.gate import Gate
from skerry.agents.handlers import handlers_of
from skerry.agents.letters import HANDLER_S, HearReply, HearRequest, Letter, MeshSendReply, Outgoing, PeersRequest, session_of
from skerry.agents.runtimes.python import PythonRuntime
from skerry.agents.runtimes.threads import Threads
from skerry.agents.sdk import Agent, HeldBack, Message, Session, attach, handles
from skerry.agents.state import restore, state_of
from skerry.agents.unkept import Unkept
from skerry.agents.verbs import HEAR, PEERS, RUN, RunRequest
from skerry.agents.worker import ANSWER_S, HEAR_S, WorkerSide
from skerry.channel.calls import Served
from skerry.channel.messages import convert, pack_message
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.codec import pack, unpack
from skerry.identity.pieces import joined, unpack_body
from tests.support.links import simulated
from tests.support.meshes import NotedMesh

TIMEOUT_S = 2 * HANDLER_S + 10
SESSION = session_of(b"s", "a")


class Desk(Agent):
    """Does what its letters say."""

    state = ("heard", "late")

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.gate = asyncio.Event()

    async def on_message(self, session: Session, message: Message) -> None:
        what = message.content
        self.heard.append(what)
        if what == "raise":
            raise ValueError("no")
        if what == "wait":
            await self.gate.wait()
        if what == "slow":
            await asyncio.sleep(1.5 * HEAR_S)
        if what == "late":
            self.late = True
            raise ValueError("after it set something new")
        if what == "unkeepable":
            self.heard.append(object())
        if isinstance(what, list):
            await self.send(*what)

    @handles("custom:tell")
    async def tell(self, order: list) -> str:  # type: ignore[type-arg]
        """[peer, content, how long it takes, what it ends with]"""
        await self.send(order[0], order[1])
        await asyncio.sleep(order[2])
        if order[3] == "raise":
            raise ValueError("after it sent")
        self.heard.append(order[1])
        return "told"

    @handles("custom:later")
    async def later(self, order: list) -> None:  # type: ignore[type-arg]
        self.behind = asyncio.create_task(self._later(order))

    async def _later(self, order: list[Any]) -> None:
        await asyncio.sleep(HEAR_S)
        await self.send(*order)


class Stateless(Desk):
    state = ()  # type: ignore[assignment]


class Side:
    """A worker's side with one agent in it, asked as the node asks."""

    def __init__(self, agent: Desk, *, concurrency: int = 1) -> None:
        self.mesh = NotedMesh()
        attach(agent, name="desk", mesh=self.mesh, log=logging.getLogger("desk"))
        self.agent = agent
        runtime = PythonRuntime()
        runtime._agent, runtime._started = agent, True
        runtime._handlers = handlers_of(agent)
        runtime._threads = Threads("desk", count=2)
        self.side = WorkerSide(Begun())
        self.side._runtime = runtime
        self.side._stateful = runtime.stateful
        self.side._concurrency = concurrency
        self.side._turn = Gate(concurrency)
        self.kept: list[Any] = []  # of [state, what was sent]
        self.side._unkept = Unkept(self._keep, lost=self.side.stopped.set, saved=runtime.checkpoint())
        self._turn = 0
        self.on_its_way = asyncio.Event()  # a reply leaves once it is set: a large one takes its time
        self.on_its_way.set()

    async def _keep(self, body: Any) -> None:
        await asyncio.sleep(0)
        self.kept.append(unpack(joined(body)))

    async def ask(self, verb: str, body: Any, *, timeout_s: float = TIMEOUT_S) -> Any:
        self._turn += 1
        served = SimpleNamespace(verb=verb, body=body, id=self._turn, timeout_s=timeout_s, wants_parts=False, replied=lambda: None)
        try:
            return joined(await self.side.serve(cast("Served", served)))
        finally:
            await self.on_its_way.wait()
            served.replied()

    async def hear(self, *contents: Any, first: int = 1, timeout_s: float = TIMEOUT_S) -> HearReply:
        letters = [Letter(SESSION, first + number, "beta/left", "x@y", pack(content)) for number, content in enumerate(contents)]
        request = HearRequest(self._turn + 1, letters)
        body = await self.ask(HEAR, pack(msgspec.to_builtins(request, builtin_types=(bytes,))), timeout_s=timeout_s)
        return convert(unpack_body(body), HearReply)

    async def run(self, capability: str, payload: Any) -> Any:
        return unpack(await self.ask(RUN, RunRequest(self._turn + 1, capability, pack(payload), b"").to_bytes(), timeout_s=60.0))


def told(state: bytes | None) -> Any:
    return unpack(state)["heard"] if state is not None else None


@simulated
async def test_letters_and_what_they_sent_come_back_with_the_state() -> None:
    side = Side(Desk())
    reply = await side.hear("a", ["peer", 1], ["peer", 2])
    assert (reply.handled, reply.failed) == (3, "")
    assert told(reply.state) == ["a", ["peer", 1], ["peer", 2]]
    assert reply.sent == [Outgoing("peer@ids", pack(1)), Outgoing("peer@ids", pack(2))]
    assert all(only_look for *_, only_look in side.mesh.sent), "nothing leaves before the state is kept"
    assert (await side.hear()).state is None, "unchanged"


@simulated
async def test_one_that_raises_undoes_the_batch_where_there_is_a_state_and_only_itself_where_there_is_none() -> None:
    side = Side(Desk())
    reply = await side.hear("a", ["peer", 1], "raise", "b")
    assert (reply.handled, reply.failed_at, reply.state, reply.sent) == (0, 2, None, [])
    assert "ValueError: no" in reply.failed
    assert side.agent.heard == []
    side = Side(Stateless())
    reply = await side.hear("a", ["peer", 1], "raise", "b")
    assert (reply.handled, reply.failed_at) == (2, 2)
    assert reply.sent == [Outgoing("peer@ids", pack(1))]


@simulated
async def test_a_batch_that_is_cut_counts_nothing() -> None:
    side = Side(Desk())
    cut = asyncio.create_task(side.hear("a", "wait"))
    await asyncio.sleep(HEAR_S)
    assert side.agent.heard == ["a", "wait"]
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    assert side.agent.heard == [], "the node hands both over again"
    assert told((await side.hear("a", "b")).state) == ["a", "b"]


@simulated
async def test_a_handler_has_its_time_and_then_it_failed() -> None:
    side = Side(Desk())
    loop = asyncio.get_running_loop()
    began = loop.time()
    reply = await side.hear("wait")
    assert HANDLER_S <= loop.time() - began < HANDLER_S + 1
    assert "TimeoutError" in reply.failed
    assert side.agent.heard == []


@simulated
async def test_a_batch_gives_way_after_a_while_and_the_rest_comes_again() -> None:
    side = Side(Desk())
    reply = await side.hear("slow", "slow", "a")
    assert (reply.handled, reply.failed) == (1, "")
    assert told(reply.state) == ["slow"]


@simulated
async def test_what_can_not_be_kept_did_not_happen() -> None:
    side = Side(Desk())
    reply = await side.hear("a", "unkeepable")
    assert (reply.handled, reply.failed_at) == (0, 2), "nobody knows which of them it was"
    assert "heard" in reply.failed
    assert side.agent.heard == []
    assert (await side.hear("unkeepable")).failed_at == 0
    assert told((await side.hear("a")).state) == ["a"]


@simulated
async def test_what_was_not_set_before_is_not_set_after() -> None:
    side = Side(Desk())
    await side.hear("late")
    assert not hasattr(side.agent, "late")
    state = state_of(side.agent)
    side.agent.late = True
    restore(side.agent, state)
    assert side.agent.late, "an agent that was just made keeps what its __init__ set"


@simulated
async def test_no_room_for_what_it_sends_is_no_fault_of_the_letters() -> None:
    class Full(NotedMesh):
        async def send(self, to: str, content: Any, *, urgent: bool = False, only_look: bool = False) -> MeshSendReply:
            raise Refused("full", code=Code.BUSY)

    side = Side(Desk())
    side.agent._mesh = Full()
    reply = await side.hear(["peer", 1])
    assert reply.busy
    assert reply.failed
    assert not (await side.hear("raise")).busy


@simulated
async def test_letters_wait_for_tasks_and_are_handed_back_where_there_is_no_time_left() -> None:
    side = Side(Desk(), concurrency=2)
    task = asyncio.create_task(side.run("custom:tell", ["peer", "x", 5.0, ""]))
    await asyncio.sleep(HEAR_S / 10)
    loop = asyncio.get_running_loop()
    began = loop.time()
    reply = await side.hear("a")
    assert loop.time() - began > 4
    assert reply.handled == 1
    await task
    task = asyncio.create_task(side.run("custom:tell", ["peer", "x", HANDLER_S + ANSWER_S + 20, ""]))
    await asyncio.sleep(HEAR_S / 10)
    with pytest.raises(Refused) as refused:
        await side.hear("b")
    assert refused.value.code == Code.BUSY
    assert "b" not in side.agent.heard
    await task
    assert side.side._turn._free == 2


# --- what tasks send ---------------------------------------------------------------------------------------------------------------------


@simulated
async def test_what_a_failed_task_sent_is_dropped() -> None:
    side = Side(Desk())
    with pytest.raises(SkerryError, match="after it sent"):
        await side.run("custom:tell", ["peer", "never", 0, "raise"])
    assert side.kept == []
    assert await side.run("custom:tell", ["peer", "x", 0, ""]) == "told"
    ((state, sent),) = side.kept
    assert (told(state), sent) == (["x"], [["peer@ids", pack("x"), False]])


@simulated
async def test_what_tasks_beside_each_other_sent_leaves_with_the_state_of_the_last() -> None:
    side = Side(Desk(), concurrency=2)
    await asyncio.gather(side.run("custom:tell", ["peer", "x", 1, ""]), side.run("custom:tell", ["peer", "y", 2, ""]))
    ((state, sent),) = side.kept  # once: while another one runs the state is between nothing
    assert told(state) == ["x", "y"]
    assert sent == [["peer@ids", pack("x"), False], ["peer@ids", pack("y"), False]]


@simulated
@pytest.mark.parametrize("ends", ["raises", "is given up"])
async def test_what_was_done_beside_a_task_that_fails_last_is_kept_with_its_end(ends: str) -> None:
    side = Side(Desk(), concurrency=2)
    last = asyncio.create_task(side.run("custom:tell", ["peer", "y", 2, "raise"]))
    await side.run("custom:tell", ["peer", "x", 1, ""])
    assert side.kept == []
    if ends == "is given up":
        last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    ((state, sent),) = side.kept
    assert (told(state), sent) == (["x"], [["peer@ids", pack("x"), False]])


@simulated
async def test_a_task_that_is_given_up_while_it_is_kept_ends_after_that_and_nothing_overtakes() -> None:
    side = Side(Desk())
    going = asyncio.Event()
    keep = side.side._unkept._send

    async def slow(body: Any) -> None:
        await going.wait()
        await keep(body)

    side.side._unkept._send = slow
    task = asyncio.create_task(side.run("custom:tell", ["peer", "x", 0, ""]))
    await asyncio.sleep(0.1)
    task.cancel()
    behind = asyncio.create_task(side.hear("a"))
    await asyncio.sleep(0.1)
    assert not task.done()
    assert side.agent.heard == ["x"], "letters wait for what is on its way"
    going.set()
    await asyncio.gather(task, return_exceptions=True)
    assert told(side.kept[0][0]) == ["x"]
    assert told((await behind).state) == ["x", "a"]


@simulated
async def test_no_task_begins_before_what_letters_changed_has_left() -> None:
    """A large state takes its time, and a small one of the next task would overtake it: then the old one would be kept last."""
    side = Side(Desk(), concurrency=2)
    side.on_its_way.clear()
    letters = asyncio.create_task(side.hear("a"))
    await asyncio.sleep(0.1)
    task = asyncio.create_task(side.run("custom:tell", ["peer", "x", 0, ""]))
    await asyncio.sleep(0.1)
    assert side.kept == []
    side.on_its_way.set()
    assert told((await letters).state) == ["a"]
    await task
    assert told(side.kept[0][0]) == ["a", "x"]


@simulated
async def test_a_worker_whose_state_was_not_kept_ends() -> None:
    side = Side(Desk())

    async def full(body: Any) -> None:
        raise Refused("the disk is full", code=Code.BUSY)

    side.side._unkept._send = full
    with pytest.raises(Refused, match="full"):
        await side.run("custom:tell", ["peer", "x", 0, ""])
    assert side.side.stopped.is_set()


@simulated
async def test_letters_that_come_between_find_what_was_done_before_kept() -> None:
    side = Side(Desk(), concurrency=2)
    first = asyncio.create_task(side.run("custom:tell", ["peer", "x", 1, ""]))
    second = asyncio.create_task(side.run("custom:tell", ["peer", "y", 2, "raise"]))
    await asyncio.sleep(HEAR_S / 10)
    reply = await side.hear("a")
    await asyncio.gather(first, second, return_exceptions=True)
    assert told(reply.state) == ["x", "a"]
    assert [(told(state), sent) for state, sent in side.kept] == [(["x"], [["peer@ids", pack("x"), False]])]
    assert reply.sent == []


@simulated
async def test_what_a_handler_leaves_running_sends_at_once() -> None:
    side = Side(Desk())
    await side.run("custom:later", ["peer", "x"])
    assert side.kept == []
    await asyncio.sleep(2 * HEAR_S)
    assert side.mesh.sent == [("peer", "x", False, False)]


@simulated
async def test_a_send_that_ends_after_its_handler_is_not_lost() -> None:
    """It looked while the handler ran, and the handler ended meanwhile."""
    agent, mesh = Desk(), NotedMesh()
    going = asyncio.Event()

    class Slow(NotedMesh):
        async def send(self, to: str, content: Any, *, urgent: bool = False, only_look: bool = False) -> MeshSendReply:
            if only_look:
                await going.wait()
            return await mesh.send(to, content, urgent=urgent, only_look=only_look)

    attach(agent, name="desk", mesh=Slow(), log=logging.getLogger("desk"))
    with HeldBack() as held:
        behind = asyncio.create_task(agent.send("peer", "x"))
        await asyncio.sleep(0)
    going.set()
    await behind
    assert held.letters == []
    assert mesh.sent[-1] == ("peer@ids", "x", False, False)


@simulated
async def test_peers_are_told() -> None:
    side = Side(Desk())
    met: list[Any] = []

    async def added(peer: str) -> None:
        met.append(peer)

    async def removed(peer: str) -> None:
        met.append(("gone", peer))

    side.agent.peer_added, side.agent.peer_removed = added, removed  # type: ignore[method-assign]
    await side.ask(PEERS, pack_message(PeersRequest(["beta/right"], ["beta/old"])))
    assert met == [("gone", "beta/old"), "beta/right"]
