"""Accepts TLS connections: a few at a time, not more often and not more at once than strangers may.

asyncio's own server takes the whole backlog in one turn of the loop and starts a TLS handshake for each, as many as there are; until
one is done nobody else counts it. Here who comes too often is shut out before the handshake costs anything, the handshakes under way
are counted by address, and between two handfuls everybody else has a turn.

The rule: a connection that has not finished its TLS handshake costs a place among few, and for five seconds at most.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

from skerry.channel.admission import Crowd, Quota
from skerry.ports import ProtocolFactory

HANDSHAKES_MAX = 256  # TLS handshakes under way: 20 MiB
HANDSHAKES_EACH_MAX = 64  # from one address, behind which may be a whole house
ARRIVALS_AT_ONCE = 256  # from one address: a formation of 200 nodes on one machine that all start
ARRIVALS_PER_S = 20.0  # from then on: a handshake takes 1.5 ms, so one address costs 3 % of a processor
ACCEPTED_PER_TURN = 4  # 6 ms of handshakes between two turns of everybody else
NO_ROOM_S = 0.5  # before trying again where the system has no file left for a connection
UNREAD_BYTES = 256 * 1024  # that the system keeps beyond what a peer's window takes; its own 4 MiB for each who reads nothing nobody sees
TLS_TIMEOUT_S = 5.0  # asyncio's own is 60
TLS_END_S = 1.0  # to say goodbye
log = logging.getLogger(__name__)


class Acceptor:
    """Bound sockets whose connections become `factory`'s protocols once TLS is through."""

    def __init__(self, sockets: list[socket.socket], context: ssl.SSLContext, factory: ProtocolFactory) -> None:
        self._sockets = sockets
        self._context = context
        self._factory = factory
        self._arrivals = Quota(at_once=ARRIVALS_AT_ONCE, per_s=ARRIVALS_PER_S)
        self._under_way: Crowd[asyncio.Task[None]] = Crowd(most=HANDSHAKES_MAX, most_each=HANDSHAKES_EACH_MAX)
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._not_begun: set[socket.socket] = set()  # no transport has them yet, so that nobody else closes them
        for listening in sockets:
            self._loop.add_reader(listening, self._accept, listening)

    @property
    def handshakes(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    def close(self) -> None:
        """Accept no more. Handshakes under way come to their end, for a dialler may be through with his already."""
        sockets, self._sockets = self._sockets, []
        for listening in sockets:
            pause = self._pauses.pop(listening, None)
            if pause is not None:
                pause.cancel()
            self._loop.remove_reader(listening)
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_PER_TURN):
            try:
                connection, place = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no file, no memory: what is open goes on, and the others wait in the kernel
                log.warning("no connection can be accepted for a moment: %s", error.strerror or error)
                self._loop.remove_reader(listening)
                self._pauses[listening] = self._loop.call_later(NO_ROOM_S, self._resume, listening)
                return
            self._came(connection, str(place[0]))

    def _resume(self, listening: socket.socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept, listening)

    def _came(self, connection: socket.socket, address: str) -> None:
        if not self._arrivals.take(address, now=self._loop.time()):
            connection.close()
            return
        connection.setblocking(False)
        self._not_begun.add(connection)
        task = self._loop.create_task(self._shake_hands(connection))
        task.add_done_callback(lambda done: self._done(done, connection))
        goes = self._under_way.enter(task, address)
        if goes is not None:
            goes.cancel()

    async def _shake_hands(self, connection: socket.socket) -> None:
        self._not_begun.discard(connection)
        await self._loop.connect_accepted_socket(
            self._factory, connection, ssl=self._context, ssl_handshake_timeout=TLS_TIMEOUT_S, ssl_shutdown_timeout=TLS_END_S
        )

    def _done(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        self._under_way.leave(task)
        if connection in self._not_begun:
            self._not_begun.discard(connection)
            connection.close()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, OSError):  # TLS's own errors are, too
            log.debug("a TLS handshake failed: %s", error)
        elif error is not None:
            raise error


async def bind(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """Sockets that listen at every address of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, place in dict.fromkeys(found):
            # The protocol must be named: asyncio turns Nagle's delay (40 ms on every answer) off only where it sees TCP.
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound_unread(listening)  # those that are accepted inherit it
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(place)
            listening.listen(backlog)
            listening.setblocking(False)
    except OSError:
        for listening in sockets:
            listening.close()
        raise
    return sockets


def bound_unread(connection: socket.socket) -> None:
    """Let the system keep little for a peer that does not read. SO_SNDBUF would also bound what is under way to a reader far away."""
    unsent_low: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if unsent_low is not None:
        connection.setsockopt(socket.IPPROTO_TCP, unsent_low, UNREAD_BYTES)
