"""One agent's life on this node: its worker, its queue, its health, its way back after a crash.

Tasks wait in order for a bounded number of places; a few more than the agent works on at once are handed to the worker ahead, so that
it never waits for the next. The worker begins them in order: when it dies, those beyond its concurrency can't have begun.

The rule: every task ends with a result, a refusal, or an error that says whether it may have been done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from skerry.agents.about import About
from skerry.agents.aftermath import LOGS, after_crash
from skerry.agents.launch import Launch, state_facts
from skerry.agents.letters import HearReply, HearRequest, KeepRequest, Letter, Outgoing, PeersRequest
from skerry.agents.places import PRIORITY_DEFAULT, Places
from skerry.agents.profile import COMES_BACK, WORKS, Status
from skerry.agents.runtimes.contract import Offer
from skerry.agents.spec import Spec
from skerry.agents.verbs import (
    ACTIVATE,
    HEALTH,
    HEAR,
    KEEP,
    PEERS,
    RUN,
    STOP,
    WORKER_VERBS,
    ActivateReply,
    HealthReply,
    RunRequest,
)
from skerry.channel.bulk import Bulk
from skerry.channel.calls import Body, Served
from skerry.channel.link import Link
from skerry.channel.messages import convert, pack_message, unpack_message, unpack_struct
from skerry.channel.stream import FrameStream
from skerry.errors import Code, Refused, SkerryError, StorageError, Unreachable, UsageError
from skerry.identity.codec import pack
from skerry.identity.keys import KeyPair
from skerry.identity.pieces import unpack_body
from skerry.ports import Fact, Ports, Worker, backoff

AHEAD = 16  # tasks handed to a worker beyond those it works on: covers the way there and back
COME_BACK_S = 3.0  # how long a task waits for an agent that starts again
RETRY_LEAST_S = 0.1  # what a caller of a full agent is told to wait at least ...
RETRY_MOST_S = 60.0  # ... and at most
SERVICE_TASKS = 16  # over so many tasks their time is averaged
QUEUE_MAX = 1024  # tasks of one agent that wait or run; above it callers hear `busy`
ACTIVATE_TIMEOUT_S = 110.0  # a large model from a slow disk
HEALTH_EVERY_S = 5.0
HEALTH_TIMEOUT_S = 20.0  # a worker that computes may answer late
STOP_TIMEOUT_S = 3.0  # for `on_stop`; then the process ends anyway
RESTART_FIRST_S = 0.2
RESTART_MOST_S = 30.0
STEADY_S = 60.0  # up for so long, and the next crash is a first one again
PERMANENT = frozenset({Code.BAD_INPUT, Code.BAD_MODEL, Code.NOT_FOUND, Code.BAD_PAYLOAD, Code.UNSAFE_FILE})  # a restart can't help
log = logging.getLogger(__name__)

Work = Callable[[Link, int, float], Coroutine[Any, Any, Body]]  # a task over the worker's link, its turn, what is left of its time (s)
CallMesh = Callable[["Resident", Served], Awaitable[Body]]  # a worker asks the mesh
Keep = Callable[["Resident", list[Fact], list[Outgoing]], None]  # in one commit; may raise StorageError: then none of it is there


class Resident:
    """An agent of this node. `changed` is called whenever what others may know of it changed."""

    def __init__(
        self,
        spec: Spec,
        key: KeyPair,
        *,
        ports: Ports,
        log_file: Path | None,
        work: Path | None,
        call_mesh: CallMesh,
        changed: Callable[[Resident], None],
        keep: Keep,
    ) -> None:
        self.spec = spec
        self.key = key
        self.status = Status.STOPPED
        self.detail = ""
        self.offers: list[Offer] = []
        self.about = About()  # what its code says
        self.restarts = 0
        self.changing = asyncio.Lock()  # of whoever starts, stops or removes it
        self.first_start: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ports = ports
        self._launch = Launch(ports, log_file=log_file, work=work)
        self._call_mesh = call_mesh
        self._changed = changed
        self._keep = keep
        self.hears: bool | None = None  # not known before it started once
        self.lives = 0  # how often it started
        self.role = ""
        self._life: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._worker: Worker | None = None
        self._places = Places(spec.concurrency + AHEAD, ahead=AHEAD)
        self._queued = 0
        self._service_s = 0.0  # how long a task takes here, a moving average
        self._available = asyncio.Event()
        self._turn, self._is_lost = 0, False  # of the last task that this worker was handed; what it knows could not be kept

    @property
    def pid(self) -> int:
        return self._worker.pid if self._worker is not None else 0

    @property
    def sandboxed(self) -> bool:
        return self._worker is not None and self._worker.sandboxed

    @property
    def load(self) -> int:
        """Tasks that wait or run."""
        return self._queued

    def offer(self, capability: str) -> Offer | None:
        return next((offer for offer in self.offers if offer.capability == capability), None)

    # --- life -----------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to live, where it does not. `first_start` then tells how the start went."""
        if self._life is not None and not self._life.done():
            return
        self.first_start = asyncio.get_running_loop().create_future()
        self.first_start.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting
        self._life = asyncio.get_running_loop().create_task(self._live())

    async def stop(self, *, keep_status: bool = False) -> None:
        """End the worker; `keep_status` where the node only goes away for a while."""
        life, self._life = self._life, None
        if life is not None:
            try:
                await self._ask_to_stop()
            finally:  # also where whoever asked for it is gone: nobody else ends this life
                life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        if not self.first_start.done():
            self.first_start.set_exception(Refused(f"the agent {self.spec.name!r} was stopped while it started", code=Code.AGENT_FAILED))
            self.first_start.exception()  # nobody may be waiting
        if not keep_status and self.status is not Status.STOPPED:
            self._set(Status.STOPPED)

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        waits = backoff(self._ports.random, first_s=RESTART_FIRST_S, most_s=RESTART_MOST_S)
        self._set(Status.STARTING)
        while True:
            began = loop.time()
            try:
                reason = await self._live_once()
            except SkerryError as error:
                reason = error.message
                if not self.first_start.done():
                    self.first_start.set_exception(error)
                if isinstance(error, UsageError):  # another start would end alike
                    self._set(Status.FAILED, reason)
                    return
            except OSError as error:
                reason = f"its process can't be started: {error.strerror or error}"
                if not self.first_start.done():
                    self.first_start.set_exception(StorageError(reason))
            if loop.time() - began > STEADY_S:
                waits = backoff(self._ports.random, first_s=RESTART_FIRST_S, most_s=RESTART_MOST_S)
            self.restarts += 1
            self._set(Status.RESTARTING, reason)
            log.warning("the agent %s starts again: %s", self.spec.name, reason)
            await asyncio.sleep(next(waits))

    async def _live_once(self) -> str:
        """From the start of a worker to its end; returns why it ended."""
        calls, bulk = FrameStream(own=True), FrameStream()
        worker = await self._ports.executor.spawn(await self._launch.start(self.spec), lambda: calls, lambda: bulk)
        ended = asyncio.Event()

        def lost(_: Link, __: SkerryError) -> None:
            self._available.clear()
            ended.set()

        link = Link(calls, None, self._serve, dialled=False, bulk=Bulk(bulk), on_lost=lost)
        self._worker, self._link, self._turn, self._is_lost = worker, link, 0, False
        try:
            reply = await self._activate(link)
            self.offers, self.about = reply.offers, reply.about
            self.hears, self.role = reply.hears, reply.role
            self.lives += 1
            self._set(Status.PAUSED if self.spec.paused else Status.AVAILABLE, always=True)
            if not self.first_start.done():
                self.first_start.set_result(None)
            while not ended.is_set() and not self._is_lost:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEALTH_EVERY_S):
                        await ended.wait()
                if not ended.is_set() and not self._is_lost:
                    await self._check_health(link)
        finally:
            self._link = self._worker = None
            worker.kill()
            link.abort(Unreachable("the agent's process ended", code=Code.CONNECTION_LOST, outcome_unknown=True))
            await worker.wait()
        return worker.why_ended() or "its process ended"

    async def _activate(self, link: Link) -> ActivateReply:
        try:
            return unpack_message(
                ActivateReply, await link.call(ACTIVATE, self._launch.activation(self.spec), timeout_s=ACTIVATE_TIMEOUT_S)
            )
        except Unreachable as error:
            if not link.closed:
                raise
            raise Refused("the agent's process ended while it started", code=Code.AGENT_FAILED, hint=LOGS) from error
        except Refused as error:
            if error.code in PERMANENT:
                raise UsageError(error.message, code=error.code, hint=error.hint) from error
            raise

    async def _check_health(self, link: Link) -> None:
        try:
            reply = unpack_message(HealthReply, await link.call(HEALTH, b"", timeout_s=HEALTH_TIMEOUT_S))
        except SkerryError as error:
            if not link.closed:
                self._set(Status.UNHEALTHY, f"it did not answer the health check: {error.message}")
            return
        changed = reply.ok and reply.offers != self.offers
        if changed:
            self.offers = reply.offers
        good = Status.PAUSED if self.spec.paused else Status.AVAILABLE
        self._set(good if reply.ok else Status.UNHEALTHY, reply.detail, always=changed)

    async def _ask_to_stop(self) -> None:
        link = self._link
        if link is not None and not link.closed:
            with contextlib.suppress(SkerryError):
                await link.call(STOP, b"", timeout_s=STOP_TIMEOUT_S)

    def _set(self, status: Status, detail: str = "", *, always: bool = False) -> None:
        if status in WORKS:
            self._available.set()
        else:
            self._available.clear()
        if always or (status, detail) != (self.status, self.detail):
            self.status, self.detail = status, detail
            self._changed(self)

    async def _serve(self, served: Served) -> Body:
        if served.verb not in WORKER_VERBS:
            raise Refused(f"an agent may not ask {served.verb!r} of its node", code=Code.NOT_GRANTED)
        return self._keep_brought(served.body) if served.verb == KEEP else await self._call_mesh(self, served)

    # --- tasks ----------------------------------------------------------------------------------------------------------------

    async def run(self, capability: str, payload: bytes, task_id: bytes, *, timeout_s: float, priority: int = PRIORITY_DEFAULT) -> Body:
        """One task, as one reply: CBOR. Raises Refused or Unreachable."""

        async def one(link: Link, turn: int, left_s: float) -> Body:
            return await link.call(RUN, RunRequest(turn, capability, payload, task_id, priority).to_bytes(), timeout_s=left_s)

        return await self._in_turn(one, timeout_s, priority)

    async def stream(
        self, capability: str, payload: bytes, task_id: bytes, *, timeout_s: float, priority: int = PRIORITY_DEFAULT
    ) -> AsyncIterator[Body]:
        """One task, part by part. Close the iterator to give it up."""
        arrived: asyncio.Queue[Body | None] = asyncio.Queue(1)

        async def collect(link: Link, turn: int, left_s: float) -> Body:
            request = RunRequest(turn, capability, payload, task_id, priority)
            parts = await link.stream(RUN, request.to_bytes(), timeout_s=left_s)
            try:
                async for part in parts:
                    await self._places.hand_on(part, arrived)
            finally:
                await parts.aclose()
                with contextlib.suppress(asyncio.QueueFull):
                    arrived.put_nowait(None)
            return b""

        work = asyncio.get_running_loop().create_task(self._in_turn(collect, timeout_s, priority, stream=True))
        next_part: asyncio.Future[Any] = work
        try:
            while True:
                next_part = asyncio.ensure_future(arrived.get())
                await asyncio.wait({next_part, work}, return_when=asyncio.FIRST_COMPLETED)
                if not next_part.done() or (part := next_part.result()) is None:
                    break
                yield part
            await work
        finally:
            work.cancel()
            next_part.cancel()  # whoever waited for the part may be gone
            await asyncio.gather(work, next_part, return_exceptions=True)

    def _keep_brought(self, body: Body) -> Body:
        """`agent.keep`: what tasks changed and sent, in one commit. Raises SkerryError where it can't be; nothing of this life is then."""
        if self._is_lost:
            raise Refused("the agent starts again: what it did before could not be kept", code=Code.AGENT_RESTARTING)
        brought = unpack_struct(KeepRequest, body, large="state")
        try:
            self._keep(self, state_facts(self.spec.id, None if brought.state is None else bytes(brought.state)), brought.sent)
        except SkerryError as error:
            self._is_lost = True
            self._set(Status.RESTARTING, f"what a task changed can't be kept: {error.message}")
            raise
        return b""

    # --- letters --------------------------------------------------------------------------------------------------------------

    async def hear(self, letters: list[Letter], *, timeout_s: float) -> HearReply:
        """Have letters handled, in this order; nothing is kept yet. Raises Refused or Unreachable: then they may have been handled, and
        what came of it is gone with the worker."""

        async def hand_over(link: Link, turn: int, left_s: float) -> Body:
            request = pack(msgspec.to_builtins(HearRequest(turn, letters), builtin_types=(bytes,)))
            try:
                return await link.call(HEAR, request, timeout_s=left_s)
            except Refused as error:
                if error.code != Code.DEADLINE_EXCEEDED:
                    raise
                raise Unreachable(error.message, code=error.code, outcome_unknown=True) from error

        return convert(unpack_body(await self._in_turn(hand_over, timeout_s, PRIORITY_DEFAULT)), HearReply)

    async def meet(self, *, added: list[str], removed: list[str]) -> None:
        """Tell the agent whom it is wired to, or no more. Raises Refused or Unreachable."""
        link = self._link
        if link is not None and not link.closed and self.hears:
            await link.call(PEERS, pack_message(PeersRequest(added, removed)), timeout_s=HEALTH_TIMEOUT_S)

    def start_again(self, reason: str) -> None:
        """End its process: what it knows is not what is kept."""
        log.error("the agent %s starts again: %s", self.spec.name, reason)
        if self._link is not None:
            self._link.abort(Unreachable(reason, code=Code.AGENT_RESTARTING, outcome_unknown=True))

    def pause(self, paused: bool) -> None:
        """Take no new tasks, or take them again; what runs goes on."""
        if paused and self.status is Status.AVAILABLE:
            self._set(Status.PAUSED)
        elif not paused and self.status is Status.PAUSED:
            self._set(Status.AVAILABLE)

    async def _in_turn(self, work: Work, timeout_s: float, priority: int, *, stream: bool = False) -> Body:
        if self._queued >= QUEUE_MAX and not self._makes_room(priority):
            raise self._busy(f"it has {QUEUE_MAX} tasks already")
        self._queued += 1
        ends = asyncio.get_running_loop().time() + timeout_s
        try:
            if not self._available.is_set() and (self.status in COMES_BACK or self.status in WORKS):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(COME_BACK_S, timeout_s)):
                        await self._available.wait()
            return await self._hand_over(work, ends, priority, stream)
        finally:
            self._queued -= 1

    def _makes_room(self, priority: int) -> bool:
        return self._places.make_room() or self._places.give_way(priority, self._busy("more urgent tasks of yours came"))

    def _busy(self, why: str) -> Refused:
        """When a tenth of what waits will be done, it is worth to ask again."""
        after_s = min(max(self._queued * self._service_s / self.spec.concurrency / 10, RETRY_LEAST_S), RETRY_MOST_S)
        hint = f"try again in {after_s:.1f} s"
        return Refused(f"the agent {self.spec.name!r} is busy: {why}", code=Code.BUSY, hint=hint, retry_after_s=after_s)

    async def _take_place(self, ends: float, priority: int, stream: bool) -> None:
        try:
            await self._places.take(timeout_s=ends - asyncio.get_running_loop().time(), priority=priority, stream=stream)
        except TimeoutError:
            raise Refused(f"the deadline was over before {self.spec.name!r} had a place", code=Code.DEADLINE_EXCEEDED) from None

    async def _hand_over(self, work: Work, ends: float, priority: int, stream: bool) -> Body:
        await self._take_place(ends, priority, stream)
        try:
            link, worker = self._link, self._worker
            if link is None or worker is None or link.closed or self.status not in WORKS:
                hint = f"`skerry agent show {self.spec.name}` says why"
                raise Unreachable(f"the agent {self.spec.name!r} is {self.status.value}", code=Code.AGENT_RESTARTING, hint=hint)
            self._turn = turn = self._turn + 1
            began = asyncio.get_running_loop().time()
            try:
                body = await work(link, turn, ends - began)
                self._service_s += (asyncio.get_running_loop().time() - began - self._service_s) / SERVICE_TASKS
                return body
            except Unreachable as error:
                if not error.outcome_unknown or not link.closed:  # where it is open the worker lives, and says that of a call of its own
                    raise
                raise await after_crash(worker, turn, agent=self.spec.name) from error
        finally:
            self._places.give_back(stream=stream)
