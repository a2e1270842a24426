"""What people wait for: a node that starts, a command that answers; and what an idle node costs."""

from __future__ import annotations

import asyncio
import time

from benchmarks.echo_agent import CAPABILITY
from benchmarks.figures import Asked, Figure, figure
from benchmarks.nodes import SKERRY, answers, node, run, two_nodes
from benchmarks.plan import Plan


async def measure_ready(plan: Plan) -> list[Figure]:
    new: list[float] = []
    old: list[float] = []
    for number in range(max(plan.starts // 2, 1)):
        for times in (new, old):
            async with node(plan.folder / f"node-{number}") as started:
                times.append(started.ready_s)
    return [
        figure("a node is ready, new home", "s", new, asked=Asked(at_most=1)),
        figure("a node is ready, old home", "s", old, asked=Asked(at_most=1)),
    ]


async def measure_commands(plan: Plan) -> list[Figure]:
    helped = [await run("--help") for _ in range(plan.starts)]
    python = [await _python() for _ in range(plan.starts)]
    async with two_nodes(plan.folder, "Echo") as (alpha, _, mesh):
        await answers(mesh, CAPABILITY, None)
        called = [await run("call", CAPABILITY, "{}", "--home", str(alpha.home)) for _ in range(plan.starts)]
    return [
        figure("python -c pass", "ms", [s * 1000 for s in python]),
        figure("skerry --help", "ms", [s * 1000 for s in helped], asked=Asked(at_most=200)),
        figure("skerry call", "ms", [s * 1000 for s in called]),
    ]


async def _python() -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(SKERRY[0], "-c", "pass")
    await process.wait()
    return time.perf_counter() - began


async def measure_idle(plan: Plan) -> list[Figure]:
    """With HTTP listening and not asked, and no agents."""
    async with node(plan.folder / "idle") as idle:
        await asyncio.sleep(plan.idle_s)
        rss = idle.rss_mib()
    return [figure(f"memory of a node after {plan.idle_s:g} idle s", "MiB", [rss], asked=Asked(at_most=70))]
