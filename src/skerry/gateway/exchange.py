"""One HTTP request and its answer, as every dialect here needs it: a bounded body in, JSON or server-sent events out.

Work is done only while somebody waits for it: when the client hangs up, or the door closes, what runs for it is cancelled, in the mesh
too. A stream is pulled one event at a time, and each waits until the client has room, so that nothing piles up here.

The rule: every request ends with an answer, with an error that a program can read, or with its client gone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from skerry.errors import Code, Refused, SkerryError, Unreachable, UsageError, meaning
from skerry.gateway.answers import error_object

BODY_TIMEOUT_S = 60.0  # for a client to send its whole body; 64 MiB over loopback take a second
RETRY_AFTER_S = 1  # what a caller is told at least when all are busy
DONE = b"data: [DONE]\n\n"


class Exchanges:
    """The requests that are being worked on. `close` ends them all."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self._closing = False

    @asynccontextmanager
    async def while_wanted(self, receive: Receive) -> AsyncIterator[None]:
        """Cancel what is inside when the client hangs up (ClientDisconnect) or the door closes (Refused). The body must be read."""
        if self._closing:
            raise _closing()
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)  # no time limit: its way of cancelling just this block is what we need
        try:
            async with limit:
                watcher = loop.create_task(_watch(receive, limit))
                self._open.add(limit)
                try:
                    yield
                finally:
                    self._open.discard(limit)
                    watcher.cancel()
        except TimeoutError:
            if not limit.expired():
                raise
            raise (_closing() if self._closing else ClientDisconnect()) from None

    def close(self) -> None:
        self._closing = True
        for limit in self._open:
            _end(limit)


async def _watch(receive: Receive, limit: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # nothing but a disconnect may follow the body
    _end(limit)


def _end(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())


def _closing() -> SkerryError:
    return Unreachable("this node shuts down", code=Code.SHUTTING_DOWN, hint="ask another node, or ask again when it is back")


# --- in ---------------------------------------------------------------------------------------------------------------------------


async def read_object(request: Request, *, size_bytes_max: int) -> dict[str, Any]:
    """The JSON object in the body. Raises UsageError or Refused(too_large) that says what is wrong with it."""
    body = await _read_body(request, size_bytes_max)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the body is no JSON: {error}", hint="send one JSON object") from None
    if not isinstance(value, dict):
        raise UsageError("the body is JSON, but no object", hint='send {"model": ..., ...}')
    return value


async def _read_body(request: Request, size_bytes_max: int) -> bytes:
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said) > size_bytes_max:
        raise _too_large(f"{said} bytes", size_bytes_max)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > size_bytes_max:
                    raise _too_large(f"more than {size_bytes_max} bytes", size_bytes_max)
    except TimeoutError:
        raise UsageError(f"the body did not arrive within {BODY_TIMEOUT_S:g} s", hint="send less, or faster") from None
    return bytes(body)


def _too_large(size: str, most: int) -> Refused:
    return Refused(f"the body has {size}; at most {most} are taken", code=Code.TOO_LARGE, hint="send less at once")


# --- out --------------------------------------------------------------------------------------------------------------------------


def json_response(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, headers=headers, media_type="application/json")


def error_response(error: SkerryError) -> Response:
    """Any error, with what clients need to know about asking again."""
    headers = {}
    if error.code == Code.BUSY:
        headers["retry-after"] = str(max(math.ceil(error.retry_after_s), RETRY_AFTER_S))
    if error.code == Code.BAD_TOKEN:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Unreachable) and error.outcome_unknown:
        headers["x-should-retry"] = "false"  # OpenAI's clients retry by themselves: not where the work may have been done
    return json_response(error_object(error), status=meaning(error.code).http, headers=headers)


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


class EventStream(StreamingResponse):
    """Server-sent events as they come. What fails before the first one is an ordinary error; after it, an event with the error ends it."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], exchanges: Exchanges) -> None:
        super().__init__(events, headers={"cache-control": "no-cache"})
        self._events = events
        self._exchanges = exchanges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        last = b""
        try:
            async with self._exchanges.while_wanted(receive), aclosing(self._events) as events:
                async for data in events:
                    if not started:
                        started = True
                        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except SkerryError as error:
            if not started:
                raise
            last = event(error_object(error))
        except ClientDisconnect:
            return
        await send({"type": "http.response.body", "body": last, "more_body": False})
