"""Nodes as users start them: `skerry up` and `skerry join` as processes, on ports of loopback that the system chooses.

The rule: a process that was started is ended, however the benchmark ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.client.mesh import Mesh, connect
from skerry.errors import SkerryError

SKERRY = (sys.executable, "-m", "skerry.cli.main")
READY_S = 30.0
AGENTS = Path(__file__).with_name("echo_agent.py")
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node that runs. `ready` is its ready line; `ready_s` how long that took from the start of the process."""

    home: Path
    process: asyncio.subprocess.Process
    ready: dict[str, Any]
    ready_s: float

    @property
    def address(self) -> str:
        return f"tcp://{self.ready['listen']}"

    def rss_mib(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the system does not say how much memory the node has")


@contextlib.asynccontextmanager
async def node(home: Path, *, ticket: str = "") -> AsyncIterator[LocalNode]:
    """A node on `home`, founding or joining a formation where the home is new."""
    command = ["join", ticket] if ticket else ["up"]
    options = ["--home", str(home), "--name", home.name, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json"]
    said = home.with_suffix(".log")
    began = time.perf_counter()
    with said.open("ab") as log:
        process = await asyncio.create_subprocess_exec(*SKERRY, *command, *options, stdout=asyncio.subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_S):
            line = await process.stdout.readline()
        ready_s = time.perf_counter() - began
        if not line:
            raise RuntimeError(f"the node on {home} did not start: {said.read_text()}")
        yield LocalNode(home, process, json.loads(line), ready_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(READY_S):
                await process.wait()
        except TimeoutError:
            process.kill()


@contextlib.asynccontextmanager
async def two_nodes(folder: Path, *agents: str) -> AsyncIterator[tuple[LocalNode, LocalNode, Mesh]]:
    """alpha, beta that joined it and hosts the agents of those classes, and a client of alpha."""
    async with node(folder / "alpha") as alpha, node(folder / "beta", ticket=alpha.ready["ticket"]) as beta:
        for agent in agents:
            await run("agent", "run", f"{AGENTS}:{agent}", "--home", str(beta.home))
        async with connect(alpha.home) as mesh:
            yield alpha, beta, mesh


async def answers(mesh: Mesh, capability: str, payload: Any) -> None:
    """Wait until a capability can be called: records take a moment to get there."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                await mesh.call(capability, payload)
            except SkerryError:
                await asyncio.sleep(POLL_S)
            else:
                return


async def run(*arguments: str) -> float:
    """One `skerry` command; how long it took, in seconds."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*SKERRY, *arguments, stdout=asyncio.subprocess.DEVNULL, env=os.environ)
    status = await process.wait()
    if status:
        raise RuntimeError(f"skerry {' '.join(arguments)} failed with {status}; its error stands above")
    return time.perf_counter() - began
