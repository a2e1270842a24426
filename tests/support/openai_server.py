"""A small OpenAI-compatible server in a process of its own: what people bring into the mesh, with the faults that such servers have.

`with openai_server() as url:` starts it on a free port. Its models: `echo` answers with what it was told, `slow` never comes to an end,
`broken` fails, `torn` breaks its stream off, `vectors` embeds. `url` + "/.." leads to `/seen`, what it was asked so far.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse

MODELS = ["echo", "slow", "broken", "torn"]
PART_EVERY_S = 0.01


@contextmanager
def openai_server(*, key: str = "", models: list[str] | None = None) -> Iterator[str]:
    """Its base URL, `http://127.0.0.1:PORT/v1`."""
    command = [sys.executable, "-m", "tests.support.openai_server", "--key", key, "--models", ",".join(models or MODELS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port.isdecimal(), "the server did not start: its error stands above"
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def seen(url: str) -> dict[str, Any]:
    """What a server that `openai_server` started has been asked."""
    answer: dict[str, Any] = httpx.get(f"{url.removesuffix('/v1')}/seen", trust_env=False).json()
    return answer


def _app(key: str, models: list[str]) -> Any:
    app = FastAPI()
    log: dict[str, Any] = {"bodies": [], "given_up": 0}

    @app.middleware("http")
    async def check_key(request: Request, call_next: Any) -> Any:
        if key and request.url.path.startswith("/v1") and request.headers.get("authorization") != f"Bearer {key}":
            return JSONResponse({"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}}, 401)
        return await call_next(request)

    @app.get("/seen")
    async def seen_so_far() -> Any:
        return log

    @app.get("/v1/models")
    async def list_models() -> Any:
        return {"object": "list", "data": [{"id": model, "object": "model"} for model in models]}

    @app.get("/moved/v1/models")
    async def moved() -> Any:
        return RedirectResponse("/v1/models")

    @app.get("/page/v1/models")
    async def page() -> Any:
        return HTMLResponse("<html>It works!</html>")

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Any:
        body = await request.json()
        log["bodies"].append(body)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = [{"object": "embedding", "index": index, "embedding": [float(len(text)), 1.0]} for index, text in enumerate(texts)]
        return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 1, "total_tokens": 1}}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        body = await request.json()
        log["bodies"].append(body)
        if body["model"] == "broken":
            return JSONResponse({"error": {"message": "the GPU is on fire", "type": "server_error"}}, 500)
        if body["model"] not in models:
            return JSONResponse({"error": {"message": f"model '{body['model']}' not found"}}, 404)
        if body.get("stream"):
            return StreamingResponse(_parts(body, log), media_type="text/event-stream")
        if body["model"] == "slow":
            await asyncio.Event().wait()
        choice = {"index": 0, "message": {"role": "assistant", "content": _answer(body)}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice], "usage": usage}

    return app


def _answer(body: dict[str, Any]) -> str:
    return f"you said: {body['messages'][-1]['content']}"


async def _parts(body: dict[str, Any], log: dict[str, Any]) -> AsyncIterator[str]:
    def event(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": [choice]}
        return f"data: {json.dumps(chunk)}\r\n\r\n"

    try:
        yield ": a comment\n\n"
        for word in _answer(body).split():
            yield event({"content": f"{word} "})
        if body["model"] == "torn":
            return
        while body["model"] == "slow":
            await asyncio.sleep(PART_EVERY_S)
            yield event({"content": "more "})
        yield event({}, "stop")
        yield "data: [DONE]\n\n"
    except asyncio.CancelledError:
        log["given_up"] += 1
        raise


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser()
    parser.add_argument("--key", default="")
    parser.add_argument("--models", default="")
    options = parser.parse_args()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # before its port is told: whoever comes at once waits until it is served
    server = uvicorn.Server(uvicorn.Config(_app(options.key, options.models.split(",")), log_level="warning"))
    print(listener.getsockname()[1], flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
