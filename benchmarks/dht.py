"""A DHT of 100 nodes, of which 30 die at once: is everything still found, and how soon?

All of them live in this process, each on a loopback address of its own; dying is to be silent from one moment to the next, as `kill -9` is.
Each node said one thing and kept one value; both are asked for at survivors, whether who said them lives or not. Beside it, where it is
installed and asked for, the package `kademlia` does the same.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.figures import Asked, Figure, percentile
from benchmarks.plan import Plan
from skerry.client.here import SystemRandom
from skerry.discovery.dht import LibtorrentDht
from skerry.identity.keys import KeyPair

NODES = 100
SHORT_NODES = 40  # where it is only to be seen that it works
DIE = 0.3
ENTRIES = 3  # nodes through which the others enter
SETTLE_S = 8.0  # for the last to become known; each says what it says again after 2, 4 ... s
TIMEOUT_S = 5.0
SEED = 5  # of who dies and who asks: the same in every run
PEER_WAIT_S = 0.02
PEER_ASKED = 25  # questions put to the peer: one that meets a dead node takes 5 s there
Finds = Callable[[int, int], Awaitable[bool]]  # (survivor, what) -> found


async def measure(plan: Plan) -> list[Figure]:
    nodes = SHORT_NODES if plan.seconds < 1 else NODES
    figures = await _libtorrent(nodes)
    if plan.peers:
        if importlib.util.find_spec("kademlia") is None:
            print("kademlia is not measured: pip install kademlia", file=sys.stderr)
        else:
            figures = _beside(figures, *await _kademlia(nodes))
    return figures


async def _libtorrent(count: int) -> list[Figure]:
    rng = random.Random(SEED)
    async with AsyncExitStack() as stack:
        nodes: list[LibtorrentDht] = []
        for number in range(count):
            entries = tuple(one.address for one in nodes[:ENTRIES])
            node = LibtorrentDht(f"127.0.90.{number + 1}:0", bootstrap=entries, random=SystemRandom())
            await node.open()
            stack.push_async_callback(node.close)
            nodes.append(node)
            await asyncio.sleep(0.01)
        await asyncio.sleep(SETTLE_S / 4)
        for number, node in enumerate(nodes):
            node.announce(_key(number), 10_000 + number)
        for _ in range(2):  # as places are, values are said again when their node knows more of the others
            await asyncio.gather(*(node.put(_seed(number), b"%d" % number) for number, node in enumerate(nodes)))
            await asyncio.sleep(SETTLE_S / 2)
        dead = set(rng.sample(range(count), int(count * DIE)))
        await asyncio.gather(*(nodes[number].close() for number in dead))

        async def finds(asker: int, what: int) -> bool:
            return f"127.0.90.{what + 1}:{10_000 + what}" in await nodes[asker].find(_key(what), timeout_s=TIMEOUT_S)

        async def gets(asker: int, what: int) -> bool:
            public = KeyPair.from_seed(_seed(what)).public
            return await nodes[asker].get(public, timeout_s=TIMEOUT_S) == b"%d" % what

        alive = [number for number in range(count) if number not in dead]
        places, values = await _ask(finds, alive, count, rng), await _ask(gets, alive, count, rng)
    name = f"DHT of {count} nodes, {len(dead)} killed"
    return [*_figures(f"{name}: places", *places), *_figures(f"{name}: values", *values)]


async def _ask(finds: Finds, alive: Sequence[int], count: int, rng: random.Random, *, most: int = NODES) -> tuple[float, list[float]]:
    """Percent of what was asked for that was found, and how long each question took (ms)."""
    found, took_ms = 0, []
    asked = rng.sample(range(count), min(count, most))
    for what in asked:
        began = time.perf_counter()
        found += await finds(rng.choice(alive), what)
        took_ms.append((time.perf_counter() - began) * 1000)
    return 100 * found / len(asked), took_ms


def _figures(name: str, found: float, took_ms: list[float]) -> list[Figure]:
    return [
        Figure(f"{name} found", "%", found, Asked(at_least=100)),
        Figure(f"{name}, p95", "ms", percentile(took_ms, 95), Asked(at_most=500)),
        Figure(f"{name}, p50", "ms", percentile(took_ms, 50)),
    ]


async def _kademlia(count: int) -> tuple[float, list[float]]:
    """The same with values, which are all that it knows."""
    from kademlia.network import Server

    logging.disable(logging.WARNING)  # it says one for each that died

    rng = random.Random(SEED)
    nodes: list[Any] = []
    try:
        for number in range(count):
            node = Server()
            await node.listen(0, interface="127.0.0.1")
            nodes.append(node)
            if number:
                await node.bootstrap([("127.0.0.1", _port(one)) for one in nodes[: min(number, ENTRIES)]])
            await asyncio.sleep(PEER_WAIT_S)
        for number, node in enumerate(nodes):
            await node.set(f"key {number}", number)
        dead = set(rng.sample(range(count), int(count * DIE)))
        for number in dead:
            nodes[number].stop()

        async def gets(asker: int, what: int) -> bool:
            return bool(await nodes[asker].get(f"key {what}") == what)

        return await _ask(gets, [number for number in range(count) if number not in dead], count, rng, most=PEER_ASKED)
    finally:
        logging.disable(logging.NOTSET)
        for node in nodes:
            node.stop()


def _port(node: Any) -> int:
    port: int = node.transport.get_extra_info("sockname")[1]
    return port


def _beside(figures: list[Figure], found: float, took_ms: list[float]) -> list[Figure]:
    theirs = {"values found": found, "values, p95": percentile(took_ms, 95), "values, p50": percentile(took_ms, 50)}
    return [
        next(
            (
                Figure(f.name, f.unit, f.measured, f.asked, "kademlia", value, f.measured / value if value else None)
                for end, value in theirs.items()
                if f.name.endswith(end)
            ),
            f,
        )
        for f in figures
    ]


def _key(number: int) -> bytes:
    return number.to_bytes(20, "big")[::-1]


def _seed(number: int) -> bytes:
    return b"benchmark" + number.to_bytes(23, "big")
