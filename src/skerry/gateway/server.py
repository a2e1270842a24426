"""uvicorn, as a node runs it: on a socket that is bound already, quiet, without signals of its own, and gone soon after it is told to.

The rule: imported only when somebody asks over HTTP, off the loop's thread, because it brings 55 MiB along.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from skerry.channel.transports import BACKLOG

CLOSE_S = 1  # for answers under way when the door closes; they have been told to end
LAST_TURNS_S = 0.5  # for what was cut off after that to unwind
KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that they close them, and never ask into one that closes


class Server(uvicorn.Server):
    """Leaves signals to the node, and no connection behind."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()  # clients that read nothing any more
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=LAST_TURNS_S)


def make_server(app: FastAPI) -> Server:
    """A server that `serve(sockets=[...])` runs. Imports all that it needs now."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        loop="none",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks where a client is
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_S,
        backlog=BACKLOG,
    )
    config.load()
    return Server(config)
