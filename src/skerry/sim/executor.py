"""Workers of a simulated host: the real worker's side of the connection, in a process that can be killed.

The rule: a worker that is killed runs no further line, and one whose connection to its node closes ends at once, as the real one does.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from skerry.agents.begun import Begun
from skerry.agents.worker import WorkerSide, connect
from skerry.channel.link import Link
from skerry.channel.stream import FrameStream
from skerry.ports import ProtocolFactory, Random, WorkerStart, jitter
from skerry.sim.agents import Stage, Witness, loader
from skerry.sim.network import SimHost
from skerry.sim.process import Process
from skerry.sim.stream import End

T = TypeVar("T")
START_S = 0.1  # how long a process takes to start, at most; a real interpreter takes about as long
FIRST_PID = 1000


class _Connection(FrameStream):
    """The worker's end: when it closes the process is over."""

    def __init__(self, exit_: Callable[[], None]) -> None:
        super().__init__()
        self._exit = exit_

    def connection_lost(self, exc: Exception | None) -> None:
        self._exit()


class SimWorker:
    """`ports.Worker`."""

    def __init__(self, pid: int, process: Process, ended: asyncio.Future[int], begun: Begun) -> None:
        self._pid = pid
        self._begun = begun
        self._process = process
        self._ended = ended
        self.ends: tuple[End, ...] = ()
        self.link: Link | None = None  # its own end, for whoever wants to ask as it would

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def is_over(self) -> bool:
        return self._process.is_over

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done by its process. Raises Died where it ends before."""
        return await self._process.run(work)

    def kill(self) -> None:
        if not self._process.is_over:
            for end in self.ends:
                end.die(is_told=True)
            self._process.end(-9)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    @property
    def sandboxed(self) -> bool:
        return False

    def begun(self) -> int:
        return self._begun.turn

    def why_ended(self) -> str:
        return ""  # a simulated executor sets no limits


class SimExecutor:
    """`ports.Executor` of one host, from its start to its end."""

    def __init__(self, host: SimHost, random: Random, witness: Witness) -> None:
        self._host = host
        self._random = random
        self._witness = witness
        self._workers: dict[int, SimWorker] = {}
        self._next_pid = FIRST_PID

    async def spawn(self, start: WorkerStart, calls: ProtocolFactory, bulk: ProtocolFactory) -> SimWorker:
        await asyncio.sleep(jitter(self._random, START_S / 2, START_S))
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        pid, self._next_pid = self._next_pid, self._next_pid + 1

        def over(status: int) -> None:
            self._workers.pop(pid, None)
            if not ended.done():
                ended.set_result(status)

        process = Process(f"{self._host.name}/{start.name}", on_end=over)
        begun = Begun()
        worker = self._workers[pid] = SimWorker(pid, process, ended, begun)

        def die() -> None:  # from outside: a process that kills itself still runs the line that does so
            loop.call_soon(worker.kill, context=self._host.context)

        side = WorkerSide(begun, loader(Stage(self._host.name, self._witness, die)))
        their_bulk, their_calls = (process.within(lambda: _Connection(worker.kill)) for _ in range(2))
        worker.link = process.within(lambda: connect(side, their_calls, their_bulk))
        _, bulk_end = self._host.pair(bulk, lambda: their_bulk, second_context=process.context())
        _, calls_end = self._host.pair(calls, lambda: their_calls, second_context=process.context())
        worker.ends = (calls_end, bulk_end)
        process.spawn(_until_stopped(side, worker, process, self._host.context))
        return worker

    def workers(self) -> list[SimWorker]:
        """Those that run."""
        return list(self._workers.values())

    def end_all(self) -> None:
        """The host is down."""
        for worker in self.workers():
            worker.kill()


async def _until_stopped(side: WorkerSide, worker: SimWorker, process: Process, outside: contextvars.Context) -> None:
    """The end of the worker's program: the reply to `agent.stop` leaves first."""
    await side.stopped.wait()
    await asyncio.sleep(0)
    for end in worker.ends:
        end.close()
    asyncio.get_running_loop().call_soon(process.end, 0, context=outside)
