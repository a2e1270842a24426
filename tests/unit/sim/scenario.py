"""A scenario with all kinds of trouble, whose trace must be the same in every process. Run as a program it prints the trace."""

from __future__ import annotations

import asyncio
import random
import sys

from skerry.errors import Unreachable
from skerry.sim.clock import SimClock, SimRandom
from skerry.sim.link import Link
from skerry.sim.loop import run
from skerry.sim.network import SimHost, SimNetwork

ROUGH = Link(delay_s=0.01, jitter_s=0.02, loss=0.05, split=0.4, reset=0.002)
NAMES = ("alpha", "beta", "gamma")
SECONDS = 60


class Chatter(asyncio.Protocol):
    """Answers everything with the same bytes, backwards."""

    def __init__(self, everybody: set[Chatter]) -> None:
        self._everybody = everybody  # a set of objects, as a program may have; nothing here may depend on its order

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._everybody.add(self)

    def data_received(self, data: bytes) -> None:
        if len(data) > 1:
            self.transport.write(data[:-1][::-1])

    def connection_lost(self, exc: Exception | None) -> None:
        self._everybody.discard(self)


async def caller(host: SimHost, source: SimRandom, everybody: set[Chatter], trace: list[str]) -> None:
    loop = asyncio.get_running_loop()
    clock = SimClock(loop, drift=source.uniform(-1e-3, 1e-3))
    while loop.time() < SECONDS:
        target = source.choice([name for name in NAMES if name != host.name])
        try:
            chatter = await host.dial(f"tcp://{target}:1", lambda: Chatter(everybody), timeout_s=3)
        except Unreachable as error:
            trace.append(f"{loop.time():.6f} {clock.now_ms()} {host.name}: {error}")
            if host.is_dead:
                return
            await asyncio.sleep(0.5)
            continue
        assert isinstance(chatter, Chatter)
        for _ in range(5):
            await asyncio.to_thread(chatter.transport.write, source.token(source.randrange(1, 60)))
            await asyncio.sleep(source.uniform(0, 0.5))
        chatter.transport.close()


async def scene(seed: int) -> list[str]:
    trace: list[str] = []
    source = random.Random(seed)
    network = SimNetwork(source, link=ROUGH, reset_after_s=5, record=trace.append)
    everybody: set[Chatter] = set()
    hosts = {name: network.host(name) for name in NAMES}
    async with asyncio.TaskGroup() as group:

        async def start(name: str) -> None:
            await hosts[name].listen(f"tcp://{name}:1", lambda: Chatter(everybody))
            group.create_task(caller(hosts[name], SimRandom(f"{seed}/{name}"), everybody, trace))

        for name in NAMES:
            await start(name)
        while asyncio.get_running_loop().time() < SECONDS:
            await asyncio.sleep(source.uniform(0, 4))
            a, b = source.sample(NAMES, 2)
            trouble = source.randrange(6)
            if trouble == 0:
                network.cut(a, b, one_way=source.random() < 0.5)
            elif trouble == 1:
                network.heal()
            elif trouble == 2:
                network.reset(a, b, half_open=source.random() < 0.5)
            elif trouble == 3:
                network.kill(a)
                hosts[a] = network.restart(a)
                await start(a)
            elif trouble == 4:
                network.crash(a)
                await asyncio.sleep(source.uniform(0, 8))
                hosts[a] = network.restart(a)
                await start(a)
    return trace


if __name__ == "__main__":
    for line in run(scene(int(sys.argv[1]))):
        print(line)
