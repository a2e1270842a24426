"""Have a task done: choose, try, stream, fail over, account.

Only idempotent tasks, and those that a node provably never started, are tried at another agent. A stream fails over before its first
part; after it, it ends as interrupted. If no candidate can be reached the call ends within `REACH_S`, whatever its own deadline is.

The rule: a caller always hears one outcome, and where the work may have been done it hears that too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from skerry.agents.capability import check_query
from skerry.channel.calls import Body, Parts
from skerry.channel.link import Link
from skerry.errors import NEVER_STARTED, Code, Refused, SkerryError, Unreachable
from skerry.ports import Clock, Random
from skerry.routing.catalogue import Candidate, Catalogue
from skerry.routing.strategies import Measured, by_lowest_latency
from skerry.routing.task import (
    NONCE_BYTES,
    REACH_FORMATION,
    REACH_PUBLIC,
    Request,
    Task,
    TaskResult,
    check_reach,
    clamp_priority,
    error_from,
    new_task_id,
)

OK = "ok"  # the outcome of a task that was done
RUN_VERB = "task.run"
LEAST_S = 0.001  # what is left of a deadline that is over: whatever is asked then ends by itself
SHOWN_MAX = 3  # contacts named in an error
LOOK_S = 4.0  # to find circles of others, for a task that may go to them
REACH_S = 4.5  # to find somebody who answers: with what follows, a call that can't succeed ends within 5 s


class Local(Protocol):
    """This node's own agents, as the dispatcher uses them; what it does for a peer's task it does here too."""

    async def run(self, task: Task, *, timeout_s: float) -> TaskResult: ...

    def stream(self, task: Task, *, timeout_s: float) -> AsyncIterator[Body]: ...


class Elsewhere(Protocol):
    """Agents of other formations, for tasks whose caller says that they may leave ours."""

    def find(self, query: str, *, reach: str) -> list[Candidate]:
        """All that answer a query, within that reach: what is shared with us, or what anybody may call too."""
        ...

    async def look(self, query: str, *, timeout_s: float) -> None:
        """Look for what anybody may call; `find` knows it then."""
        ...

    async def link_to(self, candidate: Candidate, timeout_s: float) -> Link:
        """A link over which such an agent can be asked. Raises Unreachable or Refused."""
        ...


class Dispatcher:
    """Has tasks done for the clients and agents of one node."""

    def __init__(
        self,
        ours: bytes,
        *,
        catalogue: Catalogue,
        local: Local,
        link_to: Callable[[bytes, float], Awaitable[Link]],
        belongs: Callable[[Candidate], bool],
        clock: Clock,
        random: Random,
        ended: Callable[[str, float], None] = lambda outcome, took_s: None,
        elsewhere: Elsewhere | None = None,
        members: Callable[[str], frozenset[str]] = lambda agent: frozenset(),
    ) -> None:
        """`ended` hears of every task, where it was done or not: "ok" or the code of its error, and how long its caller waited (s).
        `members`: the agents of a circle that a request names in an agent's place."""
        self._ours = ours
        self._catalogue = catalogue
        self._local = local
        self._link_to = link_to
        self._belongs = belongs
        self._clock = clock
        self._random = random
        self._ended = ended
        self._elsewhere = elsewhere
        self._members = members
        self.measured = Measured()

    async def call(self, request: Request, *, timeout_s: float) -> TaskResult:
        """The outcome of one task. Raises Refused or Unreachable where nobody could be asked; a task that failed is a result."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome: str = Code.CANCELLED
        try:
            result = await self._call(request, timeout_s)
            outcome = OK if result.success else error_from(result.error).code
        except SkerryError as error:
            outcome = error.code
            raise
        finally:
            self._ended(outcome, loop.time() - began)
        return result

    async def _call(self, request: Request, timeout_s: float) -> TaskResult:
        loop = asyncio.get_running_loop()
        trial = self._begin(request, await self._looked(request, timeout_s))
        while True:
            candidate, task, left_s = trial.next()
            started = loop.time()
            try:
                if candidate.node == self._ours:
                    result = await self._local.run(task, timeout_s=left_s)
                else:
                    link = await self._link(candidate, trial.reach_left_s())
                    body = await link.call(RUN_VERB, task.to_bytes(), timeout_s=trial.left_s())
                    result = TaskResult.from_bytes(body)
            except SkerryError as error:
                trial.failed(error)
                continue
            if not result.success and trial.may_go_on(error_from(result.error)):
                trial.failed(error_from(result.error))
                continue
            if result.success:
                self.measured.succeeded(candidate, latency_s=loop.time() - started, now_s=loop.time())
            return result

    async def stream(self, request: Request, *, timeout_s: float) -> AsyncIterator[Body | TaskResult]:
        """The parts of one task, CBOR each, and last its TaskResult (without a payload)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome: str = Code.CANCELLED
        items = self._stream(request, timeout_s)
        try:
            async for item in items:
                yield item
            outcome = OK
        except SkerryError as error:
            outcome = error.code
            raise
        finally:
            self._ended(outcome, loop.time() - began)
            await items.aclose()

    async def _stream(self, request: Request, timeout_s: float) -> AsyncGenerator[Body | TaskResult, None]:
        trial = self._begin(request, await self._looked(request, timeout_s))
        while True:
            candidate, task, left_s = trial.next()
            begun = False
            try:
                async with aclosing(self._stream_from(candidate, task, trial, left_s)) as items:
                    async for item in items:
                        begun = True
                        yield item
                return
            except SkerryError as error:
                if begun:
                    raise Refused(
                        f"the stream was cut off: {error.message}", code=Code.STREAM_INTERRUPTED, hint="ask again for the whole answer"
                    ) from error
                trial.failed(error)

    async def _stream_from(self, candidate: Candidate, task: Task, trial: Trial, left_s: float) -> AsyncGenerator[Body | TaskResult, None]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        parts: Parts | None = None
        try:
            if candidate.node == self._ours:
                async for part in self._local.stream(task, timeout_s=left_s):
                    yield part
                result = None
            else:
                link = await self._link(candidate, trial.reach_left_s())
                parts = await link.stream(RUN_VERB, task.to_bytes(), timeout_s=trial.left_s())
                async for part in parts:
                    yield part
                assert parts.reply is not None
                result = TaskResult.from_bytes(parts.reply)
        finally:
            if parts is not None:
                await parts.aclose()
        took_s = loop.time() - started
        if result is None:
            result = TaskResult(task.id, True, None, None, candidate.agent, self._ours, self._clock.now_ms(), took_s * 1000)
        result.raise_error()
        yield result

    async def _link(self, candidate: Candidate, timeout_s: float) -> Link:
        if not candidate.formation:
            return await self._link_to(candidate.node, timeout_s)
        assert self._elsewhere is not None
        return await self._elsewhere.link_to(candidate, timeout_s)

    async def _looked(self, request: Request, timeout_s: float) -> float:
        """Look further where a task may go anywhere and nobody here can do it; what is left of its time."""
        if request.reach != REACH_PUBLIC or self._elsewhere is None or any(map(self._belongs, self._catalogue.find(request.capability))):
            return timeout_s
        if request.max_latency_ms:
            timeout_s = min(timeout_s, request.max_latency_ms / 1000)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._elsewhere.look(check_query(request.capability), timeout_s=min(timeout_s, LOOK_S))
        return max(timeout_s - (loop.time() - began), LEAST_S)

    def _begin(self, request: Request, timeout_s: float) -> Trial:
        check_reach(request.reach)
        found = self._catalogue.find(request.capability)
        others = self._elsewhere.find(request.capability, reach=request.reach) if self._elsewhere is not None else []
        if not found and not others:
            check_query(request.capability)  # what is no query at all is refused as such
        candidates = [candidate for candidate in found if self._belongs(candidate)]
        abroad = others if request.reach != REACH_FORMATION else []
        if request.agent:
            wanted = self._members(request.agent) or {request.agent}
            candidates = [candidate for candidate in candidates if candidate.name in wanted or candidate.agent in wanted]
            abroad = [one for one in abroad if request.agent in (one.name, one.agent, f"{one.contact}/{one.name}")]
        if not candidates and not abroad:
            if others and request.reach == REACH_FORMATION:
                raise self._only_elsewhere(request.capability, others)
            agent = request.agent if found or others else ""
            raise self.nobody(request.capability, agent=agent, contacts=request.reach != REACH_FORMATION)
        if request.max_latency_ms:
            timeout_s = min(timeout_s, request.max_latency_ms / 1000)
        loop = asyncio.get_running_loop()
        ordered = [  # our own first: nothing leaves the formation that need not
            one
            for group in (candidates, abroad)
            for one in by_lowest_latency(group, self.measured, ours=self._ours, fraction=self._random.fraction, now_s=loop.time())
        ]
        return Trial(self, request, ordered, timeout_s)

    def nobody(self, capability: str, *, agent: str = "", contacts: bool = False) -> SkerryError:
        """What to say where nobody offers that, with the closest names that somebody does offer. `contacts`: they were looked at too."""
        what = f"{capability!r}" + (f" by an agent {agent!r}" if agent else "")
        closest = self._catalogue.closest(capability) if not agent else []
        look = "agent" if contacts else "capability"
        hint = f"did you mean {' or '.join(closest)}?" if closest else f"`skerry {look} list` shows what there is"
        who = "nobody in this formation, and no contact," if contacts else "nobody in this formation"
        return Refused(f"{who} offers {what}", code=Code.UNKNOWN_CAPABILITY, hint=hint)

    def _only_elsewhere(self, capability: str, others: list[Candidate]) -> SkerryError:
        who = " and ".join(sorted({one.contact for one in others})[:SHOWN_MAX])
        return Refused(
            f"nobody in this formation offers {capability!r}; shared with us by {who}",
            code=Code.UNKNOWN_CAPABILITY,
            hint="let the task leave the formation: --reach contacts",
        )

    def task_of(self, request: Request, candidate: Candidate, task_id: bytes) -> Task:
        return Task(
            id=task_id,
            capability=candidate.capability,
            agent=candidate.agent,
            payload=request.payload,
            requester=self._ours,
            created_at=self._clock.now_ms(),
            priority=clamp_priority(request.priority),
            max_latency_ms=request.max_latency_ms,
            reach=request.reach,
            idempotent=candidate.idempotent,
        )

    def new_id(self) -> bytes:
        return new_task_id(self._ours, self._random.token(NONCE_BYTES))


class Trial:
    """The attempts at one task: who is next, how much time is left, whether another one may be asked."""

    def __init__(self, dispatcher: Dispatcher, request: Request, ordered: list[Candidate], timeout_s: float) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._left = ordered[::-1]
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._ends = self._loop.time() + timeout_s
        self._reach_ends = self._loop.time() + min(REACH_S, timeout_s)
        self._task_id = dispatcher.new_id()
        self._current: Candidate | None = None
        self._errors: list[SkerryError] = []
        self._came_back = False
        self._asked: set[str] = set()  # agents
        self._begun: set[bytes] = set()  # nodes where it may have begun

    def next(self) -> tuple[Candidate, Task, float]:
        """Whom to ask now, with what, and how long. Raises the outcome where nobody is left."""
        if self.left_s() <= LEAST_S and self._errors:
            raise Refused(f"the task was not done within {self._timeout_s:g} s", code=Code.DEADLINE_EXCEEDED, hint=_MORE_TIME)
        if not self._left:
            raise self._outcome()
        self._current = self._left.pop()
        self._asked.add(self._current.agent)
        if self._current.place in self._begun:  # another agent there: a node runs one id once, so this is a task of its own
            self._task_id = self._dispatcher.new_id()
            self._begun.clear()
        return self._current, self._dispatcher.task_of(self._request, self._current, self._task_id), self.left_s()

    def left_s(self) -> float:
        """What is left of the deadline now: a dial may have taken most of it."""
        return max(self._ends - self._loop.time(), LEAST_S)

    def reach_left_s(self) -> float:
        return max(self._reach_ends - self._loop.time(), 0.05)

    def may_go_on(self, error: SkerryError) -> bool:
        """Whether another agent may be asked after this."""
        assert self._current is not None
        if isinstance(error, Unreachable):
            return self._current.idempotent or not error.outcome_unknown
        return error.code in NEVER_STARTED

    def failed(self, error: SkerryError) -> None:
        """Note a failure. Raises it where it ends the task."""
        assert self._current is not None
        if isinstance(error, Unreachable) and error.code not in (Code.AGENT_FAILED, Code.AGENT_RESTARTING):
            self._dispatcher.measured.unreachable(self._current.node, now_s=self._loop.time())
        if not self.may_go_on(error):
            raise error
        self._errors.append(error)
        if isinstance(error, Unreachable) and error.outcome_unknown:
            self._begun.add(self._current.place)
        if error.code == Code.AGENT_RESTARTING and not self._left and not self._came_back:
            self._came_back = True  # nobody else is there: its node lets the task wait until it is up
            self._left.append(self._current)

    def _outcome(self) -> SkerryError:
        last = self._errors[-1]
        if len(self._asked) == 1 and not isinstance(last, Unreachable):
            return last
        if all(error.code == Code.BUSY for error in self._errors):
            return Refused(f"every agent that offers {self._request.capability!r} is busy", code=Code.BUSY, hint="try again in a moment")
        unknown = any(isinstance(error, Unreachable) and error.outcome_unknown for error in self._errors)
        count = len(self._asked)
        who = "the only agent that offers" if count == 1 else f"none of the {count} agents that offer"
        can = "can't" if count == 1 else "can"
        return Unreachable(
            f"{who} {self._request.capability!r} {can} be reached: {last.message}",
            code=Code.NO_CANDIDATE,
            hint=last.hint if self._current is not None and self._current.contact and last.hint else _STATUS,
            outcome_unknown=unknown,
        )


_STATUS = "`skerry status` shows which nodes are up"
_MORE_TIME = "allow more with --timeout"
