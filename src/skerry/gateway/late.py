"""A listener for HTTP: open from the start, paid for when somebody comes.

FastAPI and uvicorn nearly double what a node weighs, and many nodes are never asked over HTTP. So a door only binds and listens; the
first connection, which waits in the kernel meanwhile, has them imported in a thread and the socket handed over.

The rule: this module imports nothing that HTTP needs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING

from skerry.channel.address import Address
from skerry.channel.transports import BACKLOG, listen_error

if TYPE_CHECKING:
    from fastapi import FastAPI

    from skerry.gateway.server import Server
    from skerry.node.node import Node

log = logging.getLogger(__name__)


class LateDoor:
    """One listener. `open` it once, then `close` it; closing one that never opened is fine.

    key       under which its warning stands; what: its name, for people
    scheme    "http" or "https", for people; TLS is the server's that `_load` makes
    """

    key = "door"
    what = "the door"
    scheme = "http"

    def __init__(self, node: Node, *, host: str, port: int) -> None:
        self._node = node
        self._host = host
        self._port = port
        self._bound = ""
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        self._server: Server | None = None
        self._app: FastAPI | None = None

    async def open(self) -> str:
        """Bind and listen; returns the bound "HOST:PORT". Raises UsageError(port_in_use | bad_input)."""
        address = Address("tcp", self._host, self._port).host_port
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, place = found[0]
            self._check(str(place[0]), address)
            self._socket = _listening(family, place)
        except OSError as error:
            raise listen_error(f"{self.scheme}://{address}", error) from error
        bound = self._socket.getsockname()
        self._bound = bound[0]
        loop.add_reader(self._socket, self._first_caller)
        return Address("tcp", bound[0], bound[1]).host_port

    async def close(self) -> None:
        """Accept no more, end what is being worked on, within two seconds."""
        if self._socket is None:
            return
        if self._serving is None:
            asyncio.get_running_loop().remove_reader(self._socket)
        elif self._server is None or self._app is None:
            self._serving.cancel()  # while it loads
        else:
            self._app.state.exchanges.close()
            self._server.should_exit = True
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)
        self._socket.close()
        self._socket = None

    def _first_caller(self) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        self._serving = loop.create_task(self._serve(self._socket))

    async def _serve(self, listening: socket.socket) -> None:
        try:
            self._app, server = await asyncio.to_thread(self._load)
            self._server = server
            await server.serve(sockets=[listening])
        except Exception as error:  # whatever is wrong with HTTP, the node serves on without it
            log.exception("%s can't serve", self.what)
            self._node.warnings[self.key] = f"{self.what} is shut: {type(error).__name__}: {error}"
            listening.close()  # so that callers are refused, and don't wait

    def _check(self, bound: str, address: str) -> None:
        """Raises UsageError where it may not open at that address."""

    def _load(self) -> tuple[FastAPI, Server]:
        """The app and its server: the heavy part, off the loop's thread."""
        raise AssertionError("each door has its own")


def _listening(family: int, place: tuple[object, ...]) -> socket.socket:
    # The protocol must be named: asyncio turns Nagle's delay (40 ms on every answer) off only where it sees TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a node that restarts finds its port free
        listening.bind(place)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
