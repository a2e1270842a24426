"""The app of the public listener: `GET /federation/pull`, and nothing else.

Who signs the request (`channel/signed_request.py`) and is a contact of ours gets what is shared with it; everybody else what is public. A
request whose signature does not hold is refused, and not answered as if it had none. How often somebody may ask is counted by address
before anything is verified, and by key after.

The rule: every answer is a page that its reader may have, whole, or an error that names the field.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from skerry.channel.admission import Quota
from skerry.channel.signed_request import Nonces, check_request, is_signed
from skerry.errors import Code, Refused, SkerryError, UsageError, meaning
from skerry.gateway.answers import error_object
from skerry.gateway.exchange import Exchanges, error_response, json_response
from skerry.records.pages import CBOR, JSON, entity_tag, read_limit, to_cbor, to_json
from skerry.records.pulling import NOT_MODIFIED, PATH

if TYPE_CHECKING:
    from skerry.node.federating import Federating
    from skerry.node.node import Node

ASKED_AT_ONCE = 60  # of one address, behind which may be a whole house; then
ASKED_PER_S = 5.0
PULLED_AT_ONCE = 30  # of one key: 6,000 records
PULLED_PER_S = 2.0
QUERY_FIELDS = ("since", "limit")
_RETRY_S = "1"


def make_public_app(node: Node, federating: Federating, *, behind_proxy: bool = False) -> FastAPI:
    """The app. `behind_proxy`: a proxy that the owner named tells where callers are (`X-Forwarded-For`)."""
    app = FastAPI(title="Skerry", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.exchanges = Exchanges()
    door = FederationDoor(node, federating, behind_proxy=behind_proxy)
    app.add_api_route(PATH, door.pull, methods=["GET"])
    app.add_exception_handler(SkerryError, _refused)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _bug)
    return app


class FederationDoor:
    """`GET /federation/pull?since=<cursor>&limit=<n>`."""

    def __init__(self, node: Node, federating: Federating, *, behind_proxy: bool = False) -> None:
        self._node = node
        self._federating = federating
        self._behind_proxy = behind_proxy
        self._nonces = Nonces()
        self._asked = Quota(at_once=ASKED_AT_ONCE, per_s=ASKED_PER_S)
        self._pulled = Quota(at_once=PULLED_AT_ONCE, per_s=PULLED_PER_S)

    async def pull(self, request: Request) -> Response:
        """One page of what the caller may have."""
        now = asyncio.get_running_loop().time()
        if not self._asked.take(self._address(request), now=now):
            raise _too_often()
        form = _form(request.headers.get("accept", ""))
        since, limit = _query(request)
        contact = self._contact(request, now=now)
        update = await self._federating.manager.get_local_updates(since, contact=contact, limit=read_limit(limit))
        tag = entity_tag(update, form)
        headers = {"etag": tag, "cache-control": "private, no-cache", "vary": "accept, signature, signature-input"}
        if _matches(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=NOT_MODIFIED, headers=headers)
        body = to_cbor(update) if form == CBOR else to_json(update)
        return Response(body, headers=headers, media_type=form)

    def _contact(self, request: Request, *, now: float) -> bytes:
        """The id of the contact that asks; empty for anybody else. Raises Refused for a signature that does not hold."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not is_signed(headers):
            return b""
        now_s = self._node.ports.clock.now_ms() // 1000
        target = _target(request)
        caller = check_request(headers, method=request.method, target=target, server=self._node.key.public, now_s=now_s)
        self._nonces.take(caller, now_s=now_s)
        if not self._pulled.take(caller.node.hex(), now=now):
            raise _too_often()
        return self._federating.contact_of(caller.node, caller.grant)

    def _address(self, request: Request) -> str:
        address = request.client.host if request.client is not None else ""
        if self._behind_proxy:  # the last one is what the proxy itself saw
            return request.headers.get("x-forwarded-for", address).rpartition(",")[2].strip()[:64]
        return address


def _target(request: Request) -> str:
    path = bytes(request.scope["raw_path"]).decode("latin-1")
    query = bytes(request.scope["query_string"]).decode("latin-1")
    return f"{path}?{query}" if query else path


def _query(request: Request) -> tuple[str, str]:
    given = request.query_params
    for name in given:
        if name not in QUERY_FIELDS:
            raise UsageError(f"{name[:40]!r}: there is no such field", hint=f"the fields are {', '.join(QUERY_FIELDS)}")
        if len(given.getlist(name)) > 1:
            raise UsageError(f"{name}: it is given more than once", hint="send it once")
    return given.get("since", ""), given.get("limit", "")


def _form(accept: str) -> str:
    """JSON for whoever does not ask for CBOR before it. Raises UsageError where neither will do."""
    wanted: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
        try:
            wanted[name] = float(quality)
        except ValueError:
            raise UsageError(f"accept: {quality[:20]!r} is no quality", hint=f"send {JSON} or {CBOR}") from None
    anything = max(wanted.get(name, 0.0) for name in ("*/*", "application/*", ""))
    cbor, json = wanted.get(CBOR, 0.0), wanted.get(JSON, anything)
    if not max(cbor, json) > 0:
        raise UsageError(f"accept: {accept[:60]!r} is not what there is", hint=f"send {JSON} or {CBOR}")
    return CBOR if cbor > json or (cbor and cbor == json and accept.lower().find(CBOR) <= accept.lower().find(JSON)) else JSON


def _matches(given: str, tag: str) -> bool:
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in given.split(","))


def _too_often() -> Refused:
    return Refused("asked too often", code=Code.BUSY, hint="ask again in a moment, and with the cursor of the last page")


# --- errors -----------------------------------------------------------------------------------------------------------------------


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, SkerryError)
    if error.code == Code.BUSY:
        return json_response(error_object(error), status=meaning(error.code).http, headers={"retry-after": _RETRY_S})
    return error_response(error)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = Refused(f"there is no {request.method} {request.url.path[:200]} here", code=Code.NOT_FOUND, hint=f"there is GET {PATH}")
    return json_response(error_object(said), status=error.status_code, headers=dict(error.headers or {}))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)


async def _bug(_: Request, error: Exception) -> Response:
    return error_response(SkerryError(f"the node failed to answer: {type(error).__name__}", hint="its owner's log has the traceback"))
