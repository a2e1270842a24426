"""Many nodes as real processes on this machine, called steadily through all of them: nothing may fail, and nothing may grow.

Nodes join by one ticket, some host an agent, and clients of the others call at a bounded rate. What a node holds (memory, files) is looked
at from outside: once it has warmed up, and at the end.

The rule: it ends by itself, whatever happens, and everything that was started is ended with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import percentile
from benchmarks.nodes import AGENTS
from skerry.client.mesh import Mesh
from skerry.errors import SkerryError
from skerry.routing.verbs import CapabilityList, CapabilityQuery
from tests.support.nodes import Node, Nodes, on_loopback
from tests.support.polling import poll_until

CAPABILITY = "custom:echo"
AT_ONCE = 4  # nodes that start together: they are forked, and then each dials all the others
HOSTS = 5  # every so many-th node has an agent
CONCURRENCY = 8
CALL_TIMEOUT_S = 20.0
FORMED_S = 120.0  # for all to be linked with all
WARM = 0.2  # of the time; what is there then may not grow
RSS_MIB_GROWTH = 6.0  # of a node: what it remembers of tasks and logs comes to its bound, the system's own rounding
FDS_GROWTH = 3  # of a node: a client that looks at it, a log that is put aside
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
    """What a node holds, as the system says."""

    rss_mib: float
    fds: int

    @classmethod
    def of(cls, node: Node) -> Held:
        folder = Path(f"/proc/{node.process.pid}")
        rss_kib = int(re.findall(r"VmRSS:\s+(\d+)", (folder / "status").read_text())[0])
        return cls(rss_kib / 1024, len(list((folder / "fd").iterdir())))


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
            f"{name}: {warm.rss_mib:.1f} -> {end.rss_mib:.1f} MiB, {warm.fds} -> {end.fds} files"
            for name, warm in self.warm.items()
            if (end := self.end[name]).rss_mib > warm.rss_mib + RSS_MIB_GROWTH or end.fds > warm.fds + FDS_GROWTH
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
            nodes += [node.wait_ready() for node in spawned]
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
        began = asyncio.get_running_loop().time()
        callers = [
            asyncio.create_task(
                _keep_calling(mesh, began + number / plan.rate, len(meshes) / plan.rate, began + plan.seconds, taken_ms, report)
            )
            for number, mesh in enumerate(meshes)
        ]
        say(f"{'s':>6} {'calls':>8} {'errors':>6} {'p50 ms':>8} {'p99 ms':>8} {'MiB of all':>10} {'most MiB':>8} {'most files':>10}")
        reported = 0.0
        while reported < plan.seconds:
            reported = min(reported + plan.report_s, plan.seconds)
            if not report.warm and reported >= plan.seconds * WARM:
                await asyncio.wait(callers, timeout=began + plan.seconds * WARM - asyncio.get_running_loop().time())
                report.warm = {node.name: Held.of(node) for node in nodes}
            await asyncio.wait(callers, timeout=max(began + reported - asyncio.get_running_loop().time(), 0))
            report.end = {node.name: Held.of(node) for node in nodes}
            say(_line(reported, taken_ms, report))
            taken_ms.clear()
        await asyncio.gather(*callers)
    return report


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
    return (
        f"{seconds:6.0f} {report.calls:8} {report.failed.total():6} {p50:8.2f} {p99:8.2f}"
        f" {sum(one.rss_mib for one in held):10.0f} {max(one.rss_mib for one in held):8.1f} {max(one.fds for one in held):10}"
    )


def table(report: Report) -> str:
    """Every node, when it had warmed up and at the end."""
    lines = [f"{'node':10} {'MiB warm':>9} {'at end':>8} {'grown':>7} {'files warm':>10} {'at end':>7}"]
    for name, warm in report.warm.items():
        end = report.end[name]
        lines.append(f"{name:10} {warm.rss_mib:9.1f} {end.rss_mib:8.1f} {end.rss_mib - warm.rss_mib:+7.1f} {warm.fds:10} {end.fds:7}")
    return "\n".join(lines)
