"""Many nodes as real processes on this machine, called steadily through all of them: nothing may fail, and nothing may grow.

Nodes join by one ticket, some host an agent, and clients of the others call at a bounded rate. What a node holds (memory, open files, tasks
of its loop, files on disk) is looked at from outside: once it has warmed up, and at the end. It has grown where the end is above the warm
state by more than the margin of that thing; a margin covers what a node keeps up to a bound (remembered tasks, logs that are put aside, the
database's journal) and not what it would keep of every call: 60,000 calls of 100 bytes would be 6 MiB.

The rule: it ends by itself, whatever happens, and everything that was started is ended with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.figures import percentile
from benchmarks.nodes import AGENTS
from skerry.client.mesh import Mesh
from skerry.errors import SkerryError
from skerry.routing.verbs import CapabilityList, CapabilityQuery
from tests.support.held import gauge, metrics, on_disk, open_files, rss_mib
from tests.support.nodes import Node, Nodes, on_loopback
from tests.support.polling import poll_until

CAPABILITY = "custom:echo"
AT_ONCE = 4  # nodes that start together: they are forked, and then each dials all the others
HOSTS = 5  # every so many-th node has an agent
CONCURRENCY = 8
CALL_TIMEOUT_S = 20.0
READY_S = 120.0  # for one to start while the others dial each other
FORMED_S = 240.0  # for all to be linked with all
WARM = 0.2  # of the time; what is there then may not grow
MARGINS = {
    "rss_mib": 6.0,  # what it remembers of tasks comes to its bound, and the system rounds
    "open_files": 3,  # a client that looks at it, a log that is put aside
    "tasks": 4,  # a call that is under way, a record that is pushed
    "files": 4,  # logs that were put aside, the database's journals
    "disk_mib": 8.0,  # the database's journal has up to 4, and the log goes on to its bound
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate`: calls a second, of all clients together; `clients`: so many nodes are called through."""

    nodes: int
    seconds: float
    rate: float = 100.0
    clients: int = 10
    report_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a node holds."""

    rss_mib: float
    open_files: int
    tasks: int
    files: int
    disk_mib: float

    @classmethod
    def of(cls, node: Node) -> Held:
        tasks = gauge(metrics(node), "skerry_loop_tasks")
        files, disk_mib = on_disk(node.home)
        return cls(rss_mib(node), open_files(node), tasks, files, disk_mib)


@dataclass(slots=True)
class Report:
    """What came of it."""

    calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    p99_ms: list[float] = field(default_factory=list)  # of each stretch that was reported
    warm: dict[str, Held] = field(default_factory=dict)
    end: dict[str, Held] = field(default_factory=dict)

    @property
    def grown(self) -> list[str]:
        """Nodes that hold more than they may."""
        return [
            f"{name}: {what} {getattr(warm, what):g} -> {getattr(self.end[name], what):g}"
            for name, warm in self.warm.items()
            for what, margin in MARGINS.items()
            if getattr(self.end[name], what) > getattr(warm, what) + margin
        ]

    @property
    def good(self) -> bool:
        return self.calls > 0 and not self.failed and not self.grown


@contextlib.contextmanager
def formed(count: int, say: Say) -> Iterator[list[Node]]:
    """So many nodes, each linked with all the others, and agents that all of them know."""
    world = Nodes()
    try:
        began = time.monotonic()
        names = [f"node-{number:02}" for number in range(count)]
        nodes = [world.up(names[0])]
        ticket = nodes[0].invite("--uses", str(count))
        for batch in _batches(names[1:], AT_ONCE):
            spawned = [world.spawn("join", ticket, *on_loopback(name, ()), name=name) for name in batch]
            nodes += [node.wait_ready(timeout_s=READY_S) for node in spawned]
        for node in nodes[::HOSTS]:
            node.run("agent", "run", f"{AGENTS}:Echo", "--concurrency", str(CONCURRENCY)).ok()
        say(f"{count} nodes were ready and {len(nodes[::HOSTS])} agents ran after {time.monotonic() - began:.0f} s")
        ends = time.monotonic() + FORMED_S
        for node in nodes:
            node.wait_linked(*(other for other in nodes if other is not node), timeout_s=max(ends - time.monotonic(), 1))
            _wait_for_agents(node, len(nodes[::HOSTS]), max(ends - time.monotonic(), 1))
        say(f"all were linked with all after {time.monotonic() - began:.0f} s")
        yield nodes
    finally:
        world.close()


def _batches(names: list[str], size: int) -> Iterator[list[str]]:
    for at in range(0, len(names), size):
        yield names[at : at + size]


def _wait_for_agents(node: Node, count: int, timeout_s: float) -> None:
    def known() -> int:
        listed = node.ask("capability.list", CapabilityQuery(CAPABILITY), CapabilityList)
        return sum(info.reachable for info in listed.capabilities)

    poll_until(lambda: known() == count, timeout_s, what=f"{node.name} knows {count} agents")


async def soak(nodes: list[Node], plan: Plan, say: Say) -> Report:
    """Call them for as long as was planned."""
    report = Report()
    through = nodes[1 :: max(len(nodes) // plan.clients, 1)][: plan.clients]
    taken_ms: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        meshes = [await stack.enter_async_context(node.connect()) for node in through]
        await _look(nodes)  # the first look loads HTTP
        began = asyncio.get_running_loop().time()
        callers = [
            asyncio.create_task(
                _keep_calling(mesh, began + number / plan.rate, len(meshes) / plan.rate, began + plan.seconds, taken_ms, report)
            )
            for number, mesh in enumerate(meshes)
        ]
        say(f"{'s':>6} {'calls':>8} {'errors':>6} {'p50 ms':>8} {'p99 ms':>8} {'MiB of all':>10}" + "".join(f" {w:>10}" for w in MARGINS))
        reported = 0.0
        while reported < plan.seconds:
            reported = min(reported + plan.report_s, plan.seconds)
            if not report.warm and reported >= plan.seconds * WARM:
                await asyncio.wait(callers, timeout=began + plan.seconds * WARM - asyncio.get_running_loop().time())
                report.warm = await _look(nodes)
            await asyncio.wait(callers, timeout=max(began + reported - asyncio.get_running_loop().time(), 0))
            report.end = await _look(nodes)
            say(_line(reported, taken_ms, report))
            taken_ms.clear()
        await asyncio.gather(*callers)
    return report


async def _look(nodes: list[Node]) -> dict[str, Held]:
    return {node.name: await asyncio.to_thread(Held.of, node) for node in nodes}


async def _keep_calling(mesh: Mesh, first: float, every_s: float, ends: float, taken_ms: list[float], report: Report) -> None:
    """At its times, whether the one before was quick or slow; but never two at once."""
    loop = asyncio.get_running_loop()
    due = first
    while due < ends:
        await asyncio.sleep(due - loop.time())
        due = max(due + every_s, loop.time())
        began = loop.time()
        try:
            await mesh.call(CAPABILITY, {"name": "Ada"}, timeout=CALL_TIMEOUT_S)
        except SkerryError as error:
            report.failed[f"{error.code}: {error.message}"] += 1
        else:
            report.calls += 1
            taken_ms.append((loop.time() - began) * 1000)


def _line(seconds: float, taken_ms: list[float], report: Report) -> str:
    held = report.end.values()
    p50, p99 = (percentile(taken_ms, percent) if taken_ms else 0.0 for percent in (50, 99))
    report.p99_ms.append(p99)
    most = [max(getattr(one, what) for one in held) for what in MARGINS]
    return (
        f"{seconds:6.0f} {report.calls:8} {report.failed.total():6} {p50:8.2f} {p99:8.2f} {sum(one.rss_mib for one in held):10.0f}"
        + "".join(f" {number:10.4g}" for number in most)
    )


def table(report: Report) -> str:
    """Every node, when it had warmed up and at the end."""
    lines = [f"{'node':10}" + "".join(f" {what:>20}" for what in MARGINS)]
    for name, warm in report.warm.items():
        end = report.end[name]
        lines.append(f"{name:10}" + "".join(f" {f'{getattr(warm, what):.4g} -> {getattr(end, what):.4g}':>20}" for what in MARGINS))
    return "\n".join(lines)
