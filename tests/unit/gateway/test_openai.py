"""What OpenAI's API refuses before anybody is asked; what it gives is shown with real agents in tests/e2e."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from skerry.gateway.app import make_app
from skerry.gateway.openai import BODY_BYTES_MAX
from tests.support.node_here import node_here

HELLO = [{"role": "user", "content": "hello"}]


@asynccontextmanager
async def _client(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with node_here(folder) as node:
        transport = httpx.ASGITransport(make_app(node, token=None))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


@pytest.mark.parametrize(
    ("path", "body", "param", "said"),
    [
        ("chat/completions", {"messages": HELLO}, "model", "names no model"),
        ("chat/completions", {"model": 7, "messages": HELLO}, "model", "names no model"),
        ("chat/completions", {"model": "m"}, "messages", "messages is missing"),
        ("chat/completions", {"model": "m", "messages": [{"role": "x"}]}, "messages[0].role", "expected one of"),
        ("chat/completions", {"model": "m", "messages": HELLO, "stream": "yes"}, "stream", "expected true or false"),
        ("embeddings", {"model": "m"}, "input", "input is missing"),
        ("embeddings", {"model": "m", "input": ""}, "input", "at least 1"),
        ("embeddings", {"model": "m", "input": "x", "encoding_format": "hex"}, "encoding_format", "'base64'"),
    ],
)
async def test_a_request_that_does_not_fit_names_its_field(tmp_path: Path, path: str, body: Any, param: str, said: str) -> None:
    async with _client(tmp_path) as client:
        answer = await client.post(f"/v1/{path}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert said in error["message"]


@pytest.mark.parametrize("model", ["gone", "*", "go*", " gone", "g" * 300, "a\nb"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_nobody_offers(tmp_path: Path, model: str, stream: bool) -> None:
    async with _client(tmp_path) as client:
        answer = await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO, "stream": stream})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (404, "model_not_found", "invalid_request_error")
    assert "skerry agent run" in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_what_is_no_json_is_said(tmp_path: Path, body: bytes) -> None:
    async with _client(tmp_path) as client:
        answer = await client.post("/v1/embeddings", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_input")
    assert "JSON" in answer.json()["error"]["message"]


async def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    async with _client(tmp_path) as client:
        answer = await client.post("/v1/embeddings", content=b"x", headers={"content-length": str(BODY_BYTES_MAX + 1)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(("header", "value"), [("X-Skerry-Strategy", "fastest"), ("X-Skerry-Where", "Q4"), ("X-Skerry-Priority", "high")])
async def test_a_wish_that_cannot_be_read_is_refused_by_name(tmp_path: Path, header: str, value: str) -> None:
    async with _client(tmp_path) as client:
        answer = await client.post("/v1/chat/completions", json={"model": "m", "messages": HELLO}, headers={header: value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_input")
    assert value in answer.json()["error"]["message"]
