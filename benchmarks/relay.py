"""What the way over a relay costs, beside the straight one, to the same node: in turns, so that the machine's mood cancels out."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

from benchmarks.figures import Asked, Figure, beside, figure
from benchmarks.load import in_turns
from benchmarks.plan import Plan
from benchmarks.relay_side import Side
from skerry.channel.address import via
from skerry.channel.link import Link
from skerry.errors import Code, Refused

START_S = 20.0
CALL_S = 10.0
LARGE_BYTES = 8 * 1024 * 1024
RATIO_MAX = 2.5  # issue 6
_OVER = Refused("the measurement is over", code=Code.CANCELLED)


@contextlib.asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[tuple[bytes, str]]:
    """A side in another process: its id and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.relay_side", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            identity, address = (await process.stdout.readline()).decode().split()
        yield bytes.fromhex(identity), address
    finally:
        process.kill()
        await process.wait()


async def measure(plan: Plan) -> list[Figure]:
    """A verb, and a large value, straight and through a relay."""
    async with _process() as (relay, at), _process(relay.hex(), at) as (called, straight):
        over_side, straight_side = Side(), Side()
        opened_ms: list[float] = []
        await over_side.meet(relay, at)
        for _ in range(plan.starts):
            began = time.perf_counter()
            link = await over_side.links.probe(via(relay), expected=called, timeout_s=CALL_S)
            opened_ms.append((time.perf_counter() - began) * 1000)
            link.close(_OVER)
        over = await over_side.links.dial(via(relay), expected=called)
        direct = await straight_side.links.dial(straight, expected=called)
        measured, peer = await in_turns(lambda: _echo(over), lambda: _echo(direct), rounds=plan.rounds, seconds=plan.seconds)
        large, large_direct = [await _large(over)], [await _large(direct)]
        for _ in range(plan.rounds):
            large.append(await _large(over))
            large_direct.append(await _large(direct))
        for side in (over_side, straight_side):
            await side.links.close()
    return [
        figure("open and prove a connection through a relay", "ms", opened_ms),
        beside("verb through a relay, one by one, p50", "us", measured.p50_us, peer="straight", peer_rounds=peer.p50_us),
        figure(
            "verb through a relay over straight, p50",
            "x",
            [ours / theirs for ours, theirs in zip(measured.p50_us, peer.p50_us, strict=True)],
            asked=Asked(at_most=RATIO_MAX),
        ),
        beside("verbs through a relay, 64 in flight", "/s", measured.per_second, peer="straight", peer_rounds=peer.per_second),
        beside("a large value through a relay", "MB/s", large[1:], peer="straight", peer_rounds=large_direct[1:]),
    ]


async def _echo(link: Link) -> None:
    await link.call("echo", b"hello", timeout_s=CALL_S)


async def _large(link: Link) -> float:
    """There and back, in MB a second."""
    began = time.perf_counter()
    await link.call("echo", bytes(LARGE_BYTES), timeout_s=60)
    return 2 * LARGE_BYTES / 1e6 / (time.perf_counter() - began)
