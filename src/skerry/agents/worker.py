"""The process that an agent lives in: one runtime, one connection to the node, nothing else.

The worker inherits the node's two connections as file descriptors (calls and bulk); holding them *is* its identity. It never learns the
node's socket, key or token. Tasks run in the order in which they came, at most `concurrency` at a time. Before each it notes in memory
shared with the node that it begins (`begun.py`), so that after a crash the node knows which ones never began.

Where the agent declares a state, what a task changed and sent is kept before its reply leaves (`unkept.py`). Letters are handled one at
a time; where there is a state to keep, while no task runs, so that what is kept is whole.

The rule: when the connection closes, this process and its children end at once, whatever they are doing; and so they do when a task
does not end within `HUNG_S` of its deadline.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from skerry.agents import runtimes
from skerry.agents.about import About
from skerry.agents.begun import Begun
from skerry.agents.collector import settle
from skerry.agents.gate import Gate
from skerry.agents.letters import HANDLER_S, HearReply, HearRequest, Letter, MeshSendReply, MeshSendRequest, Outgoing, PeersRequest
from skerry.agents.places import PRIORITY_DEFAULT
from skerry.agents.runtimes.contract import Call, Checkpointing, Context, Conversing, Described, Runtime, Source
from skerry.agents.sdk import HeldBack
from skerry.agents.unheard import ERROR_CHARACTERS_MAX, is_passing, not_handled
from skerry.agents.unkept import Unkept
from skerry.agents.verbs import (
    ACTIVATE,
    HEALTH,
    HEAR,
    HUNG_S,
    KEEP,
    MESH_CALL,
    MESH_SEND,
    PEERS,
    RUN,
    STOP,
    ActivateReply,
    ActivateRequest,
    HealthReply,
    MeshCallRequest,
    RunRequest,
)
from skerry.channel.bulk import Bulk
from skerry.channel.calls import Body, Served
from skerry.channel.link import Link
from skerry.channel.messages import convert, pack_message, unpack_message, unpack_struct
from skerry.channel.stream import FrameStream
from skerry.errors import NEVER_STARTED, Code, Refused, SkerryError, Unreachable
from skerry.identity.codec import pack
from skerry.identity.pieces import Pieces, pack_value, unpack_body

CALL_TIMEOUT_S = 60.0  # of an agent's own call where neither it nor its task sets one
ANSWER_S = 2.0  # for the way back of what became of letters
HEAR_S = 1.0  # after so long in one batch of letters what was handled is kept, and the others come again
TASK: ContextVar[bytes] = ContextVar("task", default=b"")  # the task that is being done here
log = logging.getLogger("skerry.worker")
WATCH_MS = 250  # how often the thread looks


class NodeMesh:
    """The mesh as an agent sees it: its calls go to the node. That they inherit a deadline is the SDK's to see to."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def call(
        self, capability: str, payload: Any, *, timeout_s: float | None = None, agent: str | None = None, reach: str = "formation"
    ) -> Any:
        body = pack_message(MeshCallRequest(capability, pack(payload), agent or "", reach, TASK.get()))
        return unpack_body(await self._link.call(MESH_CALL, body, timeout_s=timeout_s or CALL_TIMEOUT_S))

    async def stream(
        self, capability: str, payload: Any, *, timeout_s: float | None = None, agent: str | None = None, reach: str = "formation"
    ) -> AsyncIterator[Any]:
        body = pack_message(MeshCallRequest(capability, pack(payload), agent or "", reach, TASK.get()))
        parts = await self._link.stream(MESH_CALL, body, timeout_s=timeout_s or CALL_TIMEOUT_S)
        try:
            async for part in parts:
                yield unpack_body(part)
        finally:
            await parts.aclose()

    async def send(self, to: str, content: Any, *, urgent: bool = False, only_look: bool = False) -> MeshSendReply:
        body = pack_message(MeshSendRequest(to, pack(content), urgent, only_look))
        return unpack_message(MeshSendReply, await self._link.call(MESH_SEND, body, timeout_s=CALL_TIMEOUT_S))


class Overseer:
    """Knows by when each running task must be over. A thread looks at it, because a task that hangs may hold the loop."""

    def __init__(self) -> None:
        self._ends: dict[int, float] = {}

    def began(self, number: int, *, left_s: float) -> None:
        self._ends[number] = time.monotonic() + left_s + HUNG_S

    def ended(self, number: int) -> None:
        self._ends.pop(number, None)

    def overdue(self) -> bool:
        now = time.monotonic()
        return any(end < now for end in list(self._ends.values()))


class WorkerSide:
    """Answers the node. The link is given later, because it needs this object first."""

    def __init__(self, begun: Begun, load: Any = runtimes.load, *, loaded: Callable[[], None] = lambda: None) -> None:
        """`loaded` is called once the agent and all that it imports are there."""
        self._begun = begun
        self._load = load
        self._loaded = loaded
        self._runtime: Runtime | None = None
        self._concurrency = 1
        self._turn = Gate(1)
        self._stateful = False
        self.overseer = Overseer()
        self.link: Link | None = None
        self.stopped = asyncio.Event()
        self._unkept = self._keeps(b"")

    async def serve(self, served: Served) -> Body:
        if served.verb == RUN:
            return await self._run(served)
        if served.verb == HEAR:
            return await self._hear(served)
        if served.verb == PEERS:
            peers = unpack_message(PeersRequest, served.body)
            await _conversing(self._active()).meet(added=peers.added, removed=peers.removed)
            return b""
        if served.verb == ACTIVATE:
            return await self._activate(unpack_message(ActivateRequest, served.body))
        if served.verb == HEALTH:
            runtime = self._active()
            health = await runtime.health()
            return pack_message(HealthReply(health.ok, health.detail, runtime.offers()))
        if served.verb == STOP:
            if self._runtime is not None:
                await self._runtime.stop()
            self.stopped.set()
            return b""
        raise Refused(f"a worker knows no verb {served.verb!r}", code=Code.UNKNOWN_VERB)

    async def _activate(self, request: ActivateRequest) -> Body:
        assert self.link is not None
        source = Source(request.runtime, request.name, Path(request.path) if request.path else None, request.entry, request.options)
        self._concurrency = request.concurrency
        self._turn = Gate(request.concurrency)
        runtime: Runtime = self._load(request.runtime)()
        context = Context(NodeMesh(self.link), logging.getLogger(f"agent.{request.name}"), request.settings, request.state)
        try:
            instance = await runtime.activate(source, context)
        except SkerryError as error:
            if error.__cause__ is not None:  # somebody else's code raised: its author wants to see where
                log.exception("%s can't start", request.name)
            raise
        self._loaded()
        self._runtime = runtime
        self._stateful = isinstance(runtime, Checkpointing) and runtime.stateful
        self._unkept = self._keeps(request.state)
        about = runtime.about() if isinstance(runtime, Described) else About()
        hears, role = (runtime.hears, runtime.role) if isinstance(runtime, Conversing) else (False, "")
        return pack_message(ActivateReply(instance, runtime.offers(), about, hears, role))

    def _active(self) -> Runtime:
        if self._runtime is None:
            raise Refused("the agent is not active yet", code=Code.BUSY, hint="try again in a moment")
        return self._runtime

    async def _run(self, served: Served) -> Body:
        runtime = self._active()
        request = unpack_struct(RunRequest, served.body, large="payload")
        started = asyncio.get_running_loop().time()
        await self._turn.enter(-request.priority)
        try:
            if self._unkept.is_lost:
                raise Unreachable("the agent starts again", code=Code.AGENT_RESTARTING)
            left_s = served.timeout_s - (asyncio.get_running_loop().time() - started)
            if left_s <= 0:
                raise Refused("the deadline was over before the agent's turn came", code=Code.DEADLINE_EXCEEDED)
            call = Call(request.capability, unpack_body(request.payload), request.task_id, left_s)
            self._begun.reach(request.turn)
            TASK.set(request.task_id)
            self.overseer.began(served.id, left_s=left_s)
            if not self._stateful:
                return await self._work(runtime, call, served)
            return await self._work_whole(runtime, call, served)
        finally:
            self._turn.leave()

    async def _work_whole(self, runtime: Runtime, call: Call, served: Served) -> Body:
        """With a state to keep: what the task changed and sent is kept before it ends."""
        assert isinstance(runtime, Checkpointing)
        self._unkept.began()
        try:
            with HeldBack() as sent:
                body = await self._work(runtime, call, served)
        except BaseException:
            await self._unkept.failed(runtime)
            raise
        await self._unkept.ended(runtime, _outgoing(sent))
        return body

    def _keeps(self, state: bytes) -> Unkept:
        """`state`: as the node has it."""

        async def send(body: bytes | Pieces) -> None:
            assert self.link is not None
            await self.link.call(KEEP, body, timeout_s=CALL_TIMEOUT_S)

        return Unkept(send, lost=self.stopped.set, is_busy=lambda: self.link is not None and self.link.busy, saved=state)

    async def _hear(self, served: Served) -> Body:
        """Letters, until one fails. With a state to keep nothing else runs meanwhile, and where one fails none counts."""
        runtime = self._active()
        conversing = _conversing(runtime)
        request = convert(unpack_body(served.body), HearRequest)
        loop = asyncio.get_running_loop()
        ends = loop.time() + served.timeout_s - ANSWER_S
        turns = self._concurrency if self._stateful else 1
        taken = 0
        try:
            for _ in range(turns):
                await self._turn.enter(-PRIORITY_DEFAULT)
                taken += 1
            if ends - loop.time() < HANDLER_S:
                raise Refused("the agent's tasks left no time for its letters", code=Code.BUSY)
            self._begun.reach(request.turn)
            self.overseer.began(served.id, left_s=ends - loop.time())
            if not self._stateful:
                reply = await self._heard_all(conversing, request.letters, ends)
            else:
                reply = await self._heard_whole(runtime, conversing, request.letters, ends)
            return pack(msgspec.to_builtins(reply, builtin_types=(bytes,)))
        finally:
            self.overseer.ended(served.id)
            served.replied = lambda: self._leave(taken)  # not before: a state that is large leaves slowly, and must not be overtaken

    def _leave(self, turns: int) -> None:
        for _ in range(turns):
            self._turn.leave()

    async def _heard_whole(self, runtime: Runtime, conversing: Conversing, letters: list[Letter], ends: float) -> HearReply:
        """With a state to keep: what is not kept did not happen, however it ended."""
        assert isinstance(runtime, Checkpointing)
        before = runtime.checkpoint()
        is_whole = False
        try:
            reply = await self._heard_all(conversing, letters, ends)
            if reply.failed:
                return HearReply(0, failed=reply.failed, failed_at=reply.failed_at, busy=reply.busy, passing=reply.passing)
            try:
                state, sent = self._unkept.take(runtime)
            except SkerryError as error:
                log.error("what %d letters changed can't be kept: %s", reply.handled, error)
                return HearReply(0, failed=error.message, failed_at=len(letters) if reply.handled > 1 else 0)
            is_whole = True
            return HearReply(reply.handled, state, [*sent, *reply.sent])
        finally:
            if not is_whole:
                conversing.put_back(before)

    async def _heard_all(self, conversing: Conversing, letters: list[Letter], ends: float) -> HearReply:
        """One after the other, until one fails or there is no time for another one: those that wait long come with the next call."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outgoing: list[Outgoing] = []
        for number, letter in enumerate(letters):
            if number and (loop.time() - began > HEAR_S or ends - loop.time() < HANDLER_S):
                return HearReply(number, sent=outgoing)
            with HeldBack() as sent:
                error = await self._heard(conversing, letter)
            if error is not None:
                return not_handled(error, number=number, sent=outgoing)
            outgoing += _outgoing(sent)
        return HearReply(len(letters), sent=outgoing)

    async def _heard(self, conversing: Conversing, letter: Letter) -> Exception | None:
        """What a handler raised."""
        try:
            async with asyncio.timeout(HANDLER_S):
                await conversing.hear(letter, timeout_s=HANDLER_S)
        except Exception as error:  # somebody else's code: whatever it raises, the letter is not handled
            trace = None if is_passing(error) else error  # why is plain, where whom it asked is not there
            log.error("the letter %s of %s could not be handled: %s", letter.id, letter.sender, error, exc_info=trace)
            return error
        return None

    async def _work(self, runtime: Runtime, call: Call, served: Served) -> Body:
        try:
            if not served.wants_parts:
                return pack_value(await runtime.call(call))
            async for part in runtime.stream(call):
                await served.part(pack_value(part))
            return b""
        except asyncio.CancelledError:
            raise
        except SkerryError as error:
            once = not any(offer.idempotent for offer in runtime.offers() if offer.capability == call.capability)
            raise _begun(error) if once else error from error.__cause__
        except Exception as error:
            log.exception("%s failed", call.capability)
            said = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]
            raise Refused(said, code=Code.TASK_FAILED, hint="the agent's log has the traceback: skerry agent logs") from error
        finally:
            self.overseer.ended(served.id)  # not later: to keep what it changed takes as long as the node's disk does


def _conversing(runtime: Runtime) -> Conversing:
    if not isinstance(runtime, Conversing):
        raise Refused("this agent takes no letters", code=Code.NO_COMMS)
    return runtime


def _outgoing(sent: HeldBack) -> list[Outgoing]:
    return [Outgoing(to, pack(content), urgent) for to, content, urgent in sent.letters]


def _begun(error: SkerryError) -> SkerryError:
    """What an agent that has begun a task may say of it, where once is the most: what went wrong in a call of its own must not read as
    "this task never started", or somebody else would be asked."""
    if isinstance(error, Unreachable):
        return Unreachable(error.message, code=error.code, hint=error.hint, outcome_unknown=True)
    if error.code in NEVER_STARTED:
        return Refused(error.message, code=Code.TASK_FAILED, hint=error.hint)
    return error


def connect(side: WorkerSide, calls: FrameStream, bulk: FrameStream) -> Link:
    """The worker's end of the link over two connections."""
    link = Link(calls, None, side.serve, dialled=True, bulk=Bulk(bulk))
    side.link = link
    return link


def _end_everything() -> None:
    """This process and its children, which share its process group."""
    try:
        os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(1)


def _watch(descriptor: int, overseer: Overseer) -> None:
    """From a thread: an agent that blocks the loop must outlive neither its node nor its deadline."""
    poll = select.poll()
    poll.register(descriptor, select.POLLHUP)
    while not poll.poll(WATCH_MS):
        if overseer.overdue():
            sys.stderr.write("a task went on after its deadline: the agent starts again\n")
            sys.stderr.flush()
            break
    _end_everything()


async def _live(calls_fd: int, bulk_fd: int, begun_fd: int) -> None:
    loop = asyncio.get_running_loop()
    side = WorkerSide(Begun(begun_fd), loaded=settle)
    os.close(begun_fd)  # the memory stays
    threading.Thread(target=_watch, args=(os.dup(calls_fd), side.overseer), daemon=True).start()
    calls, bulk = FrameStream(own=True), FrameStream()
    await loop.create_connection(lambda: bulk, sock=socket.socket(fileno=bulk_fd))
    connect(side, calls, bulk)
    await loop.create_connection(lambda: calls, sock=socket.socket(fileno=calls_fd))
    await side.stopped.wait()
    await asyncio.sleep(0)  # the reply to `agent.stop` leaves with this turn


def main() -> None:
    """`python -m skerry.agents.worker CALLS_FD BULK_FD BEGUN_FD DATA_BYTES`: only a node starts this. DATA_BYTES: rlimit, 0 for none."""
    calls_fd, bulk_fd, begun_fd, data_bytes = (int(argument) for argument in sys.argv[1:5])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the node's terminal is the node's to handle
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold whatever the agent was told
    if data_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    asyncio.run(_live(calls_fd, bulk_fd, begun_fd))
    os._exit(0)  # a sync handler's thread that never ends must not keep this process


if __name__ == "__main__":
    main()
