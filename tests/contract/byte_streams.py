"""For tests of networks: a protocol that writes down what happens to it and checks the transport's manners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WAIT_S = 10.0


class Recorder(asyncio.Protocol):
    """Keeps what arrives, and fails when a callback comes out of order, twice, or inside another one."""

    def __init__(self, *, echo: bool = False) -> None:
        self.transport: asyncio.Transport
        self.received = bytearray()
        self.reads = 0
        self.is_made = False
        self.has_ended = False
        self.is_writing_paused = False
        self.losses: list[Exception | None] = []
        self._heir: Recorder | None = None
        self._is_let_go = False
        self._echo = echo
        self._is_inside = False
        self._news = asyncio.Event()

    @property
    def is_lost(self) -> bool:
        return bool(self.losses)

    @property
    def is_over(self) -> bool:
        return self._is_let_go or (self.is_lost if self._heir is None else self._heir.is_over)

    def is_followed_by(self, heir: Recorder | None) -> None:
        """Somebody else took the connection; it is over when theirs is, or was (None)."""
        self._is_let_go = heir is None
        self._heir = heir

    def hand_over(self, heir: Recorder) -> None:
        self._heir = heir
        heir.connection_made(self.transport)
        self.transport.set_protocol(heir)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        assert not self.is_made, "connection_made came twice"
        self.is_made = True
        self.transport = transport
        self._news.set()

    def data_received(self, data: bytes) -> None:
        self._check_alive("data_received")
        assert data, "an empty read"
        assert not self._is_inside, "data_received inside data_received"
        self._is_inside = True
        self.received += data
        self.reads += 1
        if self._echo:
            self.transport.write(data)
        self._is_inside = False
        self._news.set()

    def eof_received(self) -> bool | None:
        self._check_alive("eof_received")
        assert not self.has_ended, "eof_received came twice"
        self.has_ended = True
        self._news.set()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._check_alive("connection_lost")
        self.losses.append(exc)
        self._news.set()

    def pause_writing(self) -> None:
        self._check_alive("pause_writing")
        assert not self.is_writing_paused, "pause_writing came twice"
        self.is_writing_paused = True

    def resume_writing(self) -> None:
        self._check_alive("resume_writing")
        assert self.is_writing_paused, "resume_writing without pause_writing"
        self.is_writing_paused = False
        self._news.set()

    async def until(self, is_so: Callable[[Recorder], bool]) -> None:
        """Until what happened to this protocol makes `is_so` true."""
        async with asyncio.timeout(WAIT_S):
            while not is_so(self):
                self._news.clear()
                await self._news.wait()

    def _check_alive(self, what: str) -> None:
        assert self.is_made, f"{what} before connection_made"
        assert not self.losses, f"{what} after connection_lost"


class Arrivals:
    """A factory for listeners that keeps the protocols it made."""

    def __init__(self, *, echo: bool = False) -> None:
        self.made: list[Recorder] = []
        self._echo = echo
        self._news = asyncio.Event()

    def __call__(self) -> Recorder:
        self.made.append(Recorder(echo=self._echo))
        self._news.set()
        return self.made[-1]

    async def until(self, number: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.made) < number:
                self._news.clear()
                await self._news.wait()

    async def first(self) -> Recorder:
        await self.until(1)
        await self.made[0].until(lambda it: it.is_made)
        return self.made[0]
