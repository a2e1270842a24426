"""Letters: what a client puts into one node's outbox until an agent on another node has counted it in its state, on both disks."""

from __future__ import annotations

import asyncio
import time

from benchmarks.echo_agent import LETTERS
from benchmarks.figures import Asked, Figure, figure
from benchmarks.nodes import POLL_S, answers, two_nodes
from benchmarks.plan import Plan
from skerry.client.mesh import Mesh

LETTERS_PER_ROUND = 4000
IN_FLIGHT = 64
HANDLED_S = 60.0


async def measure_letters(plan: Plan) -> list[Figure]:
    """Sent with 64 under way, and handled one after the other, in the order of their session."""
    count = LETTERS_PER_ROUND if plan.rounds > 2 else 500
    sent, handled = [], []
    async with two_nodes(plan.folder, "Book") as (_, _, mesh):
        await answers(mesh, LETTERS, None)
        for _ in range(plan.rounds):
            before = await mesh.call(LETTERS)
            began = time.perf_counter()
            await _send(mesh, count)
            sent.append(count / (time.perf_counter() - began))
            await _counted(mesh, before + count)
            handled.append(count / (time.perf_counter() - began))
    return [
        figure("letters into the outbox, 64 in flight", "/s", sent),
        figure("letters sent and counted in the state", "/s", handled, asked=Asked(at_least=3000)),
    ]


async def _send(mesh: Mesh, count: int) -> None:
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        async with turns:
            await mesh.send("book", number)

    await asyncio.gather(*(one(number) for number in range(count)))


async def _counted(mesh: Mesh, count: int) -> None:
    async with asyncio.timeout(HANDLED_S):
        while await mesh.call(LETTERS) < count:  # noqa: ASYNC110 another process counts
            await asyncio.sleep(POLL_S)
