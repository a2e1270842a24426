"""Have a task done: choose, try, stream, fail over, account.

Only idempotent tasks, and those that a node provably never started, are tried at another agent. A stream fails over before its first
part; after it, it ends as interrupted, unless its caller asked for a restart: then it begins anew, and says so.
Where hedging is asked for, a second agent is asked when the first takes longer than it usually does, and the first answer counts. If no
candidate can be reached the call ends within `trial.REACH_S`, whatever its own deadline is.

The rule: a caller always hears one outcome, and where the work may have been done it hears that too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from msgspec.structs import replace

from skerry.agents.capability import check_query
from skerry.channel.calls import Body, Parts
from skerry.channel.link import Link
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.ports import Clock, Random
from skerry.routing.catalogue import Catalogue, Where
from skerry.routing.elsewhere import Elsewhere
from skerry.routing.pool import Candidate, Option, Provider, Silent
from skerry.routing.race import Race
from skerry.routing.receipt import PartsDigest, check_receipt
from skerry.routing.reputation import Deed, Reputation
from skerry.routing.strategies import Strategy, read_strategy
from skerry.routing.task import HOPS_MAX, REACH_FORMATION, RESTARTED, Request, Task, TaskResult, check_reach, error_from
from skerry.routing.trial import Trial, may_go_on

OK = "ok"  # the outcome of a task that was done
RUN_VERB = "task.run"
CONTACTS_SHOWN = 3  # in an error
ATTRIBUTES_SHOWN = 5  # to somebody who asked for others
FAIR_S = 1.0  # a caller that waits for less says more of itself than of who was too late for it
FAILURES = frozenset({Code.TASK_FAILED, Code.AGENT_FAILED, Code.DECODE})  # what an agent is to blame for
SILENCES = frozenset({Code.CONNECTION_LOST, Code.DEADLINE_EXCEEDED})  # what may be its fault


class Local(Protocol):
    """This node's own agents, as the dispatcher uses them; what it does for a peer's task it does here too."""

    async def run(self, task: Task, *, timeout_s: float) -> TaskResult: ...

    def stream(self, task: Task, *, timeout_s: float) -> AsyncIterator[Body | TaskResult]:
        """The parts, and last its result, where there is more to say of it than that it is done."""
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
        strategy: Strategy = Strategy.LOWEST_LATENCY,
        unavailable: Callable[[str], SkerryError | None] = lambda query: None,
        ended: Callable[[str, float], None] = lambda outcome, took_s: None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`unavailable` knows of agents that offer something and take no tasks now. `ended` hears of every task, where it was done or not:
        "ok" or the code of its error, and how long its caller waited (s)."""
        self.ours = ours
        self.clock = clock
        self.random = random
        self.strategy = strategy
        self.silent = Silent()
        self.reputation = Reputation()
        self.choices: Counter[str] = Counter()  # by strategy
        self.failovers = 0
        self.hedges: Counter[str] = Counter()  # second agents that were asked: "won" and "lost"
        self.restarts = 0  # streams that began anew
        self._catalogue = catalogue
        self._local = local
        self._link_to = link_to
        self._may_serve = belongs
        self._unavailable = unavailable
        self._ended = ended
        self._elsewhere = elsewhere

    async def call(self, request: Request, *, timeout_s: float, chain: Sequence[str] = (), origin: Sequence[bytes] = ()) -> TaskResult:
        """The outcome of one task. `chain`: the agents that wait for it; `origin`: as `Task.origin`. Raises Refused or Unreachable where
        nobody could be asked; a task that failed is a result."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome: str = Code.CANCELLED
        try:
            trial = self._begin(request, timeout_s, chain, origin)
            result = await (self._hedged(trial) if request.hedge else self._call(trial))
            outcome = OK if result.success else error_from(result.error).code
        except SkerryError as error:
            outcome = error.code
            raise
        finally:
            self._ended(outcome, loop.time() - began)
        return result

    async def _call(self, trial: Trial) -> TaskResult:
        while True:
            option, task, left_s = trial.next()
            try:
                result = await self._ask(option, task, left_s, trial)
            except SkerryError as error:
                self._fail_over(trial, option, error)
                continue
            if result.success or not may_go_on(option.candidate, failure := error_from(result.error)):
                return result
            self._fail_over(trial, option, failure)

    async def _hedged(self, trial: Trial) -> TaskResult:
        """As `_call`, with a second agent beside the first one where that is slow."""
        race = Race(self._ask, trial)
        try:
            while True:
                if not race.runs:
                    race.start(*trial.next())
                ended = await race.next_end()
                if ended is None:
                    continue
                option, outcome = ended
                failure = outcome if isinstance(outcome, SkerryError) else error_from(outcome.error)
                if isinstance(outcome, TaskResult) and (outcome.success or not may_go_on(option.candidate, failure)):
                    self._count_hedge(race, option)
                    return outcome
                if not race.runs:
                    self._fail_over(trial, option, failure)
                else:
                    trial.passed_over(option, failure)
        finally:
            await race.cancel()

    def _count_hedge(self, race: Race, winner: Option) -> None:
        if race.hedge is not None:
            self.hedges["won" if race.hedge is winner else "lost"] += 1

    async def _ask(self, option: Option, task: Task, left_s: float, trial: Trial) -> TaskResult:
        """One agent. What it came to is accounted; raises what is no result."""
        loop = asyncio.get_running_loop()
        provider = option.provider
        began = loop.time()
        provider.began(now_s=began)
        try:
            if provider.node == self.ours:
                result = await self._local.run(task, timeout_s=left_s)
            else:
                link = await self._link(option.candidate, trial.reach_left_s())
                result = TaskResult.from_bytes(await link.call(RUN_VERB, task.to_bytes(), timeout_s=trial.left_s()))
        except BaseException as error:
            now_s = loop.time()
            provider.ended(now_s=now_s)
            if isinstance(error, SkerryError):
                self._blame(option, error, now_s - began)
            raise
        now_s = loop.time()
        provider.answered(result.load, result.places, now_s=now_s)
        if task.receipt and result.success:
            self._check_receipt(task, result, provider)
        if result.success:
            option.latency.observe(now_s - began, now_s=now_s)
            self._praise(option, now_s - began)
        else:
            self._blame(option, error_from(result.error), now_s - began)
        return result

    async def stream(
        self, request: Request, *, timeout_s: float, chain: Sequence[str] = (), origin: Sequence[bytes] = ()
    ) -> AsyncIterator[Body | TaskResult]:
        """The parts of one task, CBOR each, and last its TaskResult (without a payload)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome: str = Code.CANCELLED
        items = self._stream(request, timeout_s, chain, origin)
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

    async def _stream(
        self, request: Request, timeout_s: float, chain: Sequence[str], origin: Sequence[bytes]
    ) -> AsyncGenerator[Body | TaskResult, None]:
        trial = self._begin(request, timeout_s, chain, origin)
        begun = False
        while True:
            option, task, left_s = trial.next()
            if begun:
                self.restarts += 1
                yield RESTARTED
            begun = False
            try:
                async with aclosing(self._stream_from(option, task, trial, left_s)) as items:
                    async for item in items:
                        begun = True
                        yield item
                return
            except SkerryError as error:
                if begun and error.code != Code.BAD_SIGNATURE and not (request.restart and may_go_on(option.candidate, error)):
                    raise Refused(f"the stream was cut off: {error.message}", code=Code.STREAM_INTERRUPTED, hint=_WHOLE) from error
                self._fail_over(trial, option, error)

    async def _stream_from(self, option: Option, task: Task, trial: Trial, left_s: float) -> AsyncGenerator[Body | TaskResult, None]:
        loop = asyncio.get_running_loop()
        provider = option.provider
        began = loop.time()
        parts: Parts | None = None
        signed = PartsDigest() if task.receipt else None
        provider.began(now_s=began)
        try:
            if provider.node == self.ours:
                result = TaskResult(task.id, True, None, None, provider.agent, self.ours, 0, 0.0)
                async for item in self._local.stream(task, timeout_s=left_s):
                    if isinstance(item, TaskResult):
                        result = item
                        continue
                    if signed is not None:
                        signed.add(item)
                    yield item
                if not result.completed_at:
                    result = replace(result, completed_at=self.clock.now_ms(), execution_time_ms=(loop.time() - began) * 1000)
            else:
                link = await self._link(option.candidate, trial.reach_left_s())
                parts = await link.stream(RUN_VERB, task.to_bytes(), timeout_s=trial.left_s())
                async for part in parts:
                    if not len(part):
                        raise ProtocolError(f"the agent {provider.agent[:10]} sent a part that is no value")
                    if signed is not None:
                        signed.add(part)
                    yield part
                assert parts.reply is not None
                result = TaskResult.from_bytes(parts.reply)
                provider.reported(result.load, result.places, now_s=loop.time())
                result.raise_error()
            if signed is not None:
                self._check_receipt(task, result, provider, parts=signed.digest())
        except SkerryError as error:
            self._blame(option, error, loop.time() - began)
            raise
        finally:
            provider.ended(now_s=loop.time())
            if parts is not None:
                await parts.aclose()
        self._praise(option, None)
        yield result

    async def _link(self, candidate: Candidate, timeout_s: float) -> Link:
        if not candidate.formation:
            return await self._link_to(candidate.node, timeout_s)
        assert self._elsewhere is not None
        return await self._elsewhere.link_to(candidate, timeout_s)

    # --- whom -----------------------------------------------------------------------------------------------------------------

    def belongs(self, candidate: Candidate) -> bool:
        """Whether its node may be given a task now; asked of everyone who is drawn."""
        if not candidate.formation:
            return self._may_serve(candidate)
        return self._elsewhere is not None and candidate.expires > self.clock.now_ms() and bool(self._elsewhere.contact_of(candidate))

    def _begin(self, request: Request, timeout_s: float, chain: Sequence[str], origin: Sequence[bytes] = ()) -> Trial:
        strategy = read_strategy(request.strategy) if request.strategy else self.strategy
        if len(chain) >= HOPS_MAX:
            raise Refused(
                f"{len(chain)} agents wait for one another already", code=Code.HOP_LIMIT, hint="do agents call each other for ever?"
            )
        query, agent, where = request.capability, request.agent, _where(request)
        own = self._catalogue.pool_of(agent, query, where) if agent else self._catalogue.pool(query, where)
        pools = [own] if own is not None else []
        if request.reach != REACH_FORMATION:
            check_reach(request.reach)
            if self._elsewhere is not None and (abroad := self._elsewhere.pool(query, where, agent=agent)) is not None:
                pools.append(abroad)
        if not pools:
            raise self.nobody_for(request)
        if request.max_latency_ms:
            timeout_s = min(timeout_s, request.max_latency_ms / 1000)
        self.choices[strategy] += 1
        return Trial(self, request, pools, strategy=strategy, timeout_s=timeout_s, chain=chain, origin=origin)

    def nobody_for(self, request: Request) -> SkerryError:
        """What to say where nobody can be asked."""
        query, leaves = request.capability, request.reach != REACH_FORMATION
        check_query(query)  # what is no query at all is refused as such
        shared = self._shared(query, _where(request), request.agent)
        if shared and not leaves:
            return self._only_elsewhere(query, shared)
        pools = [self._catalogue.pool(query), self._elsewhere.pool(query) if self._elsewhere is not None and leaves else None]
        options = [option for pool in pools if pool is not None for option in pool.options]
        if not options:
            return self._unavailable(query) or self.nobody(query, leaves=leaves)
        if not request.where:
            return self.nobody(query, agent=request.agent, leaves=leaves)
        asked = ", ".join(f"{key}={value}" for key, value in request.where.items())
        held = {key: str(value) for option in options for key, value in option.candidate.attributes.items()}
        hint = f"there is {', '.join(f'{key}={value}' for key, value in list(held.items())[:ATTRIBUTES_SHOWN])}" if held else _LOOK
        return Refused(f"nobody who offers {query!r} has {asked}", code=Code.UNKNOWN_CAPABILITY, hint=hint)

    def nobody(self, capability: str, *, agent: str = "", leaves: bool = False) -> SkerryError:
        """With the closest names that somebody does offer. `leaves`: contacts were looked at too."""
        what = f"{capability!r}" + (f" by an agent {agent!r}" if agent else "")
        closest = self._catalogue.closest(capability) if not agent else []
        hint = f"did you mean {' or '.join(closest)}?" if closest else _LOOK_AT_AGENTS if leaves else _LOOK
        who = "nobody in this formation, and no contact," if leaves else "nobody in this formation"
        return Refused(f"{who} offers {what}", code=Code.UNKNOWN_CAPABILITY, hint=hint)

    def _shared(self, query: str, where: Where, agent: str) -> list[str]:
        """The contacts that share such an agent with us."""
        pool = self._elsewhere.pool(query, where, agent=agent) if self._elsewhere is not None else None
        if pool is None or self._elsewhere is None:
            return []
        believed = [option.candidate for option in pool.options if self.belongs(option.candidate)]
        return sorted({self._elsewhere.contact_of(candidate) for candidate in believed})

    def _only_elsewhere(self, capability: str, contacts: list[str]) -> SkerryError:
        return Refused(
            f"nobody in this formation offers {capability!r}; shared with us by {' and '.join(contacts[:CONTACTS_SHOWN])}",
            code=Code.UNKNOWN_CAPABILITY,
            hint="let the task leave the formation: --reach contacts",
        )

    def _fail_over(self, trial: Trial, option: Option, error: SkerryError) -> None:
        trial.failed(option, error)
        self.failovers += 1

    def _check_receipt(self, task: Task, result: TaskResult, provider: Provider, *, parts: bytes | None = None) -> None:
        """A wrong one is charged to the node that sent it: what its agents do, it may be lying about."""
        try:
            check_receipt(task, result, parts=parts)
        except ProtocolError as error:
            self.reputation.note(provider.subject_of_peer, Deed.BAD_SIGNATURE, now_ms=self.clock.now_ms())
            raise Refused(error.message, code=Code.BAD_SIGNATURE, hint=error.hint) from error

    # --- what this node makes of it ---------------------------------------------------------------------------------------------

    def _praise(self, option: Option, latency_s: float | None) -> None:
        self.silent.answered(option.provider.place)
        latency_ms = latency_s * 1000 if latency_s is not None else None
        subject, group = option.provider.subject, option.candidate.capability
        self.reputation.note(subject, Deed.SUCCESS, group, latency_ms, now_ms=self.clock.now_ms())

    def _blame(self, option: Option, error: SkerryError, took_s: float) -> None:
        """What failed without the agent's doing (it is busy, away, the payload is wrong) says nothing of it."""
        if error.code in FAILURES:
            deed = Deed.FAILURE
        elif error.code in SILENCES and took_s >= FAIR_S and (not isinstance(error, Unreachable) or error.outcome_unknown):
            deed = Deed.TIME_OUT
        else:
            return
        self.reputation.note(option.provider.subject, deed, now_ms=self.clock.now_ms())


def _where(request: Request) -> Where:
    return tuple(sorted(request.where.items())) if request.where else ()


_LOOK = "`skerry capability list` shows what there is"
_LOOK_AT_AGENTS = "`skerry agent list` shows what there is"
_WHOLE = "ask again for the whole answer, or with --restart"
