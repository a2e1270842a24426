"""Honest clients, many at once: `python -m tests.hostile.honest`, told on stdin what to do, a line of JSON each.

`{"target", "near", "far"}` first: so many connections over the node's own socket, and so many over TLS. Answered when they are there.
Then `{"seconds"}`: call the agent on all of them in turns for so long. Answered with how it went.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections import Counter
from typing import Any

from benchmarks.echo_agent import CAPABILITY
from benchmarks.figures import percentile
from skerry.channel.link import Link
from skerry.channel.links import Links
from skerry.errors import SkerryError
from skerry.identity.codec import pack
from tests.hostile.target import Members, Target, all_files, links_of, tls

AT_ONCE = 8  # calls under way
PAUSE_S = 0.01  # after each: so that what is measured is the node, not a full machine
EACH_ADDRESS = 100  # TLS connections from one address
DIALLING = 4  # at once
CALL_TIMEOUT_S = 20.0
EACH_S = 10.0  # what is told piece by piece


class Crowd:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._members = Members(target)
        self._context = tls()
        self._dialling = asyncio.Semaphore(DIALLING)
        self._links: list[Links] = []
        self._connections: list[Link] = []
        self._turn = 0

    async def gather(self, near: int, far: int) -> None:
        await asyncio.gather(
            *(self._connect(number, self._target.socket if number < near else self._target.mesh) for number in range(near + far))
        )

    async def _connect(self, number: int, address: str) -> None:
        async with self._dialling:
            key, grant = self._members.make()
            links = links_of(key, grant, f"127.1.0.{1 + number // EACH_ADDRESS}", self._context)
            self._connections.append(await links.dial(address, expected=bytes.fromhex(self._target.node)))
            self._links.append(links)

    async def call(self, seconds: float) -> dict[str, Any]:
        """Closed loops that go from connection to connection."""
        taken_ms: list[float] = []
        at_s: list[float] = []
        failed: Counter[str] = Counter()
        begins = time.perf_counter()
        ends = begins + seconds
        body = pack([CAPABILITY, pack({"name": "Ada"})])

        async def keep_calling() -> None:
            while time.perf_counter() < ends:
                link = self._connections[self._turn % len(self._connections)]
                self._turn += 1
                began = time.perf_counter()
                try:
                    await link.call("task.call", body, timeout_s=CALL_TIMEOUT_S)
                except SkerryError as error:
                    failed[f"{error.code}: {error.message}"] += 1
                else:
                    taken_ms.append((time.perf_counter() - began) * 1000)
                    at_s.append(began - begins)
                await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(keep_calling() for _ in range(AT_ONCE)))
        return {
            "calls": len(taken_ms),
            "failed": dict(failed),
            "lost": sum(link.closed for link in self._connections),
            "p99_ms_each": [
                round(percentile(some, 99), 1)
                for number in range(math.ceil(seconds / EACH_S))
                if (some := [ms for ms, at in zip(taken_ms, at_s, strict=True) if at // EACH_S == number])
            ],
            **{f"p{percent}_ms": round(percentile(taken_ms, percent), 3) for percent in (50, 99)},
        }

    async def close(self) -> None:
        await asyncio.gather(*(links.close() for links in self._links))


async def main() -> None:
    all_files()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    first = json.loads(await lines.readline())
    crowd = Crowd(Target(**first["target"]))
    await crowd.gather(first["near"], first["far"])
    print(json.dumps({"connected": first["near"] + first["far"]}), flush=True)
    while line := await lines.readline():
        print(json.dumps(await crowd.call(json.loads(line)["seconds"])), flush=True)
    await crowd.close()


if __name__ == "__main__":
    asyncio.run(main())
