"""Real nodes for tests: one in this process, or one as a process of its own, started as a user starts it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.agents.processes import ProcessExecutor
from skerry.agents.verbs import AgentInfo, AgentRunRequest, LogsReply, LogsRequest
from skerry.channel.https import RealHttp
from skerry.channel.transports import RealNetwork
from skerry.client.here import SystemClock, SystemRandom
from skerry.client.mesh import connect
from skerry.identity.contacts import FILE_NAME as CONTACTS_FILE
from skerry.node import membership
from skerry.node.home import FileBlobs, FileKeyring, Home, node_key
from skerry.node.node import Node
from skerry.node.owners_file import TextFile
from skerry.node.settings import Settings
from skerry.ports import Ports
from skerry.records.store import SqliteStore

END_TIMEOUT_S = 10.0
START_AGENT_TIMEOUT_S = 30.0


@asynccontextmanager
async def node_here(folder: Path, *, name: str = "here", **options: Any) -> AsyncIterator[Node]:
    """A node over real ports in this process, founder of a formation of its own; its home is `folder`.
    `options` are further settings."""
    home = Home(folder)
    home.make()
    keyring = FileKeyring(home.path)
    key = node_key(keyring)
    store = SqliteStore(home.database)
    ports = Ports(
        clock=SystemClock(),
        random=SystemRandom(),
        network=RealNetwork(key),
        store=store,
        keyring=keyring,
        blobs=FileBlobs(home.blobs),
        executor=ProcessExecutor(),
        http=RealHttp(),
        contacts=TextFile(home.path / CONTACTS_FILE),
    )
    try:
        formation = membership.found(ports, key)
        settings = Settings(name=name, listen=("tcp://127.0.0.1:0",), logs=home.logs, **options)
        node = Node(ports, settings, key=key, formation=formation, seeds={})
        await node.start()
        try:
            yield node
        finally:
            await node.close()
    finally:
        store.close()


@dataclass(frozen=True)
class RunningNode:
    """A node in a process of its own. `ready` is its ready line."""

    process: subprocess.Popen[str]
    home: Path
    ready: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://{self.ready['http']}"

    def run_agents(self, *targets: str) -> list[AgentInfo]:
        """Host agents on it, `FILE.py:Class` each, all at once."""

        async def run() -> list[AgentInfo]:
            async with connect(self.home) as mesh:
                asked = [mesh.ask("agent.run", AgentRunRequest(target), AgentInfo, timeout=START_AGENT_TIMEOUT_S) for target in targets]
                return await asyncio.gather(*asked)

        return asyncio.run(run())

    def log_of(self, agent: str) -> str:
        """The end of what an agent of it wrote."""

        async def ask() -> str:
            async with connect(self.home) as mesh:
                return (await mesh.ask("agent.logs", LogsRequest(agent), LogsReply)).text

        return asyncio.run(ask())


@contextmanager
def running_node(home: Path, *options: str) -> Iterator[RunningNode]:
    """`skerry up` on free ports. What it says on stderr is shown where a test fails."""
    command = [sys.executable, "-m", "skerry.cli.main", "up", "--home", str(home)]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "-o", "json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the node did not start: its error stands above"
        yield RunningNode(process, home, json.loads(line))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
