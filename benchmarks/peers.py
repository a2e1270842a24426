"""Others that do requests, where they are installed: NATS (`nats-server` on the path, `pip install nats-py`) and Ray (`pip install ray`).

Neither encrypts nor routes here; NATS hands messages on, Ray calls an actor in another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import cbor2

Ask = Callable[[Any], Awaitable[object]]
START_S = 15.0


@dataclass(frozen=True, slots=True)
class PeerSystem:
    """`missing` says what to install where it can't be measured."""

    name: str
    missing: str
    open: Callable[[], AbstractAsyncContextManager[Ask]]


def installed() -> list[PeerSystem]:
    """Those that can be measured; a line on stderr for each that can't."""
    for peer in PEERS:
        if peer.missing:
            print(f"{peer.name} is not measured: {peer.missing}", file=sys.stderr)
    return [peer for peer in PEERS if not peer.missing]


@contextlib.asynccontextmanager
async def _nats() -> AsyncIterator[Ask]:
    import nats  # only where it was asked for

    port = free_port()
    processes = [await asyncio.create_subprocess_exec("nats-server", "-a", "127.0.0.1", "-p", str(port), stderr=asyncio.subprocess.DEVNULL)]
    try:
        await _accepts(port)
        url = f"nats://127.0.0.1:{port}"
        responder = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.nats_responder", url, stdout=asyncio.subprocess.PIPE
        )
        processes.append(responder)
        assert responder.stdout is not None
        async with asyncio.timeout(START_S):
            await responder.stdout.readline()
        client = await nats.connect(url)

        async def ask(payload: Any) -> object:
            reply = await client.request("echo", cbor2.dumps(payload), timeout=START_S)
            return cbor2.loads(reply.data)

        yield ask
        await client.close()
    finally:
        for process in reversed(processes):
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def _ray() -> AsyncIterator[Ask]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when it is imported: else it reports to its makers
    import ray  # only where it was asked for

    class Echo:
        async def echo(self, payload: Any) -> Any:
            return payload

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    try:
        actor = ray.remote(Echo).remote()

        async def ask(payload: Any) -> object:
            return await actor.echo.remote(payload)

        await ask(None)
        yield ask
    finally:
        ray.shutdown()


def free_port() -> int:
    """One of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _accepts(port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def _nats_missing() -> str:
    if shutil.which("nats-server") is None:
        return "there is no nats-server on the path"
    return "" if importlib.util.find_spec("nats") else "pip install nats-py"


PEERS = (
    PeerSystem("nats", _nats_missing(), _nats),
    PeerSystem("ray", "" if importlib.util.find_spec("ray") else "pip install ray", _ray),
)
