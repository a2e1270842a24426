"""The process that an agent lives in: one runtime, one connection to the node, nothing else.

The worker inherits the node's two connections as file descriptors (calls and bulk); holding them *is* its identity. It never learns the
node's socket, key or token. Tasks run in the order in which they came, at most `concurrency` at a time, so that after a crash the node
knows which ones can't have begun.

The rule: when the connection closes, this process and its children end at once, whatever they are doing.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from skerry.agents import runtimes
from skerry.agents.runtimes.contract import Call, Context, Runtime, Source
from skerry.agents.verbs import (
    ACTIVATE,
    HEALTH,
    MESH_CALL,
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
from skerry.channel.messages import convert, pack_message, unpack_message
from skerry.channel.stream import FrameStream
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.codec import pack, unpack

CALL_TIMEOUT_S = 60.0  # of an agent's own call where neither it nor its task sets one
ERROR_CHARACTERS_MAX = 1000  # of what an agent's exception says, as its caller sees it
log = logging.getLogger("skerry.worker")
_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("deadline")  # loop time by which the current task must end


class NodeMesh:
    """The mesh as an agent sees it: calls go to the node, and inherit the deadline of the task that makes them."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def call(self, capability: str, payload: Any, *, timeout_s: float | None = None, agent: str | None = None) -> Any:
        body = pack_message(MeshCallRequest(capability, pack(payload), agent or ""))
        return unpack(await self._link.call(MESH_CALL, body, timeout_s=_timeout(timeout_s)))

    async def stream(
        self, capability: str, payload: Any, *, timeout_s: float | None = None, agent: str | None = None
    ) -> AsyncIterator[Any]:
        body = pack_message(MeshCallRequest(capability, pack(payload), agent or ""))
        parts = await self._link.stream(MESH_CALL, body, timeout_s=_timeout(timeout_s))
        try:
            async for part in parts:
                yield unpack(part)
        finally:
            await parts.aclose()


def _timeout(wanted_s: float | None) -> float:
    left_s = _deadline.get(float("inf")) - asyncio.get_running_loop().time()
    timeout_s = min(left_s, wanted_s if wanted_s is not None else (CALL_TIMEOUT_S if left_s == float("inf") else left_s))
    if timeout_s <= 0:
        raise Refused("the task's deadline is over", code=Code.DEADLINE_EXCEEDED)
    return timeout_s


class WorkerSide:
    """Answers the node. The link is given later, because it needs this object first."""

    def __init__(self, load: Any = runtimes.load) -> None:
        self._load = load
        self._runtime: Runtime | None = None
        self._turn = asyncio.Semaphore(1)
        self.link: Link | None = None
        self.stopped = asyncio.Event()

    async def serve(self, served: Served) -> Body:
        if served.verb == RUN:
            return await self._run(served)
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
        self._turn = asyncio.Semaphore(request.concurrency)
        runtime: Runtime = self._load(request.runtime)()
        context = Context(NodeMesh(self.link), logging.getLogger(f"agent.{request.name}"))
        instance = await runtime.activate(source, context)
        self._runtime = runtime
        return pack_message(ActivateReply(instance, runtime.offers()))

    def _active(self) -> Runtime:
        if self._runtime is None:
            raise Refused("the agent is not active yet", code=Code.BUSY, hint="try again in a moment")
        return self._runtime

    async def _run(self, served: Served) -> Body:
        runtime = self._active()
        request = convert(unpack(served.body), RunRequest)
        started = asyncio.get_running_loop().time()
        async with self._turn:
            left_s = served.timeout_s - (asyncio.get_running_loop().time() - started)
            if left_s <= 0:
                raise Refused("the deadline was over before the agent's turn came", code=Code.DEADLINE_EXCEEDED)
            _deadline.set(asyncio.get_running_loop().time() + left_s)
            call = Call(request.capability, unpack(request.payload), request.task_id, left_s)
            try:
                if not served.wants_parts:
                    return pack(await runtime.call(call))
                async for part in runtime.stream(call):
                    await served.part(pack(part))
                return b""
            except (SkerryError, asyncio.CancelledError):
                raise
            except Exception as error:  # the boundary: whatever an agent raises becomes its task's failure
                log.exception("%s failed", request.capability)
                said = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]
                raise Refused(said, code=Code.TASK_FAILED, hint="the agent's log has the traceback: skerry agent logs") from error


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


def _watch_connection(descriptor: int) -> None:
    """From a thread: an agent that blocks the loop must not outlive its node."""
    poll = select.poll()
    poll.register(descriptor, select.POLLHUP)
    poll.poll()
    _end_everything()


async def _live(calls_fd: int, bulk_fd: int) -> None:
    loop = asyncio.get_running_loop()
    side = WorkerSide()
    calls, bulk = FrameStream(), FrameStream()
    await loop.create_connection(lambda: bulk, sock=socket.socket(fileno=bulk_fd))
    connect(side, calls, bulk)
    await loop.create_connection(lambda: calls, sock=socket.socket(fileno=calls_fd))
    await side.stopped.wait()
    await asyncio.sleep(0)  # the reply to `agent.stop` leaves with this turn


def main() -> None:
    """`python -m skerry.agents.worker CALLS_FD BULK_FD`: only a node starts this."""
    calls_fd, bulk_fd = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the node's terminal is the node's to handle
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    threading.Thread(target=_watch_connection, args=(os.dup(calls_fd),), daemon=True).start()
    asyncio.run(_live(calls_fd, bulk_fd))


if __name__ == "__main__":
    main()
