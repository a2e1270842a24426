"""TLS through a pipe, as far as a simulation needs it: one round trip, and then the dialler knows whose key answers.

It lies over an `End` as the real one lies over a connection, and keeps its manners. What is not simulated is the encryption: that a relay
can't read or alter what it forwards is for the tests of the real network to show.

The rule: what it proves is what the other end itself said, never what the world knows.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from skerry.errors import Unreachable
from skerry.ports import ProtocolFactory, Security
from skerry.sim.stream import End

_HELLO = b"\x16"
KEY_BYTES = 32


class Secured(asyncio.Transport, asyncio.Protocol):
    """A protocol to the connection under it, a transport to the one above it."""

    def __init__(self, under: End, factory: ProtocolFactory, *, key: bytes, listener: bool) -> None:
        super().__init__()
        self.host = under.host
        self.security = Security("tcp", None, binding_of(key), False) if listener else under.security
        self.done: asyncio.Future[asyncio.Protocol] = asyncio.get_running_loop().create_future()
        self._under = under
        self._factory = factory
        self._key = key
        self._is_listener = listener
        self._first = b""  # what came before it was made
        self._protocol: asyncio.Protocol | None = None
        under.set_protocol(self)
        if not listener:
            under.write(_HELLO)

    # --- what the connection under it says ----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._protocol is not None:
            self._protocol.data_received(data)
            return
        self._first += data
        size = len(_HELLO) if self._is_listener else KEY_BYTES
        if len(self._first) < size:
            return
        said, rest = self._first[:size], self._first[size:]
        if self._is_listener:
            if said != _HELLO:
                self._under.abort()
                return
            self._under.write(self._key)
        else:
            self.security = Security("tcp", said, binding_of(said), False)
        self._protocol = self._factory()
        self._protocol.connection_made(self)
        if not self.done.done():
            self.done.set_result(self._protocol)
        if rest:
            self._protocol.data_received(rest)

    def eof_received(self) -> None:
        if self._protocol is not None:
            self._protocol.eof_received()

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(Unreachable("the other end of the pipe has gone", hint="try again"))
        if self._protocol is not None:
            self._protocol.connection_lost(exc)

    # --- what the protocol above it calls -----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._under.write(data)

    def close(self) -> None:
        self._under.close()

    def abort(self) -> None:
        self._under.abort()

    def is_closing(self) -> bool:
        return self._under.is_closing()

    def pause_reading(self) -> None:
        self._under.pause_reading()

    def resume_reading(self) -> None:
        self._under.resume_reading()

    def is_reading(self) -> bool:
        return self._under.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._under.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._under.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._under.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol


def binding_of(key: bytes) -> bytes:
    """What both ends of a connection see of the listener's certificate."""
    return hashlib.sha256(b"certificate of " + key).digest()
