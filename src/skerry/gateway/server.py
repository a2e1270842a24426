"""uvicorn, as a node runs it: on a socket that is bound already, quiet, without signals of its own, and gone soon after it is told to.

uvicorn waits for ever for a request that never comes whole, and for a client that never reads its answer. Both end here.

The rule: imported only when somebody asks over HTTP, off the loop's thread, because it brings 55 MiB along.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from skerry.channel.acceptor import Acceptor
from skerry.channel.transports import BACKLOG

CLOSE_S = 1  # for answers under way when the door closes; they have been told to end
LAST_TURNS_S = 0.5  # for what was cut off after that to unwind
HEAD_S = 10.0  # for a request's head to come whole
UNREAD_S = 60.0  # for a client to read enough of its answer that more can be sent
CONNECTIONS_MAX = 512  # above it the oldest that asks nothing ends
KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that they close them, and never ask into one that closes


class Server(uvicorn.Server):
    """Leaves signals to the node, and no connection behind. `tls`: connections are accepted as those of the mesh are, with the same
    bounds for those who don't finish their handshake."""

    def __init__(self, config: uvicorn.Config, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(config)
        self._tls = tls
        self._acceptor: Acceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        self.servers = []
        self._acceptor = Acceptor(list(sockets or []), self._tls, self._connection)
        self.started = True

    def _connection(self) -> asyncio.Protocol:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()  # clients that read nothing any more
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=LAST_TURNS_S)


class Connection(H11Protocol):
    """One client, that has to say and to read something in time."""

    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD_S, self._too_slow)
        if len(self.connections) > CONNECTIONS_MAX:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_asking:
            if self._head is not None:
                self._head.cancel()
                self._head = None
        elif self._head is None:  # the first bytes of a further request
            self._head = self.loop.call_later(HEAD_S, self._too_slow)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_S, self._too_slow)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    @property
    def is_asking(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def ends_at(self) -> float:
        """When its time for a request is over; the longest idle ones are 0."""
        return self._head.when() if self._head is not None else 0.0

    def _make_room(self) -> None:
        idle = [one for one in self.connections if isinstance(one, Connection) and one is not self and not one.is_asking]
        (min(idle, key=lambda one: one.ends_at) if idle else self).transport.abort()

    def _too_slow(self) -> None:
        self.transport.abort()


def make_server(app: FastAPI, *, tls: ssl.SSLContext | None = None) -> Server:
    """A server that `serve(sockets=[...])` runs. Imports all that it needs now."""
    config = uvicorn.Config(
        app,
        http=Connection,
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
    return Server(config, tls=tls)
