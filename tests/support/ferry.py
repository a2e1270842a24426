"""A way between two nodes that a test can spoil: it carries bytes over TCP, until it is told to carry them badly.

It runs in a thread of its own, on loopback, and carries whatever comes to its address to where it leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

T = TypeVar("T")
CHUNK_BYTES = 64 * 1024
START_S = 5.0


class Way(Enum):
    OPEN = "open"
    CLOSED = "nobody listens"
    MUTE = "it accepts and says nothing"
    GARBAGE = "it answers with garbage"
    NO_ANSWERS = "what its dialler says arrives, and no answer comes back"
    NO_ASKS = "nothing that its dialler says arrives"


class Ferry:
    """One direction of dialling: `address` leads to `port`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._way, self._left = Way.OPEN, 0
        self._carried: dict[asyncio.Task[None], None] = {}
        self._frozen: set[asyncio.Task[None]] = set()  # connections that stand, and carry nothing any more
        self._server: asyncio.Server | None = None
        self.taken = 0  # connections
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.own_port = 0
        self._do(self._listen)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.own_port}"

    def become(self, way: Way, *, after: int = 0) -> None:
        """From now on. What is open goes on as the new way is; where nobody listens it is broken. `after`: so many pieces of what is lost
        in one direction still arrive."""

        async def change() -> None:
            self._way, self._left = way, after
            if way is Way.CLOSED:
                await self._hush()
            elif self._server is None:
                await self._listen()

        self._do(change)

    def freeze(self) -> None:
        """The connections that there are carry nothing any more, and nobody is told; new ones do."""

        async def change() -> None:
            self._frozen.update(self._carried)

        self._do(change)

    def close(self) -> None:
        self._do(self._hush)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)
        self._loop.close()

    def _do(self, work: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(START_S)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._came, "127.0.0.1", self.own_port)
        self.own_port = self._server.sockets[0].getsockname()[1]

    async def _hush(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in list(self._carried):
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        task = asyncio.current_task()
        assert task is not None
        self._carried[task] = None
        onward: asyncio.StreamWriter | None = None
        try:
            if self._way is Way.GARBAGE:
                writer.write(b"\x16\x03\x03\x00\x7a" + bytes(range(256)))
            back, onward = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(self._carry(reader, onward, task, False), self._carry(back, writer, task, True))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            del self._carried[task]
            self._frozen.discard(task)
            for end in filter(None, (writer, onward)):
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None], is_answer: bool) -> None:
        is_lost = False
        while data := await reader.read(CHUNK_BYTES):
            if self._way in (Way.MUTE, Way.GARBAGE):
                is_lost = True
            elif self._way is (Way.NO_ANSWERS if is_answer else Way.NO_ASKS):
                is_lost = is_lost or not self._left
                self._left -= not is_lost
            if not is_lost and task not in self._frozen:  # a stream does not go on behind what is missing
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
