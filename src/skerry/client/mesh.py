"""The Python client: talk to the mesh through the node of this machine.

    async with skerry.connect(home="~/.skerry") as mesh:
        answer = await mesh.call("embedding:minilm", {"input": "a kitten"})
        async for part in mesh.stream("inference:smollm2", {"messages": [...]}):
            ...

With a ticket it needs no node of its own: `skerry.connect(ticket="skerry1...")` reaches any node of the formation, and goes on at another
one when that node goes away.

The rule: `call` returns the payload or raises; what may have been done all the same says `outcome_unknown`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, Unpack

from skerry.channel.calls import Body, Parts
from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.client.here import SystemClock, SystemRandom
from skerry.client.local import LocalWay
from skerry.errors import SkerryError, Unreachable
from skerry.identity.codec import pack
from skerry.identity.pieces import pack_value, unpack_body
from skerry.identity.ticket import parse_ticket
from skerry.routing.task import REACH_FORMATION, TIMEOUT_S, TaskResult, Wishes, request_body
from skerry.routing.verbs import CapabilityList, CapabilityQuery
from skerry.wiring.verbs import SendReply, SendRequest

T = TypeVar("T")
ASK_TIMEOUT_S = 30.0
LOOK_TIMEOUT_S = 5.0  # to see whether a task may be done twice


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished task: `payload` is what came of it; who did it, where, and how long it took there (ms); `receipt` with `receipt=True`."""

    task_id: str
    payload: Any
    completed_by: str
    node: str
    execution_time_ms: float
    receipt: bytes | None = None


@dataclass(frozen=True, slots=True)
class Restarted:
    """In a stream: its agent was lost, what came before is void, and another one begins from the start."""


class Way(Protocol):
    """How a mesh is reached: `local.LocalWay`, `remote.TicketWay`."""

    async def open(self) -> None: ...

    async def link(self) -> Link:
        """A connection to a node, made where none is up. Raises Unreachable or Refused."""
        ...

    async def has_another(self, lost: Link) -> bool:
        """Whether that link is lost and there is another one now."""
        ...

    async def close(self) -> None: ...


class Mesh:
    """A connection to the mesh. Use it as `async with`; one may make many calls at once."""

    def __init__(self, way: Way) -> None:
        self._way = way

    async def __aenter__(self) -> Mesh:
        try:
            await self._way.open()
        except BaseException:
            await self._way.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        await self._way.close()

    async def call(
        self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None, **wishes: Unpack[Wishes]
    ) -> Any:
        """Have a task done and return its payload.

        capability: `kind:name`, or a query that ends in `*`; agent: only this one (name or id; of a contact CONTACT/NAME); timeout:
        seconds; of the wishes `reach` is how far the task may go: `formation`, or `contacts` where none of ours can do it. Of `strategy`,
        `hedge`, `restart`, `priority` (0 to 10), `max_latency_ms`, `where` and `receipt` docs/routing.md tells more.
        Raises Refused (nobody offers it, the agent said no, the deadline passed) or Unreachable.
        """
        return (await self.outcome(capability, payload, timeout=timeout, agent=agent, **wishes)).payload

    async def outcome(
        self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None, **wishes: Unpack[Wishes]
    ) -> Outcome:
        """As `call`, with who did it and how long it took."""
        return outcome_of(await self.result(capability, payload, timeout=timeout, agent=agent, **wishes))

    async def result(
        self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None, **wishes: Unpack[Wishes]
    ) -> TaskResult:
        """As `call`, but a task that failed is a result too: `success` tells."""
        body = request_body(capability, pack_value(payload), agent or "", wishes)
        reach = wishes.get("reach", REACH_FORMATION)
        return TaskResult.from_bytes(await self._call("task.call", body, timeout, lambda: self._may_be_done_twice(capability, reach)))

    async def stream(
        self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None, **wishes: Unpack[Wishes]
    ) -> AsyncIterator[Any]:
        """The parts of a task as they come. Raises as `call` does; `stream_interrupted` where it was cut off after its first part, or with
        `restart=True` gives a `Restarted` and then all parts from the first on."""
        async for item in self.parts(capability, payload, timeout=timeout, agent=agent, **wishes):
            if not isinstance(item, TaskResult):
                yield item

    async def parts(
        self, capability: str, payload: Any = None, *, timeout: float = TIMEOUT_S, agent: str | None = None, **wishes: Unpack[Wishes]
    ) -> AsyncIterator[Any]:
        """As `stream`, and last the TaskResult."""
        body = request_body(capability, pack_value(payload), agent or "", wishes)
        reach = wishes.get("reach", REACH_FORMATION)
        end = asyncio.get_running_loop().time() + timeout
        while True:
            link = await self._way.link()
            parts: Parts | None = None
            begun = False
            try:
                parts = await link.stream("task.call", body, timeout_s=_left(end))
                async for part in parts:
                    begun = True
                    yield unpack_body(part) if len(part) else Restarted()
                assert parts.reply is not None
                yield TaskResult.from_bytes(parts.reply)
                return
            except Unreachable as error:
                if begun or not await self._goes_on(error, link, lambda: self._may_be_done_twice(capability, reach)):
                    raise
            finally:
                if parts is not None:
                    await parts.aclose()

    async def send(self, to: str, content: Any, *, interrupt: bool = False, timeout: float = ASK_TIMEOUT_S) -> SendReply:
        """Send a letter to `[contact/][node/]agent`; returns when the node's outbox holds it. The agent gets it at least once, in the
        order of sending; see `Agent.on_message`.

        interrupt: ahead of all that waits there. Raises Refused (nobody of that name, the outbox is full) or Unreachable.
        """
        return await self.ask("mail.send", SendRequest(to, pack(content), interrupt), SendReply, timeout=timeout)

    async def ask(self, verb: str, request: Any, reply: type[T], *, timeout: float = ASK_TIMEOUT_S) -> T:
        """Any verb of the table, with its own request and reply types (`skerry.*.verbs`)."""
        return unpack_message(reply, await self._call(verb, pack_message(request), timeout, _never))

    # --- another node, where the one in use went away -------------------------------------------------------------------------

    async def _call(self, verb: str, body: Body, timeout_s: float, again: Callable[[], Awaitable[bool]]) -> Body:
        end = asyncio.get_running_loop().time() + timeout_s
        while True:
            link = await self._way.link()
            try:
                return await link.call(verb, body, timeout_s=_left(end))
            except Unreachable as error:
                if not await self._goes_on(error, link, again):
                    raise

    async def _goes_on(self, error: Unreachable, link: Link, again: Callable[[], Awaitable[bool]]) -> bool:
        """Whether a call that was lost with its node is made again at another: where it never started, or may be done twice."""
        return await self._way.has_another(link) and (not error.outcome_unknown or await again())

    async def _may_be_done_twice(self, capability: str, reach: str) -> bool:
        """Whether all who offer it say so; of those of other formations that is not asked."""
        if reach != REACH_FORMATION:
            return False
        try:
            found = await self.ask("capability.list", CapabilityQuery(capability), CapabilityList, timeout=LOOK_TIMEOUT_S)
        except SkerryError:
            return False
        return bool(found.capabilities) and all(info.idempotent for info in found.capabilities)


def connect(home: str | Path | None = None, *, ticket: str | None = None) -> Mesh:
    """The mesh, to be used as `async with`.

    home     through the node that runs on it (default: $SKERRY_HOME, else ~/.skerry)
    ticket   without a node of one's own, as a client: a ticket of `skerry node invite --role client`. Key and grant are kept in the
             home's `clients/` folder, so that the same ticket works again for the same user of this machine.
    """
    chosen = home if home is not None else (os.environ.get("SKERRY_HOME") or "~/.skerry")
    path = Path(chosen).expanduser().absolute()
    if ticket is None:
        return Mesh(LocalWay(path))
    from skerry.channel.transports import RealNetwork
    from skerry.client.remote import TicketWay
    from skerry.client.wallet import Wallet

    parsed = parse_ticket(ticket)
    wallet = Wallet(path, parsed)
    return Mesh(TicketWay(parsed, wallet, network=RealNetwork(wallet.open().key), clock=SystemClock(), random=SystemRandom()))


def outcome_of(result: TaskResult) -> Outcome:
    """The outcome in a result. Raises what the task failed with."""
    result.raise_error()
    payload = unpack_body(result.payload) if result.payload is not None else None
    return Outcome(result.task_id.hex(), payload, result.completed_by, result.node.hex(), result.execution_time_ms, result.receipt)


async def _never() -> bool:
    return False


def _left(end: float) -> float:
    return max(end - asyncio.get_running_loop().time(), 0.001)
