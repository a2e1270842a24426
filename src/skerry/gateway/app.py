"""The HTTP app of one node: who may come in, and what every answer looks like when something is wrong.

A token alone does not keep a browser's other pages out: a page may send requests to this machine, and a foreign name may be pointed at
it. So the `Host` that was asked for and the `Origin` that asks must be this machine's own.

The rule: whatever goes wrong is answered as JSON with a code and the next step, and nothing but two health checks is answered unasked.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from skerry.errors import Code, Refused, SkerryError
from skerry.gateway.answers import error_object
from skerry.gateway.exchange import Exchanges, error_response, json_response
from skerry.gateway.openai import OpenAiDoor
from skerry.node.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from skerry.node.node import Node

OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
WITHOUT_TOKEN = frozenset({"/healthz", "/readyz"})
CLIENT_GONE = 499  # what nginx notes when nobody is left to be answered
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]@/\s]+)(:\d{1,5})?")


def make_app(node: Node, *, token: str | None, hosts: Collection[str] = ()) -> FastAPI:
    """The app. `token` None: who reaches it may use it. `hosts`: further names, as they stand in a URL, under which it may be asked.

    `app.state.exchanges.close()` ends all that is being worked on.
    """
    app = FastAPI(title="Skerry", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    exchanges = app.state.exchanges = Exchanges()
    app.add_middleware(Guard, token=token, hosts=OWN_HOSTS.union(host.lower() for host in hosts))
    app.add_exception_handler(SkerryError, _skerry_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(Exception, _bug)

    async def healthz() -> Response:
        """The process is alive."""
        return json_response({"ok": True})

    async def readyz() -> Response:
        """The node serves."""
        reason = not_ready(node)
        return json_response({"ready": not reason, **({"reason": reason} if reason else {})}, status=503 if reason else 200)

    async def metrics() -> Response:
        """What the node counts, as Prometheus reads it."""
        return Response(node.metrics.text(), media_type=CONTENT_TYPE)

    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"])
    app.add_api_route("/readyz", readyz, methods=["GET"])
    app.include_router(OpenAiDoor(node, exchanges).router)
    return app


def not_ready(node: Node) -> str:
    """Why the node does not serve; "" where it does."""
    if node.stopping.is_set():
        return "it shuts down"
    if not node.listening:
        return "it starts"
    own = node.trust.own()
    return "" if own.belongs else f"it is no member of its formation: {own.reason or own.state.value}"


class Guard:
    """Lets in who asks for this machine, from this machine, with its token."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token.encode() if token is not None else None
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope), scope["path"]) if scope["type"] == "http" else None
        await (self._app if refusal is None else error_response(refusal))(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> SkerryError | None:
        host = headers.get("host", "")
        if _host_name(host) not in self._hosts:
            return Refused(
                f"this door does not answer for the host {host[:100]!r}", code=Code.FOREIGN_HOST, hint="ask for http://127.0.0.1:PORT"
            )
        origin = headers.get("origin")
        if origin is not None and _origin_host(origin) not in self._hosts:
            return Refused(
                f"pages of {origin[:100]!r} may not ask this node", code=Code.FOREIGN_HOST, hint="ask from a program, or from a local page"
            )
        if path in WITHOUT_TOKEN or self._token is None:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return None
        return Refused(
            "the token is wrong" if given else "no token was sent",
            code=Code.BAD_TOKEN,
            hint="send `Authorization: Bearer TOKEN`, in OpenAI's clients `api_key`; TOKEN is in the file `token` of the node's home",
        )


def _host_name(host: str) -> str:
    found = _HOST.fullmatch(host.lower())
    return found.group(1) if found else ""


def _origin_host(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return _host_name(parts.netloc) if parts.scheme in ("http", "https") else ""  # "null": a page that hides where it is from


# --- errors -----------------------------------------------------------------------------------------------------------------------


async def _skerry_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, SkerryError)
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router itself refuses: a path or a method that is not there."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    said = Refused(f"there is no {what} here", code=Code.NOT_FOUND, hint=_PATHS)
    return json_response(error_object(said), status=error.status_code, headers=dict(error.headers or {}))


_PATHS = "there are /v1/models, /v1/chat/completions, /v1/embeddings, /metrics, /healthz and /readyz"


async def _client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _bug(_: Request, error: Exception) -> Response:
    """The server logs the traceback; the caller hears what kind it was."""
    return error_response(SkerryError(f"the node failed to answer: {type(error).__name__}", hint="its log has the traceback"))
