"""The attempts at one task: who is asked next, how much time is left, whether another one may be asked, and what it comes to.

Candidates are drawn one at a time, so that a task that its first agent does costs one choice. Our own formation's come first, then those of
others, where the task may go there: nothing leaves that need not. Of each first those without blemish, then agents that start again or wait
for this very task, then nodes that did not answer a moment ago. Whom this node blacklisted is not asked, unless the caller named it.

The rule: an agent is asked once for a task, and a node never gets one id twice for different agents.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from skerry.errors import NEVER_STARTED, Code, Refused, SkerryError, Unreachable
from skerry.ports import Clock, Random
from skerry.routing.pool import Candidate, Option, Pool, Silent
from skerry.routing.reputation import Reputation
from skerry.routing.strategies import Strategy, choose
from skerry.routing.task import NONCE_BYTES, Request, Task, clamp_priority, new_task_id, veil

LEAST_S = 0.001  # what is left of a deadline that is over: whatever is asked then ends by itself
REACH_S = 4.5  # to find somebody who answers: with what follows, a call that can't succeed ends within 5 s


class Knowledge(Protocol):
    """What a trial asks of the node that it is made on: `dispatch.Dispatcher`."""

    ours: bytes
    clock: Clock
    random: Random
    silent: Silent
    reputation: Reputation

    @property
    def belongs(self) -> Callable[[Candidate], bool]: ...

    def nobody_for(self, request: Request) -> SkerryError: ...


class Trial:
    """One task, from its first choice to its outcome."""

    def __init__(
        self,
        node: Knowledge,
        request: Request,
        pools: Sequence[Pool],
        *,
        strategy: Strategy,
        timeout_s: float,
        chain: Sequence[str] = (),
        origin: Sequence[bytes] = (),
    ) -> None:
        """`pools`: of the first one all are asked before any of the next; `chain`: the agents that wait for this task, the first caller
        first; `origin`: as `Task.origin`."""
        self.failovers = 0
        self._node = node
        self._request = request
        self._pools = pools
        self._strategy = strategy
        self._chain = chain
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        now_s = self._loop.time()
        self._ends = now_s + timeout_s
        self._reach_ends = now_s + min(REACH_S, timeout_s)
        self._task_id = self._new_id()
        self._errors: list[SkerryError] = []
        self._tried: set[Option] = set()
        self._last: Option | None = None  # who was asked
        self._again: Option | None = None  # one that starts again, and nobody else is left
        self._came_back = False
        self._begun: set[bytes] = set()  # nodes where this id may have begun

    def next(self) -> tuple[Option, Task, float]:
        """Whom to ask now, with what, and how long. Raises the outcome where nobody is left."""
        if self.left_s() <= LEAST_S and self._errors:
            raise Refused(f"the task was not done within {self._timeout_s:g} s", code=Code.DEADLINE_EXCEEDED, hint=_MORE_TIME)
        option = self._choose()
        if option is None:
            raise self._outcome()
        return self._give(option)

    def another(self) -> tuple[Option, Task, float] | None:
        """One more to ask beside those that are at work; None where there is nobody who may."""
        for pool in self._pools:
            option = self._draw(pool, self._is_spare)
            if option is not None:
                return self._give(option)
        return None

    def left_s(self) -> float:
        """What is left of the deadline now: a dial may have taken most of it."""
        return max(self._ends - self._loop.time(), LEAST_S)

    def reach_left_s(self) -> float:
        return max(self._reach_ends - self._loop.time(), 0.05)

    def failed(self, option: Option, error: SkerryError) -> None:
        """Note a failure. Raises it where it ends the task."""
        if isinstance(error, Unreachable) and error.code not in (Code.AGENT_FAILED, Code.AGENT_RESTARTING):
            self._node.silent.unreachable(option.provider.place, now_s=self._loop.time())
        if not may_go_on(option.candidate, error):
            raise error
        self._errors.append(error)
        self.failovers += 1
        if isinstance(error, Unreachable) and error.outcome_unknown:
            self._begun.add(option.provider.place)
        if error.code == Code.AGENT_RESTARTING and not self._came_back:
            self._again = option

    def passed_over(self, option: Option, error: SkerryError) -> None:
        """Note a failure while another agent still works on the task: that one decides."""
        with contextlib.suppress(SkerryError):
            self.failed(option, error)

    # --- whom ---------------------------------------------------------------------------------------------------------------------

    def _give(self, option: Option) -> tuple[Option, Task, float]:
        candidate = option.candidate
        self._tried.add(option)
        self._last = option
        if candidate.place in self._begun:  # another agent there: a node runs one id once, so this is a task of its own
            self._task_id = self._new_id()
            self._begun.clear()
        return option, self._task_for(candidate), self.left_s()

    def at_work(self, option: Option) -> None:
        """It works on the task while another one is asked."""
        self._begun.add(option.provider.place)

    def _choose(self) -> Option | None:
        for pool in self._pools:
            options = pool.options
            if len(options) == 1 and self._is_fine(options[0]):
                return options[0]  # as most tasks go; nothing is to be chosen
            for usable in (self._is_fine, self._may_come_back, self._is_left):
                option = self._draw(pool, usable)
                if option is not None:
                    return option
        if self._again is not None:
            option, self._again = self._again, None
            self._came_back = True  # nobody else is there: its node lets the task wait until it is up
            return option
        return None

    def _draw(self, pool: Pool, usable: Callable[[Option], bool]) -> Option | None:
        fraction, now_s = self._node.random.fraction, self._loop.time()
        return choose(self._strategy, pool, usable=usable, score=self._score, fraction=fraction, now_s=now_s)

    def _is_fine(self, option: Option) -> bool:
        return not option.candidate.restarting and self._may_come_back(option) and not self._waits(option)

    def _waits(self, option: Option) -> bool:
        return bool(self._chain) and (option.provider.agent in self._chain or veil(option.provider.agent) in self._chain)

    def _may_come_back(self, option: Option) -> bool:
        silent = self._node.silent
        return not (silent and silent.has(option.provider.place, now_s=self._loop.time())) and self._is_left(option)

    def _is_left(self, option: Option) -> bool:
        return option not in self._tried and self._node.belongs(option.candidate) and not self._is_blacklisted(option)

    def _is_spare(self, option: Option) -> bool:
        return option.candidate.idempotent and self._is_fine(option)

    def _is_blacklisted(self, option: Option) -> bool:
        scores, provider = self._node.reputation, option.provider
        if not scores.has_doubts or self._request.agent:
            return False  # where an agent is named, the caller wants that one
        now_ms = self._node.clock.now_ms()
        return any(scores.is_blacklisted(subject, now_ms=now_ms) for subject in (provider.subject, provider.subject_of_peer))

    def _score(self, option: Option) -> float:
        return self._node.reputation.score(option.provider.subject, now_ms=self._node.clock.now_ms())

    # --- what -----------------------------------------------------------------------------------------------------------------

    def _task_for(self, candidate: Candidate) -> Task:
        request = self._request
        return Task(
            id=self._task_id,
            capability=candidate.capability,
            agent=candidate.agent,
            payload=request.payload,
            requester=self._node.ours,
            created_at=self._node.clock.now_ms(),
            priority=clamp_priority(request.priority),
            max_latency_ms=request.max_latency_ms,
            reach=request.reach,
            idempotent=candidate.idempotent,
            chain=[veil(one) for one in self._chain] if candidate.formation else list(self._chain),
            receipt=request.receipt or bool(candidate.formation),
            origin=list(self._origin),
        )

    def _new_id(self) -> bytes:
        return new_task_id(self._node.ours, self._node.random.token(NONCE_BYTES))

    # --- the outcome ----------------------------------------------------------------------------------------------------------

    def _outcome(self) -> SkerryError:
        """What to say when nobody is left."""
        if not self._errors:
            return self._nobody_was_asked()
        last = self._errors[-1]
        count = len({option.provider.agent for option in self._tried})
        what, codes = self._request.capability, {error.code for error in self._errors}
        if not isinstance(last, Unreachable) and (count == 1 or (len(codes) == 1 and last.code != Code.BUSY)):
            return last
        if codes == {Code.BUSY}:
            after_s = min((error.retry_after_s for error in self._errors if error.retry_after_s), default=0.0)
            when = f"in {after_s:.1f} s" if after_s else "in a moment"
            return Refused(f"every agent that offers {what!r} is busy", code=Code.BUSY, hint=f"try again {when}", retry_after_s=after_s)
        unknown = any(isinstance(error, Unreachable) and error.outcome_unknown for error in self._errors)
        who = "the only agent that offers" if count == 1 else f"none of the {count} agents that offer"
        can = "can't" if count == 1 else "can"
        return Unreachable(
            f"{who} {what!r} {can} be reached: {last.message}",
            code=Code.NO_CANDIDATE,
            hint=last.hint if self._last is not None and self._last.candidate.formation and last.hint else _STATUS,
            outcome_unknown=unknown,
        )

    def _nobody_was_asked(self) -> SkerryError:
        what = self._request.capability
        barred = [option for pool in self._pools for option in pool.options if self._node.belongs(option.candidate)]
        if not barred:
            return self._node.nobody_for(self._request)
        names = sorted({option.candidate.name for option in barred})
        shown = ", ".join(names[:NAMES_MAX]) + (" ..." if len(names) > NAMES_MAX else "")
        return Refused(
            f"every agent that offers {what!r} failed this node too often: {shown}",
            code=Code.BLACKLISTED,
            hint="`skerry reputation forgive NAME` lifts that; with --agent NAME one is asked all the same",
        )


def may_go_on(candidate: Candidate, error: SkerryError) -> bool:
    """Whether another agent may be asked after this."""
    if isinstance(error, Unreachable):
        return candidate.idempotent or not error.outcome_unknown
    return error.code in NEVER_STARTED


NAMES_MAX = 5  # agents named in an error
_STATUS = "`skerry status` shows which nodes are up"
_MORE_TIME = "allow more with --timeout"
