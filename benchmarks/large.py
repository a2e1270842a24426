"""What large values do to small calls: both go between the same two nodes, in turns with small calls alone."""

from __future__ import annotations

import asyncio
import os
import time

from benchmarks.echo_agent import CAPABILITY, LARGE
from benchmarks.figures import Asked, Figure, figure, percentile
from benchmarks.load import one_by_one
from benchmarks.nodes import answers, two_nodes
from benchmarks.plan import Plan

LARGE_BYTES = 30 * 1000 * 1000
SMALL = {"name": "Ada"}


async def measure(plan: Plan) -> list[Figure]:
    payload = os.urandom(LARGE_BYTES)
    alone: list[float] = []
    disturbed: list[float] = []
    there_and_back_s: list[float] = []
    async with two_nodes(plan.folder, "Echo", "Large") as (_, _, mesh):
        await answers(mesh, CAPABILITY, SMALL)
        await answers(mesh, LARGE, None)

        async def small() -> None:
            await mesh.call(CAPABILITY, SMALL)

        async def echo_large() -> None:
            began = time.perf_counter()
            if await mesh.call(LARGE, payload) != payload:
                raise RuntimeError("a large value came back changed")
            there_and_back_s.append(time.perf_counter() - began)

        for _ in range(plan.rounds):
            alone.append(percentile(await one_by_one(small, seconds=max(plan.seconds, 1.0)), 99))
            large = asyncio.create_task(echo_large())
            taken_us: list[float] = []
            while not large.done():
                taken_us += await one_by_one(small, seconds=0.01)
            await large
            disturbed.append(percentile(taken_us, 99))
    ratios = [with_large / without for with_large, without in zip(disturbed, alone, strict=True)]
    return [
        figure("small call alone, p99", "us", alone),
        figure("small call beside 30 MB each way, p99", "us", disturbed),
        figure("the same, as a ratio", "x", ratios, asked=Asked(at_most=2)),
        figure("30 MB there and back", "s", there_and_back_s),
    ]
