"""Tasks for a circle from outside the formation: who may give it one, how often, and who does it inside.

The task names the circle, never an agent: it is done by whichever member can, on whatever node, asked in this node's name. It goes no
further: what came from outside stays inside the formation.

The rule: only a circle whose founder said so is called from outside, for what its members offer, under a quota for all and per address.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import msgspec

from skerry.channel.admission import Quota
from skerry.channel.calls import CALLER, Body, Served
from skerry.errors import Code, Refused, SkerryError
from skerry.node.circles import PREFIX
from skerry.node.policy import Right
from skerry.routing.circle import AgentCircle, CallableBy
from skerry.routing.task import PRIORITY_DEFAULT, REACH_FORMATION, Request, Task, TaskResult

if TYPE_CHECKING:
    from skerry.node.node import Node

AT_ONCE = 20.0  # calls of one address, and then
PER_S = 5.0
AT_ONCE_ALL = 200.0  # of all addresses
PER_S_ALL = 50.0
RUNNING_MAX = 64  # of strangers' tasks, together
RUNNING_EACH_MAX = 8  # of one address
TIMEOUT_S = 120.0  # however long the caller would wait
OUTSIDE = b"outside"  # all who call circles from there are one caller for our agents: whoever makes himself many gets no more turns
_ALL = "all"


class CircleDoor:
    """What one node does for circles that are called from outside."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._each = Quota(at_once=AT_ONCE, per_s=PER_S)
        self._all = Quota(at_once=AT_ONCE_ALL, per_s=PER_S_ALL)
        self._running: Counter[str] = Counter()

    async def serve(self, served: Served) -> Body:
        """A task of a stranger or a contact. Raises Refused that names what is missing."""
        task = Task.from_bytes(served.body)
        circle = self._circle(task, is_contact=Right.CONTACT in served.link.rights)
        address = served.link.connection.address
        self._take_turn(address)
        self._running[address] += 1
        self._node.strangers.works(served.link)
        CALLER.set(OUTSIDE)
        try:
            return await self._node.tasks.serve(served, _Inside(self._node, circle, under_way=self._running.total))
        finally:
            self._running[address] -= 1
            if not self._running[address]:
                del self._running[address]

    @property
    def is_open(self) -> bool:
        """Whether there is a circle that anybody may call."""
        return any(circle.charter.callable_by is CallableBy.ANYONE for circle in self._node.circles.router.local_circles())

    def _circle(self, task: Task, *, is_contact: bool) -> AgentCircle:
        if not task.agent.startswith(PREFIX):
            raise Refused("'task.run' needs the right 'call', which this peer does not have here", code=Code.NOT_GRANTED, hint=_HINT)
        try:
            circle = self._node.circles.named(task.agent.removeprefix(PREFIX))
        except SkerryError:
            circle = None
        allowed = (CallableBy.ANYONE, CallableBy.CONTACTS) if is_contact else (CallableBy.ANYONE,)
        if circle is None or circle.charter.callable_by not in allowed:  # whether it is there is nobody's business
            raise Refused("no circle of that id may be called by this peer", code=Code.NOT_GRANTED, hint=_HINT)
        if task.capability not in circle.capabilities:
            raise Refused(f"the circle {circle.name} does not offer {task.capability!r} any more", code=Code.UNKNOWN_CAPABILITY)
        return circle

    def _take_turn(self, address: str) -> None:
        now = self._loop.time()
        if self._running[address] >= RUNNING_EACH_MAX or self._running.total() >= RUNNING_MAX:
            raise Refused("too many tasks from outside are under way here", code=Code.BUSY, hint="try again when one is done")
        if not self._each.take(address, now=now):
            raise Refused("your address asks more than it may", code=Code.BUSY, hint="wait a moment")
        if not self._all.take(_ALL, now=now):
            raise Refused("all together ask more than they may", code=Code.BUSY, hint="wait a moment")


class _Inside:
    """Runs a task of outside with a member of the circle (`routing.dispatch.Local`)."""

    def __init__(self, node: Node, circle: AgentCircle, *, under_way: Callable[[], int]) -> None:
        self._node = node
        self._circle = circle
        self._under_way = under_way

    async def run(self, task: Task, *, timeout_s: float) -> TaskResult:
        limit_s, origin = min(timeout_s, TIMEOUT_S), (task.id, task.requester)
        result = await self._node.dispatcher.call(self._request(task), timeout_s=limit_s, chain=task.chain, origin=origin)
        return self._answer(task, result)

    async def stream(self, task: Task, *, timeout_s: float) -> AsyncIterator[Body | TaskResult]:
        limit_s, origin = min(timeout_s, TIMEOUT_S), (task.id, task.requester)
        items = self._node.dispatcher.stream(self._request(task), timeout_s=limit_s, chain=task.chain, origin=origin)
        try:
            async for item in items:
                yield self._answer(task, item) if isinstance(item, TaskResult) else item
        finally:
            await items.aclose()  # type: ignore[attr-defined]

    def _request(self, task: Task) -> Request:
        member = PREFIX + self._circle.id.hex()
        return Request(
            task.capability,
            task.payload,
            member,
            min(task.priority, PRIORITY_DEFAULT),  # what strangers call urgent is not more so than what our own ask
            task.max_latency_ms,
            REACH_FORMATION,
            restart=task.restart,
            where=task.where,
            receipt=task.receipt,
        )

    def _answer(self, task: Task, result: TaskResult) -> TaskResult:
        """What a member came to, as the circle's: a caller chooses among circles by what these have to do."""
        return msgspec.structs.replace(result, task_id=task.id, load=self._under_way(), places=max(self._circle.available_count, 1))


_HINT = "strangers may call public circles made with --callable-by anyone; ask an operator there for more"
