"""The real executor: one process per agent, in a session of its own, holding two inherited sockets and a page of shared memory.

The rule: a worker gets its two sockets, that page, its log and its environment, and nothing else of the node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from skerry.agents.begun import Begun, shared_file
from skerry.agents.logfile import SIZE_BYTES_MAX, LogFile, Pump
from skerry.agents.sandbox import bubblewrap, wrapped
from skerry.ports import ProtocolFactory, Worker, WorkerStart

MEMORY_EVERY_S = 0.25  # how often an agent's memory is looked at
DATA_FACTOR = 2  # the system's own limit on private memory, beyond which the agent gets MemoryError at once
DATA_SPARE_BYTES = 256 * 1024 * 1024  # for threads' stacks and what libraries reserve
QUIET = {"ORT_DISABLE_TELEMETRY": "1"}  # onnxruntime would report to its makers
SECRETS = ("SKERRY_TOKEN", "SKERRY_TICKET")  # never handed to agents


class ProcessWorker:
    """A worker process, leader of its own process group."""

    def __init__(self, process: asyncio.subprocess.Process, pump: Pump | None, begun: Begun, *, memory_bytes: int, sandboxed: bool) -> None:
        self._process = process
        self._begun = begun
        self._sandboxed = sandboxed
        self._pump = pump
        self._why = ""
        self._watch = asyncio.get_running_loop().create_task(self._watch_memory(memory_bytes)) if memory_bytes else None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def sandboxed(self) -> bool:
        return self._sandboxed

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        status = await self._process.wait()
        if self._watch is not None:
            self._watch.cancel()
        if self._pump is not None:
            self._pump.drain()
        return status

    def begun(self) -> int:
        return self._begun.turn

    def why_ended(self) -> str:
        return self._why

    async def _watch_memory(self, most: int) -> None:
        while self._process.returncode is None:
            used = memory_of(self.pid)
            if used > most:
                self._why = f"it used {used // 2**20} MiB of memory, and its limit is {most // 2**20} MiB"
                self.kill()
                return
            await asyncio.sleep(MEMORY_EVERY_S)


def memory_of(pid: int) -> int:
    """Resident bytes of a process and all below it; 0 where the system does not tell (it has no /proc)."""
    total, waiting = 0, [pid]
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in (process / "task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return total


class ProcessExecutor:
    """Starts workers: with this very interpreter or the agent's own, inside bubblewrap where it works and is wanted.

    home, private   the user's own folder and the node's, of which an agent in the sandbox sees nothing
    log_bytes_max   the size at which an agent's log is put aside
    """

    def __init__(
        self, *, home: Path | None = None, private: Path | None = None, sandbox: bool = True, log_bytes_max: int = SIZE_BYTES_MAX
    ) -> None:
        self._home = home
        self._private = private
        self._sandbox = sandbox
        self._log_bytes_max = log_bytes_max

    async def spawn(self, start: WorkerStart, calls: ProtocolFactory, bulk: ProtocolFactory) -> Worker:
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair(), socket.socketpair()]
        shared = shared_file()
        begun = Begun(shared)
        theirs = [*(pair[1].fileno() for pair in pairs), shared]
        said, log = os.pipe() if start.log is not None else (-1, subprocess.DEVNULL)
        environment = {key: value for key, value in os.environ.items() if key not in SECRETS} | QUIET | start.env
        if "PYTHONPATH" in environment:  # the worker has another working folder
            paths = [str(Path(path).absolute()) for path in environment["PYTHONPATH"].split(os.pathsep) if path]
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(start, theirs),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=theirs,
                start_new_session=True,
                cwd=start.work,
            )
        except BaseException:
            for pair in pairs:
                pair[0].close()
            if start.log is not None:
                os.close(said)
            raise
        finally:
            for pair in pairs:
                pair[1].close()
            os.close(shared)
            if start.log is not None:
                os.close(log)
        pump = Pump(said, LogFile(start.log, size_bytes_max=self._log_bytes_max)) if start.log is not None else None
        for pair, factory in zip(pairs, (calls, bulk), strict=True):
            await loop.create_connection(factory, sock=pair[0])
        return ProcessWorker(process, pump, begun, memory_bytes=start.memory_bytes, sandboxed=self._program() is not None)

    def _program(self) -> str | None:
        return bubblewrap() if self._sandbox else None

    def _command(self, start: WorkerStart, descriptors: list[int]) -> list[str]:
        data_bytes = start.memory_bytes * DATA_FACTOR + DATA_SPARE_BYTES if start.memory_bytes else 0
        command = [
            start.python or sys.executable,
            "-P",  # the working folder must not shadow modules
            "-B",  # nothing is written into a stored folder
            "-m",
            "skerry.agents.worker",
            *(str(descriptor) for descriptor in descriptors),
            str(data_bytes),
        ]
        program = self._program()
        if program is None:
            return command
        return wrapped(command, program=program, home=self._home, private=self._private, readable=start.readable, work=start.work)
