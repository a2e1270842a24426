"""The nodes of `skerry demo`: real processes of this very program, started, killed and ended by their process ids; and what they host.

Each has a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which then ends them in order.

The rule: whatever was started here is ended here; nothing is ended that was not started here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skerry.agents.verbs import AgentInfo, AgentRunRequest
from skerry.client.mesh import connect
from skerry.errors import Code, SkerryError, Unreachable
from skerry.routing.verbs import CapabilityList, CapabilityQuery

READY_S = 20.0  # a node is ready in about one second; a machine that is busy may need longer
HOST_S = 60.0  # to copy and load a model on a machine that is busy
KNOWN_S = 10.0  # for news of an agent to reach a node
END_S = 6.0  # in order: agents, connections, HTTP door; then it is killed
POLL_S = 0.01
SETTINGS = ("SKERRY_", "NOTIFY_SOCKET")  # of the environment: of a node that this user may have besides
KEPT = frozenset({"SKERRY_DEBUG"})
TAIL_LINES = 12  # of a node's stderr, where something went wrong


class DemoNode:
    """One node: its process, its home `<folder>/<name>`, and what it said when it was ready."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.home = folder / name
        self.ready: dict[str, Any] = {}
        self.ready_ms = 0.0
        self._out = folder / f"{name}.out"
        self._err = folder / f"{name}.err"
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0

    @property
    def id(self) -> str:
        return str(self.ready["node_id"])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        """Whether its process has ended after that time at the latest."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def start(self, *command: str, listen: str) -> None:
        """`up`, or `join` and a ticket. Its stdout, which holds secrets, goes to a file in the demo's own folder."""
        words = [sys.executable, "-P", "-m", "skerry.cli.main", *command, "--home", str(self.home), "--name", self.name]
        words += ["--listen", listen, "--http", "127.0.0.1:0", "-o", "json"]
        self.ready = {}
        self._started_s = time.perf_counter()
        out = os.open(self._out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        err = os.open(self._err, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment(), start_new_session=True
            )
        finally:
            os.close(out)
            os.close(err)

    async def until_ready(self) -> None:
        """Raises SkerryError with the node's own reason where it does not come up."""
        end = time.monotonic() + READY_S
        while True:
            ended = not self.running  # asked first: what it wrote before it ended is read below
            first, newline, _ = self._out.read_text().partition("\n")
            said = json.loads(first) if newline else {}
            if said.get("event") == "ready":
                self.ready = said
                self.ready_ms = (time.perf_counter() - self._started_s) * 1000
                return
            if "error" in said:
                error = said["error"]
                raise SkerryError(f"{self.name} did not start: {error['message']}", code=error["code"], hint=error["hint"])
            if ended:
                raise Unreachable(f"{self.name} ended before it was ready", hint="its last words stand below")
            if time.monotonic() > end:
                raise Unreachable(f"{self.name} was not ready within {READY_S:g} s", code=Code.DEADLINE_EXCEEDED)
            await asyncio.sleep(POLL_S)

    async def host(self, target: str, capability: str, options: dict[str, str]) -> AgentInfo:
        """As `skerry agent run` does. `capability` "": as the agent says; else it names the agent too."""
        name = capability.partition(":")[2]
        request = AgentRunRequest(target, name=name, capabilities=[capability] if capability else [], options=dict(options))
        async with connect(self.home) as mesh:
            return await mesh.ask("agent.run", request, AgentInfo, timeout=HOST_S)

    async def until_known(self, wanted: set[tuple[str, str]]) -> None:
        """Wait until this node knows of all these (capability, node) and can reach them."""
        end = time.monotonic() + KNOWN_S
        async with connect(self.home) as mesh:
            while True:
                found = await mesh.ask("capability.list", CapabilityQuery(), CapabilityList)
                missing = wanted - {(info.capability, info.node_name) for info in found.capabilities if info.reachable}
                if not missing:
                    return
                if time.monotonic() > end:
                    what = ", ".join(f"{capability} on {where}" for capability, where in sorted(missing))
                    raise SkerryError(f"{self.name} does not see {what}", code=Code.UNKNOWN_CAPABILITY)
                await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """`kill -9`, and wait for the system to have done it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to end in order, as `skerry down` does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        try:
            return "\n".join(self._err.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        except OSError:
            return ""


def _environment() -> dict[str, str]:
    """Ours, without what settles or reports another node; the log in words, because its end may be shown to people."""
    ours = {key: value for key, value in os.environ.items() if key in KEPT or not key.startswith(SETTINGS)}
    return ours | {"SKERRY_LOG_FORMAT": "human"}


async def end_all(nodes: Iterable[DemoNode]) -> list[str]:
    """End those that run, in order; returns the names of those that had to be killed."""
    running = [node for node in nodes if node.running]
    for node in running:
        node.terminate()
    end = time.monotonic() + END_S
    stuck = running
    while stuck and time.monotonic() < end:
        await asyncio.sleep(POLL_S)
        stuck = [node for node in stuck if node.running]
    for node in stuck:
        node.kill()
    return [node.name for node in stuck]
