"""Ports of loopback, for servers that can't be told to take a free one."""

from __future__ import annotations

import asyncio
import socket

POLL_S = 0.02


def free_port() -> int:
    """One that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def accepts(port: int, *, within_s: float) -> None:
    """Wait until somebody listens there."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_S)
            else:
                writer.close()
                return
