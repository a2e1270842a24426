"""Runs tasks on this node's own agents, for its own clients and for peers: each at most once.

The rule: what a peer asks again is answered from memory or refused, never done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from msgspec.structs import replace

from skerry.agents.host import Host
from skerry.agents.profile import COMES_BACK
from skerry.agents.resident import Resident
from skerry.channel.calls import Body, Served
from skerry.errors import NEVER_STARTED, Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.node.policy import Right
from skerry.ports import Clock
from skerry.routing.dispatch import Local
from skerry.routing.ledger import Done, Fresh, Ledger, Running, Stale
from skerry.routing.receipt import PartsDigest, sign_receipt
from skerry.routing.task import Task, TaskResult, error_fields


class Tasks:
    """What runs on this node."""

    def __init__(self, ours: bytes, host: Host, *, clock: Clock) -> None:
        self._ours = ours
        self._host = host
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._ledger = Ledger(start_ms=clock.now_ms())
        self._chains: dict[tuple[str, bytes], list[str]] = {}  # who waits for what runs here
        self._running: dict[tuple[bytes, bytes], asyncio.Future[bytes]] = {}

    # --- for the dispatcher ---------------------------------------------------------------------------------------------------

    async def run(self, task: Task, *, timeout_s: float) -> TaskResult:
        """One task. Raises where it provably never started, or where its outcome is unknown; else the outcome, good or bad."""
        resident = self._resident(task)
        started = self._loop.time()
        key = self._begin(task)
        try:
            payload = await resident.run(task.capability, task.payload, task.id, timeout_s=timeout_s, priority=task.priority)
        except Refused as error:
            if error.code in NEVER_STARTED:
                raise
            return self._result(task, started, error=error)
        finally:
            self._chains.pop(key, None)
        result = self._result(task, started, payload=payload)
        return replace(result, receipt=sign_receipt(task, result, resident.key)) if task.receipt else result

    async def stream(self, task: Task, *, timeout_s: float) -> AsyncIterator[Body | TaskResult]:
        """The parts, and last the result where it is signed."""
        resident = self._resident(task)
        started = self._loop.time()
        signed = PartsDigest() if task.receipt else None
        parts = resident.stream(task.capability, task.payload, task.id, timeout_s=timeout_s, priority=task.priority)
        key = self._begin(task)
        try:
            async for part in parts:
                if signed is not None:
                    signed.add(part)
                yield part
        finally:
            self._chains.pop(key, None)
            await parts.aclose()  # type: ignore[attr-defined]
        if signed is not None:
            result = self._result(task, started)
            yield replace(result, receipt=sign_receipt(task, result, resident.key, parts=signed.digest()))

    def chain_of(self, agent: str, task_id: bytes) -> list[str]:
        """The agents that wait for what this agent does for a task, itself the last."""
        return self._chains.get((agent, task_id), [])

    def _begin(self, task: Task) -> tuple[str, bytes]:
        key = (task.agent, task.id)
        self._chains[key] = [*task.chain, task.agent]
        return key

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
        if task.origin and Right.FEDERATE not in served.link.rights:
            raise ProtocolError("a task handed on by somebody who is no node of this formation", code=Code.NOT_GRANTED)
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
                if isinstance(error, Refused) and error.retry_after_s and not served.wants_parts:
                    body = self._cut(task, error).to_bytes()  # a result, because a refusal has no place for when to ask again
                    outcome.set_result(body)
                    return body
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
        result: TaskResult | None = None
        try:
            async for item in local.stream(task, timeout_s=served.timeout_s):
                if isinstance(item, TaskResult):
                    result = item
                else:
                    await served.part(item)
        except Refused as error:
            if error.code in NEVER_STARTED:
                raise
            return self._result(task, started, error=error)
        return result or self._result(task, started)

    def _cut(self, task: Task, error: BaseException) -> TaskResult:
        said = error if isinstance(error, SkerryError) else Refused("the task was cut short", code=Code.CANCELLED)
        return self._result(task, self._loop.time(), error=said)

    def _resident(self, task: Task) -> Resident:
        resident = self._host.get(task.agent)
        if resident is None:
            raise Refused(f"the agent {task.agent[:10]} is not on this node any more", code=Code.UNKNOWN_AGENT)
        if resident.offer(task.capability) is None and (resident.offers or resident.status not in COMES_BACK):
            raise Refused(f"the agent {resident.spec.name!r} does not offer {task.capability!r} any more", code=Code.UNKNOWN_CAPABILITY)
        if task.waits(task.agent) >= resident.spec.concurrency:
            raise Refused(
                f"the agent {resident.spec.name!r} waits for this very task: it would wait for itself",
                code=Code.CALL_CYCLE,
                hint="agents that call each other in a circle need --concurrency for each time round, or another agent",
            )
        return resident

    def _result(self, task: Task, started: float, *, payload: Body | None = None, error: SkerryError | None = None) -> TaskResult:
        resident = self._host.get(task.agent)
        return TaskResult(
            task.id,
            error is None,
            payload,  # type: ignore[arg-type]
            error_fields(error) if error is not None else None,
            task.agent,
            self._ours,
            self._clock.now_ms(),
            round((self._loop.time() - started) * 1000, 3),
            resident.load if resident is not None else 0,
            resident.spec.concurrency if resident is not None else 1,
        )
