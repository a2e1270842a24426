"""Who may come in, and what every answer looks like when something is wrong. A real node, and the app without a listener."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from skerry.gateway.app import make_app
from tests.support.node_here import node_here

TOKEN = "a-token"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def _client(folder: Path, *, token: str | None = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    async with node_here(folder) as node:
        transport = httpx.ASGITransport(make_app(node, token=token, hosts={"127.0.0.5"}))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7421") as client:
            yield client


def _error(answer: httpx.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    found: dict[str, Any] = error
    return found


async def test_health_is_told_without_a_token(tmp_path: Path) -> None:
    async with _client(tmp_path) as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True})


async def test_a_node_that_ends_is_alive_but_not_ready(tmp_path: Path) -> None:
    async with node_here(tmp_path) as node:
        transport = httpx.ASGITransport(make_app(node, token=TOKEN))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            node.stopping.set()
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()) == (503, {"ready": False, "reason": "it shuts down"})
            assert (await client.get("/healthz")).status_code == 200


async def test_everything_else_wants_the_token(tmp_path: Path) -> None:
    wrong = [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer"},
    ]
    async with _client(tmp_path) as client:
        for headers in wrong:
            for path in ("/v1/models", "/nowhere", "/v1/chat/completions"):
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, _error(answer)["code"]) == (401, "bad_token"), (path, headers)
                assert "Authorization: Bearer" in _error(answer)["message"]
                assert TOKEN not in answer.text
        for scheme in ("Bearer", "bearer"):
            assert (await client.get("/v1/models", headers={"authorization": f"{scheme} {TOKEN}"})).status_code == 200


async def test_a_door_may_be_open(tmp_path: Path) -> None:
    async with _client(tmp_path, token=None) as client:
        assert (await client.get("/v1/models")).json() == {"object": "list", "data": []}
        assert (await client.get("/v1/models", headers={"origin": "http://evil.example"})).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:7421", "[::1]", "[::1]:9", "127.0.0.5:1"])
async def test_own_hosts_are_answered(tmp_path: Path, host: str) -> None:
    async with _client(tmp_path) as client:
        assert (await client.get("/v1/models", headers={**BEARER, "host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:80@evil.example", "[::1].evil", "", "localhost:x"],
)
async def test_foreign_hosts_are_not(tmp_path: Path, host: str) -> None:
    async with _client(tmp_path) as client:
        for path in ("/v1/models", "/healthz"):
            answer = await client.get(path, headers={**BEARER, "host": host})
            assert (answer.status_code, _error(answer)["code"]) == (403, "foreign_host")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("https://127.0.0.1", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("file://", 403),
        ("http://[::1", 403),
        ("http://me@localhost", 403),
        ("", 403),
    ],
)
async def test_the_origin_must_be_our_own(tmp_path: Path, origin: str, status: int) -> None:
    async with _client(tmp_path) as client:
        assert (await client.get("/v1/models", headers={**BEARER, "origin": origin})).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models/", 405),
    ],
)
async def test_what_is_not_there_is_said_in_json(tmp_path: Path, method: str, path: str, status: int) -> None:
    async with _client(tmp_path) as client:
        answer = await client.request(method, path, headers=BEARER)
        assert answer.status_code == status
        assert f"{method} {path}" in _error(answer)["message"]


async def test_a_bug_is_answered_too(tmp_path: Path) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    async with node_here(tmp_path) as node:
        app = make_app(node, token=TOKEN)
        app.add_api_route("/broken", broken)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER) as client:
            answer = await client.get("/broken")
    assert (answer.status_code, _error(answer)["code"]) == (500, "internal")
    assert "ZeroDivisionError" in _error(answer)["message"]
