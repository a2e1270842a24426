"""The HTTP server ends clients that never finish what they began."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from skerry.gateway import server as module
from skerry.gateway.server import Server, make_server
from tests.support.polling import async_poll_until


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, int]]:
    app = FastAPI()

    async def hello() -> Response:
        return Response(b"hello")

    async def endless() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield bytes(65536)
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    app.add_api_route("/hello", hello)
    app.add_api_route("/endless", endless)
    server = make_server(app)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        running = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield server, bound.getsockname()[1]
        finally:
            server.should_exit = True
            await running


async def ended(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(5):
        try:
            while await reader.read(65536):
                pass
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("said", [b"", b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_request_that_never_comes_whole_ends(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.2)
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        await ended(reader)
        writer.close()
        await async_poll_until(lambda: not server.server_state.connections)


async def test_a_client_that_comes_in_drips_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.3)
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /hello HTTP/1.1\r\n")

        def drip() -> bool:
            writer.write(b"X: y\r\n")
            return not server.server_state.connections

        await async_poll_until(drip, 5)
        await ended(reader)
        writer.close()


async def test_an_answer_that_nobody_reads_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREAD_S", 0.2)
    async with serving() as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await async_poll_until(lambda: server.server_state.connections, what="it came")
        await async_poll_until(lambda: not server.server_state.connections, what="it was ended")
        await async_poll_until(lambda: not server.server_state.tasks, what="and so was what worked for it")
        writer.transport.abort()


async def test_idle_connections_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 3)
    async with serving() as (server, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        await async_poll_until(lambda: len(server.server_state.connections) == 3)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"hello")
        for _, one in [*idle, (reader, writer)]:
            one.transport.abort()


async def test_a_client_that_asks_again_is_not_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.3)
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.0

        async def ask() -> bool:
            writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                await reader.readuntil(b"hello")
            return loop.time() > until

        await async_poll_until(ask, 10)
        writer.transport.abort()
