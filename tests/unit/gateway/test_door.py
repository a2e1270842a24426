"""The listener: light until somebody comes, on loopback alone, gone soon after it is told to."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from skerry.errors import Code, UsageError
from skerry.gateway.door import HttpDoor
from skerry.node.node import Node
from tests.support import async_poll_until
from tests.support.node_here import node_here

CLOSE_S = 2.0
HEAVY = "{'fastapi', 'starlette', 'uvicorn', 'pydantic', 'h11'}"
COLD = f"""
import asyncio, pathlib, sys
from skerry.gateway.door import HttpDoor
from tests.support.node_here import node_here

async def main():
    async with node_here(pathlib.Path(sys.argv[1])) as node:
        door = HttpDoor(node, host="127.0.0.1", port=0, token="t")
        host, port = (await door.open()).rsplit(":", 1)
        print(sorted({HEAVY} & set(sys.modules)))
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n")
        print((await reader.readline()).decode().strip())
        print(sorted({HEAVY} & set(sys.modules)) != [])
        writer.close()
        await door.close()

asyncio.run(main())
"""


def _door(node: Node, host: str = "127.0.0.1", port: int = 0) -> HttpDoor:
    return HttpDoor(node, host=host, port=port, token="t")


async def _close_promptly(door: HttpDoor) -> None:
    async with asyncio.timeout(CLOSE_S):
        await door.close()


async def _status(place: str, path: str = "/healthz") -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://{place}{path}")).status_code


def test_http_is_loaded_for_the_first_caller_and_not_before(tmp_path: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", COLD, str(tmp_path)], capture_output=True, text=True, timeout=50, check=False)
    assert answer.stdout.splitlines() == ["[]", "HTTP/1.1 200 OK", "True"], answer.stderr


async def test_many_first_callers_are_all_answered(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        door = _door(node)
        place = await door.open()
        assert set(await asyncio.gather(*(_status(place) for _ in range(20)))) == {200}
        assert await _status(place, "/v1/models") == 401
        await _close_promptly(door)
        with pytest.raises(httpx.ConnectError):
            await _status(place)


async def test_an_answer_does_not_wait_for_the_clients_acknowledgement(tmp_path: Path) -> None:
    """Head and body leave in two pieces; with Nagle's algorithm the second waits for a delayed ACK, 40 ms at least."""
    async with node_here(tmp_path) as node:
        door = _door(node)
        place = await door.open()
        took_s = []
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(15):
                started = time.perf_counter()
                assert (await client.get(f"http://{place}/healthz")).status_code == 200
                took_s.append(time.perf_counter() - started)
        assert sorted(took_s)[len(took_s) // 2] < 0.035
        await _close_promptly(door)


@pytest.mark.parametrize(("host", "bound"), [("localhost", "127.0.0.1:"), ("127.0.0.5", "127.0.0.5:")])
async def test_it_opens_on_loopback(tmp_path: Path, host: str, bound: str) -> None:
    async with node_here(tmp_path) as node:
        door = _door(node, host)
        place = await door.open()
        assert place.startswith((bound, "[::1]:"))
        assert await _status(place) == 200
        await _close_promptly(door)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_it_opens_nowhere_else(tmp_path: Path, host: str) -> None:
    async with node_here(tmp_path) as node:
        door = _door(node, host)
        with pytest.raises(UsageError, match="loopback") as refusal:
            await door.open()
        assert refusal.value.code == Code.BAD_INPUT
        await _close_promptly(door)


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        first = _door(node)
        place = await first.open()
        second = _door(node, port=int(place.rpartition(":")[2]))
        with pytest.raises(UsageError, match=place) as refusal:
            await second.open()
        assert refusal.value.code == Code.PORT_IN_USE
        await _close_promptly(second)
        await _close_promptly(first)


async def test_a_door_that_nobody_used_closes(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        door = _door(node)
        place = await door.open()
        await _close_promptly(door)
        with pytest.raises(httpx.ConnectError):
            await _status(place)


async def test_it_closes_while_its_first_caller_waits(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        door = _door(node)
        host, _, port = (await door.open()).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await asyncio.sleep(0)
        await _close_promptly(door)
        writer.close()
        assert reader is not None


async def test_it_closes_with_connections_open(tmp_path: Path) -> None:
    """One that is kept alive, one that never said a word, one in the midst of its head."""
    async with node_here(tmp_path) as node:
        door = _door(node)
        host, _, port = (await door.open()).rpartition(":")
        assert await _status(f"{host}:{port}") == 200
        ends = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        ends[0][1].write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        ends[1][1].write(b"GET /hea")
        assert await ends[0][0].readline() == b"HTTP/1.1 200 OK\r\n"
        await _close_promptly(door)
        for reader, writer in ends:
            await asyncio.wait_for(reader.read(), CLOSE_S)
            assert reader.at_eof()
            writer.close()


async def test_a_door_that_cannot_serve_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skerry.gateway.server", None)  # importing it raises
    async with node_here(tmp_path) as node:
        door = _door(node)
        host, _, port = (await door.open()).rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        await async_poll_until(lambda: "http" in node.warnings)
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection(host, int(port))
        writer.close()
        await _close_promptly(door)
