"""Runs tasks on this node's own agents, for its own clients and for peers: each at most once.

The rule: what a peer asks again is answered from memory or refused, never done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from skerry.agents.host import Host
from skerry.agents.profile import COMES_BACK
from skerry.agents.resident import Resident
from skerry.channel.calls import Body, Served
from skerry.errors import NEVER_STARTED, Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.ports import Clock
from skerry.routing.dispatch import Local
from skerry.routing.ledger import Done, Fresh, Ledger, Running, Stale
from skerry.routing.task import Task, TaskResult, error_fields


class Tasks:
    """What runs on this node."""

    def __init__(self, ours: bytes, host: Host, *, clock: Clock) -> None:
        self._ours = ours
        self._host = host
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._ledger = Ledger(start_ms=clock.now_ms())
        self._running: dict[tuple[bytes, bytes], asyncio.Future[bytes]] = {}

    # --- for the dispatcher ---------------------------------------------------------------------------------------------------

    async def run(self, task: Task, *, timeout_s: float) -> TaskResult:
        """One task. Raises where it provably never started, or where its outcome is unknown; else the outcome, good or bad."""
        resident = self._resident(task)
        started = self._loop.time()
        try:
            payload = await resident.run(task.capability, task.payload, task.id, timeout_s=timeout_s)
        except Refused as error:
            if error.code in NEVER_STARTED:
                raise
            return self._result(task, started, error=error)
        return self._result(task, started, payload=payload)

    async def stream(self, task: Task, *, timeout_s: float) -> AsyncIterator[Body]:
        parts = self._resident(task).stream(task.capability, task.payload, task.id, timeout_s=timeout_s)
        try:
            async for part in parts:
                yield part
        finally:
            await parts.aclose()  # type: ignore[attr-defined]

    def forget(self) -> None:
        """Let go of results that are remembered no more."""
        self._ledger.forget(now_ms=self._clock.now_ms())

    # --- for peers ------------------------------------------------------------------------------------------------------------

    async def serve(self, served: Served, local: Local | None = None) -> Body:
        """The verb `task.run`. The requester is the node that asks: nobody runs tasks in another one's name.

        local: who runs it, where that is not this node's own agents alone (`border.Relay`)
        """
        task = Task.from_bytes(served.body)
        peer = served.link.peer
        assert peer is not None
        if task.requester != peer.id:
            raise ProtocolError("a task whose requester is not the node that sends it", code=Code.NOT_GRANTED)
        key = (task.requester, task.id)
        now_ms = self._clock.now_ms()
        match self._ledger.begin(task.requester, task.id, created_ms=task.created_at - peer.clock_ahead_ms, now_ms=now_ms):
            case Done(result):
                return result
            case Running() if not served.wants_parts and key in self._running:
                return await asyncio.shield(self._running[key])
            case Stale(age_ms):
                raise Refused(
                    f"the task is {age_ms / 1000:.0f} s old by this node's clock, which is more than it remembers",
                    code=Code.STALE_TASK,
                    hint="ask anew; if the age is wrong, set the clocks of both machines",
                )
            case Fresh():
                return await self._run_once(task, served, local or self)
        raise Refused("this task runs already, as a stream to somebody else", code=Code.CONFLICT)

    async def _run_once(self, task: Task, served: Served, local: Local) -> Body:
        key = (task.requester, task.id)
        outcome = self._running[key] = self._loop.create_future()
        try:
            if served.wants_parts:
                result = await self._stream_to(task, served, local)
            else:
                result = await local.run(task, timeout_s=served.timeout_s)
            body = result.to_bytes()
        except BaseException as error:
            never = (isinstance(error, Refused) and error.code in NEVER_STARTED) or (
                isinstance(error, Unreachable) and not error.outcome_unknown
            )
            if never:
                self._ledger.abandon(*key)
            else:
                self._ledger.finish(*key, self._cut(task, error).to_bytes())
            if not outcome.done():
                outcome.set_exception(error if isinstance(error, SkerryError) else Refused("the task was cut short", code=Code.CANCELLED))
                outcome.exception()  # nobody else may be waiting
            raise
        finally:
            self._running.pop(key, None)
        self._ledger.finish(*key, body)
        outcome.set_result(body)
        return body

    async def _stream_to(self, task: Task, served: Served, local: Local) -> TaskResult:
        started = self._loop.time()
        try:
            async for part in local.stream(task, timeout_s=served.timeout_s):
                await served.part(part)
        except Refused as error:
            if error.code in NEVER_STARTED:
                raise
            return self._result(task, started, error=error)
        return self._result(task, started)

    def _cut(self, task: Task, error: BaseException) -> TaskResult:
        said = error if isinstance(error, SkerryError) else Refused("the task was cut short", code=Code.CANCELLED)
        return self._result(task, self._loop.time(), error=said)

    def _resident(self, task: Task) -> Resident:
        resident = self._host.get(task.agent)
        if resident is None:
            raise Refused(f"the agent {task.agent[:10]} is not on this node any more", code=Code.UNKNOWN_AGENT)
        if resident.offer(task.capability) is None and (resident.offers or resident.status not in COMES_BACK):
            raise Refused(f"the agent {resident.spec.name!r} does not offer {task.capability!r} any more", code=Code.UNKNOWN_CAPABILITY)
        return resident

    def _result(self, task: Task, started: float, *, payload: Body | None = None, error: SkerryError | None = None) -> TaskResult:
        return TaskResult(
            task.id,
            error is None,
            payload,  # type: ignore[arg-type]
            error_fields(error) if error is not None else None,
            task.agent,
            self._ours,
            self._clock.now_ms(),
            round((self._loop.time() - started) * 1000, 3),
        )
