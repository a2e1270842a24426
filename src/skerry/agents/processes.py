"""The real executor: one process per agent, in a session of its own, holding two inherited sockets.

The rule: a worker gets its two sockets, its log and its environment, and nothing else of the node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys

from skerry.ports import ProtocolFactory, Worker, WorkerStart

SECRETS = ("SKERRY_TOKEN", "SKERRY_TICKET")  # never handed to agents


class ProcessWorker:
    """A worker process, leader of its own process group."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        return await self._process.wait()


class ProcessExecutor:
    """Starts workers with this very interpreter."""

    async def spawn(self, start: WorkerStart, calls: ProtocolFactory, bulk: ProtocolFactory) -> Worker:
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair(), socket.socketpair()]
        theirs = [pair[1] for pair in pairs]
        log = os.open(start.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if start.log is not None else subprocess.DEVNULL
        environment = {key: value for key, value in os.environ.items() if key not in SECRETS} | start.env
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the working folder must not shadow modules
                "-B",  # nothing is written into a stored folder
                "-m",
                "skerry.agents.worker",
                *(str(end.fileno()) for end in theirs),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[end.fileno() for end in theirs],
                start_new_session=True,
            )
        except BaseException:
            for pair in pairs:
                pair[0].close()
            raise
        finally:
            for end in theirs:
                end.close()
            if start.log is not None:
                os.close(log)
        for pair, factory in zip(pairs, (calls, bulk), strict=True):
            await loop.create_connection(factory, sock=pair[0])
        return ProcessWorker(process)
