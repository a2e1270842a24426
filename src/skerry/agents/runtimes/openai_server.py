"""The client's side of OpenAI's HTTP API: list models, post, stream.

The rule: whatever happens becomes a SkerryError that keeps the server's own words, or the system's; what may have been done is told
apart from what was not. Sizes and times are bounded, redirects are not followed. Imports httpx: only for an active runtime.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from skerry.errors import Code, Refused, SkerryError, Unreachable, UsageError

CONNECT_TIMEOUT_S = 5.0  # a server that does not answer a SYN for so long is not there; callers have other candidates
BODY_BYTES_MAX = 64 * 1024 * 1024  # 2048 embeddings of 3072 numbers in JSON
EVENT_BYTES_MAX = 4 * 1024 * 1024  # one streamed part; a picture in base64 fits
ERROR_CHARS_MAX = 500  # of a server's message
KEY_BYTES_MAX = 4096

# What a server's status says of a task. 5xx and all others: it tried and failed.
_STATUS_CODES = {
    400: Code.BAD_PAYLOAD,
    401: Code.NOT_GRANTED,
    403: Code.NOT_GRANTED,
    404: Code.NOT_FOUND,
    413: Code.TOO_LARGE,
    422: Code.BAD_PAYLOAD,
    429: Code.BUSY,
}


class OpenAiServer:
    """One server, named by its base URL."""

    def __init__(self, url: str, *, key_file: Path | None = None) -> None:
        """Raises UsageError where the URL or the key file can't be used. Opens no connection."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise UsageError(
                f"{_without_password(url)!r} is no server's address",
                hint="write openai+http://HOST:PORT/v1, and a key into a file: --api-key-file FILE",
            )
        self._url = url.rstrip("/")
        near = _is_loopback(parts.hostname)
        headers = {"accept-encoding": "identity"}  # nothing to unpack, so nothing that grows
        if key_file is not None:
            if parts.scheme == "http" and not near:
                raise UsageError(f"the key for {self._url} would travel in clear", hint="use https, or a server on this machine")
            headers["authorization"] = f"Bearer {read_key(key_file)}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),  # the rest is bounded by each task's deadline
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
            follow_redirects=False,
            trust_env=not near,  # a proxy of the environment has no business with this machine
        )

    def __str__(self) -> str:
        return f"the server {self._url}"

    async def models(self, *, timeout_s: float) -> list[str]:
        """The ids of its models. Raises SkerryError that says why there are none to be had."""
        try:
            found = await self._ask("GET", "/models", None, timeout_s)
        except Refused as error:
            hint = "check --api-key-file" if error.code == Code.NOT_GRANTED else "the address ends in /v1 with most servers"
            raise UsageError(f"{self} does not list its models: {error}", hint=hint) from error
        listed = found.get("data") if isinstance(found, dict) else None
        if not isinstance(listed, list):
            raise UsageError(
                f"{self} is no OpenAI-compatible server: GET /models gives no list", hint="the address ends in /v1 with most servers"
            )
        return [model["id"] for model in listed if isinstance(model, dict) and isinstance(model.get("id"), str)]

    async def post(self, path: str, body: dict[str, Any], *, timeout_s: float) -> Any:
        """The whole answer."""
        return await self._ask("POST", path, body, timeout_s)

    async def stream(self, path: str, body: dict[str, Any], *, timeout_s: float) -> AsyncGenerator[Any, None]:
        """The answer's events as they come. A server that does not stream gives its whole answer as one part."""
        deadline_at = asyncio.get_running_loop().time() + timeout_s
        began = finished = False
        async with self._errors_told(timeout_s, stream=True) as told, self._sent("POST", path, body, deadline_at) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                yield _checked(_parsed(await _body(response, deadline_at), self), self)
                return
            events = _events(response.aiter_bytes())
            while True:
                async with asyncio.timeout_at(deadline_at):
                    event = await anext(events, None)
                if event is None or event == "[DONE]":
                    break
                part = _checked(_parsed(event.encode(), self), self)
                began = told["began"] = True
                finished = finished or _finishes(part)
                yield part
        if event is None and not finished:
            raise Unreachable(
                f"{self} broke its stream off" if began else f"{self} ended its stream before the first part",
                code=Code.STREAM_INTERRUPTED,
                hint="ask again",
                outcome_unknown=began,
            )

    async def close(self) -> None:
        await self._client.aclose()

    # --- inside -------------------------------------------------------------------------------------------------------------------

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> Any:
        deadline_at = asyncio.get_running_loop().time() + timeout_s
        async with self._errors_told(timeout_s), self._sent(method, path, body, deadline_at) as response:
            return _checked(_parsed(await _body(response, deadline_at), self), self)

    @asynccontextmanager
    async def _sent(self, method: str, path: str, body: dict[str, Any] | None, deadline_at: float) -> AsyncIterator[httpx.Response]:
        try:
            content = None if body is None else json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise UsageError(f"the payload is no JSON: {error}", code=Code.BAD_PAYLOAD, hint="send no bytes and no NaN") from error
        request = self._client.build_request(method, f"{self._url}{path}", content=content, headers={"content-type": "application/json"})
        async with asyncio.timeout_at(deadline_at):
            response = await self._client.send(request, stream=True)
        try:
            if response.status_code != httpx.codes.OK:
                raise self._refusal(response, await _body(response, deadline_at))
            yield response
        finally:
            await response.aclose()

    def _refusal(self, response: httpx.Response, body: bytes) -> SkerryError:
        status = response.status_code
        if response.is_redirect:
            target = _without_password(response.headers.get("location", "nowhere"))
            return Refused(f"{self} sends us on to {target}", code=Code.TASK_FAILED, hint="we don't follow; give that address itself")
        said = _message(body) or response.reason_phrase or "no reason given"
        code = _STATUS_CODES.get(status, Code.TASK_FAILED)
        hints = {Code.NOT_GRANTED: "check --api-key-file", Code.BUSY: "ask again later", Code.NOT_FOUND: "check the model's name"}
        return Refused(f"{self} says: {said} (HTTP {status})", code=code, hint=hints.get(code, "see the server's own log"))

    @asynccontextmanager
    async def _errors_told(self, timeout_s: float, *, stream: bool = False) -> AsyncIterator[dict[str, bool]]:
        """httpx's errors as ours. `began`: parts were passed on, so that a break is an interrupted stream."""
        told = {"began": False}
        try:
            yield told
        except TimeoutError as error:
            raise SkerryError(
                f"{self} did not finish within {timeout_s:g} s", code=Code.DEADLINE_EXCEEDED, hint="give it more with --timeout"
            ) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"{self} can't be reached: {_cause(error)}", hint="is it running? Check host and port") from error
        except httpx.TransportError as error:
            interrupted = stream and told["began"]
            raise Unreachable(
                f"{self} broke off: {_cause(error)}",
                code=Code.STREAM_INTERRUPTED if interrupted else Code.UNREACHABLE,
                hint="ask again",
                outcome_unknown=True,
            ) from error
        except httpx.InvalidURL as error:
            raise UsageError(f"{self}: {error}", hint="write openai+http://HOST:PORT/v1") from error


def read_key(path: Path) -> str:
    """The key in a file that only its owner can read. Raises UsageError(unsafe_file | not_found | bad_input)."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise UsageError(f"others can read the key file {path} (mode {mode:04o})", code=Code.UNSAFE_FILE, hint=f"chmod 600 {path}")
            text = file.read(KEY_BYTES_MAX).decode("ascii", "replace").strip()
    except OSError as error:
        raise UsageError(
            f"the key file {path} can't be read: {error.strerror}", code=Code.NOT_FOUND, hint="check --api-key-file"
        ) from error
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"the file {path} holds no key", hint="it must have the key alone, on one line")
    return text


# --- reading answers --------------------------------------------------------------------------------------------------------------


async def _body(response: httpx.Response, deadline_at: float) -> bytes:
    found = bytearray()
    async with asyncio.timeout_at(deadline_at):
        async for chunk in response.aiter_bytes():
            found += chunk
            if len(found) > BODY_BYTES_MAX:
                raise Refused(f"the server's answer is longer than {BODY_BYTES_MAX} bytes", code=Code.TOO_LARGE, hint="ask for less")
    return bytes(found)


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The data of server-sent events (WHATWG HTML, 9.2); names, ids and comments mean nothing here."""
    rest, data = b"", bytearray()
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                data += line[5:].removeprefix(b" ") + b"\n"
            elif not line and data:
                yield data[:-1].decode("utf-8", "replace")
                data.clear()
        if len(rest) + len(data) > EVENT_BYTES_MAX:
            raise Refused(f"a part of the server's stream is longer than {EVENT_BYTES_MAX} bytes", code=Code.TOO_LARGE, hint="ask for less")
    if data:  # a last event without its blank line
        yield data[:-1].decode("utf-8", "replace")


def _parsed(data: bytes, server: OpenAiServer) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"{server} answers, but not in JSON: {data[:40]!r}", code=Code.TASK_FAILED, hint="is it OpenAI-compatible?"
        ) from error


def _checked(value: Any, server: OpenAiServer) -> Any:
    """Some servers say 200 and send an error object, in a stream they all do."""
    if isinstance(value, dict) and value.get("error"):
        said = _message(json.dumps(value).encode())
        raise Refused(f"{server} says: {said}", code=Code.TASK_FAILED, hint="see the server's own log")
    return value


def _message(body: bytes) -> str:
    """The server's words: `{"error": {"message"}}`, `{"error": "..."}`, `{"detail": ...}`, `{"message"}`, or plain text."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = body.decode("utf-8", "replace").strip().partition("\n")[0]
    for key in ("error", "detail", "message"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    text = found if isinstance(found, str) else json.dumps(found)
    return "".join(c for c in text if c.isprintable())[:ERROR_CHARS_MAX]


def _finishes(part: Any) -> bool:
    """Whether a chunk is the last of its choice: some servers leave `[DONE]` out."""
    choices = part.get("choices") if isinstance(part, dict) else None
    return isinstance(choices, list) and any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)


def _cause(error: BaseException) -> str:
    """The system's own words, which httpx keeps deep inside."""
    deepest: BaseException = error
    said = str(error) or type(error).__name__
    for _ in range(10):
        inner = deepest.__cause__ or deepest.__context__
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        if inner is None:
            break
        deepest = inner
        if isinstance(inner, OSError) and inner.strerror:
            # asyncio puts its own words in place of the system's; name lookups have negative numbers and words of theirs.
            said = os.strerror(inner.errno) if inner.errno and inner.errno > 0 else inner.strerror
    return said


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if "@" not in parts.netloc else url.replace(parts.netloc, f"***@{parts.netloc.rpartition('@')[2]}")
