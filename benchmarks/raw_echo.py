"""What the language itself allows: the least code that does a request over TLS 1.3 and CBOR with asyncio, and nothing else.

No identity, no routing, no deadlines, one process where Skerry crosses four. It is the ruler, not a rival.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cbor2

from benchmarks.self_signed import dialling_context, pem

START_S = 10.0


class Frames(asyncio.Protocol):
    """Length-prefixed CBOR arrays; what is sent in one turn of the loop leaves in one write."""

    def __init__(self) -> None:
        self._held = b""
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        data, start = self._held + data, 0
        while len(data) - start >= 4:
            end = start + 4 + int.from_bytes(data[start : start + 4], "big")
            if end > len(data):
                break
            self.came(cbor2.loads(data[start + 4 : end]))
            start = end
        self._held = data[start:]

    def send(self, frame: list[Any]) -> None:
        body = cbor2.dumps(frame)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += (len(body).to_bytes(4, "big"), body)

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def came(self, frame: list[Any]) -> None:
        self.send(frame)


class Client(Frames):
    """Asks; many calls at once."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last = 0

    async def call(self, payload: Any) -> Any:
        self._last += 1
        waiting = self._waiting[self._last] = self._loop.create_future()
        self.send([self._last, payload])
        return await waiting

    def came(self, frame: list[Any]) -> None:
        self._waiting.pop(frame[0]).set_result(frame[1])

    def close(self) -> None:
        self._transport.close()


@contextlib.asynccontextmanager
async def raw_echo() -> AsyncIterator[Client]:
    """A client of an echo server in another process."""
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            port = int(await server.stdout.readline())
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port, ssl=dialling_context())
        yield client
        client.close()
    finally:
        server.kill()
        await server.wait()


def _listening_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "echo.pem"
        file.write_bytes(pem())
        context.load_cert_chain(file)
    return context


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Frames, "127.0.0.1", 0, ssl=_listening_context())
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
