"""Others that do requests, where they are installed: NATS (`nats-server` on the path, `pip install nats-py`) and Ray (`pip install ray`).

Neither routes here; NATS hands messages on, over TLS; Ray calls an actor in another process, and does not encrypt.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from benchmarks import nats_peer

Ask = Callable[[Any], Awaitable[object]]


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


PEERS = (
    PeerSystem("nats", nats_peer.missing(), nats_peer.calls),
    PeerSystem("ray", "" if importlib.util.find_spec("ray") else "pip install ray", _ray),
)
