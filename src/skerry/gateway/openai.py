"""OpenAI's API over the mesh: any of its clients works with this node's address as `base_url` and its token as `api_key`.

A model's id is the bare name of a capability: `inference:llama3:8b` is asked for as `llama3:8b`, whichever node it lives on. Requests
are checked against the shapes of their kind before anybody is asked; fields that we don't know are passed on, because that API grows.

The rule: this module translates; who does the work, where, and how often it is tried is the dispatcher's to decide.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from skerry.agents.capability import check_capability, name_of
from skerry.agents.payloads import SHAPES
from skerry.agents.schema import misfit
from skerry.errors import Code, Refused, SkerryError, UsageError
from skerry.gateway import answers
from skerry.gateway.answers import Heading, WrongField
from skerry.gateway.exchange import DONE, EventStream, Exchanges, event, json_response, read_object
from skerry.gateway.wishes import wishes_of
from skerry.identity.codec import pack
from skerry.identity.pieces import unpack_body
from skerry.node.operations import perform
from skerry.node.policy import OWNER
from skerry.routing import task
from skerry.routing.verbs import CapabilityInfo, CapabilityQuery

if TYPE_CHECKING:
    from skerry.node.node import Node

KINDS = ("inference", "embedding", "transcription")  # those that OpenAI calls models
RESTARTED_EVENT = b"event: restarted\ndata: {}\n\n"  # to those alone who asked for it: what came before is void
BODY_BYTES_MAX = 64 * 1024 * 1024  # a long conversation with pictures in it; as much as a remote server's answer may have
ID_BYTES = 12
NAMES_MAX = 10  # models named to somebody who asked for one that is not there
CLOSEST_MAX = 3
CLOSE_ENOUGH = 0.5  # of difflib's ratio, as in the catalogue

_DEEDS = {"inference": "chat", "embedding": "embed"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that fits its kind."""

    kind: str
    capability: str
    body: dict[str, Any]
    heading: Heading
    wishes: task.Wishes

    def as_request(self) -> task.Request:
        """What the mesh is asked."""
        return task.Request(self.capability, pack(self.body), **self.wishes)


class OpenAiDoor:
    """The paths below `/v1`."""

    def __init__(self, node: Node, exchanges: Exchanges) -> None:
        self._node = node
        self._exchanges = exchanges
        self.router = APIRouter(redirect_slashes=False)
        self.router.add_api_route("/v1/models", self.models, methods=["GET"])
        self.router.add_api_route("/v1/models/{model:path}", self.model, methods=["GET"])
        self.router.add_api_route("/v1/chat/completions", self.chat, methods=["POST"])
        self.router.add_api_route("/v1/embeddings", self.embed, methods=["POST"])

    async def models(self) -> Response:
        """What the mesh offers now."""
        offered = await self._offered(*KINDS)
        return json_response({"object": "list", "data": [self._model(model, info) for model, info in sorted(offered.items())]})

    async def model(self, model: str) -> Response:
        """One of them."""
        info = (await self._offered(*KINDS)).get(model)
        if info is None:
            raise await self._unknown(model, KINDS)
        return json_response(self._model(model, info))

    async def chat(self, request: Request) -> Response:
        """A chat completion, whole or as events."""
        asked = await self._asked(request, "inference")
        if asked.body.get("stream"):
            return EventStream(self._events(asked), self._exchanges)
        return json_response(answers.completion(await self._have_done(asked, request), asked.heading))

    async def embed(self, request: Request) -> Response:
        """The vectors of one or more texts."""
        asked = await self._asked(request, "embedding")
        result = await self._have_done(asked, request)
        return json_response(answers.embeddings(result, asked.heading, encoding=asked.body.get("encoding_format") or "float"))

    # --- asking the mesh ------------------------------------------------------------------------------------------------------

    async def _asked(self, request: Request, kind: str) -> Asked:
        body = await read_object(request, size_bytes_max=BODY_BYTES_MAX)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise WrongField("the request names no model", param="model", code=Code.BAD_INPUT, hint="GET /v1/models lists them")
        capability = f"{kind}:{model}"
        wrong = misfit(SHAPES[kind].payload, body, at="body")
        if wrong is not None:
            param = wrong.partition(":")[0].removesuffix(" is missing").removeprefix("body").removeprefix(".")
            raise WrongField(f"the request does not fit {kind}: {wrong}", param=param, hint="OpenAI's API reference has examples")
        try:
            check_capability(capability)
        except UsageError as error:  # what can't be a name nobody offers; nor is it a query, which would answer for others
            raise await self._unknown(model, (kind,)) from error
        ports = self._node.ports
        prefix = "chatcmpl" if kind == "inference" else "embd"
        heading = Heading(model, f"{prefix}-{ports.random.token(ID_BYTES).hex()}", ports.clock.now_ms() // 1000)
        return Asked(kind, capability, body, heading, wishes_of(request.headers))

    async def _have_done(self, asked: Asked, request: Request) -> Any:
        """The payload of the result. Raises what the task failed with."""
        try:
            async with self._exchanges.while_wanted(request.receive):
                result = await self._node.dispatcher.call(asked.as_request(), timeout_s=task.TIMEOUT_S)
            result.raise_error()
        except SkerryError as error:
            raise await self._named(error, asked) from error
        return unpack_body(result.payload) if result.payload is not None else None

    async def _events(self, asked: Asked) -> AsyncGenerator[bytes, None]:
        options = asked.body.get("stream_options") or {}
        try:
            parts = self._node.dispatcher.stream(asked.as_request(), timeout_s=task.TIMEOUT_S)
            async with aclosing(cast(AsyncGenerator[Any, None], parts)) as items:
                async for item in items:
                    if isinstance(item, task.TaskResult):
                        continue  # says who did it; it has no payload
                    if not len(item):
                        yield RESTARTED_EVENT
                        continue
                    for chunk in answers.chunks(unpack_body(item), asked.heading, usage=bool(options.get("include_usage"))):
                        yield event(chunk)
        except SkerryError as error:
            raise await self._named(error, asked) from error
        yield DONE

    # --- models ---------------------------------------------------------------------------------------------------------------

    async def _offered(self, *kinds: str) -> dict[str, CapabilityInfo]:
        """Model id -> who offers it, of those that can be reached; the first by kind, node and agent where there are several."""
        found: dict[str, CapabilityInfo] = {}
        for kind in kinds:
            listed = await perform(self._node, "capability.list", CapabilityQuery(f"{kind}:*"), rights=OWNER)
            for info in listed.capabilities:
                if info.reachable:
                    found.setdefault(name_of(info.capability), info)
        return found

    def _model(self, model: str, info: CapabilityInfo) -> dict[str, Any]:
        return {"id": model, "object": "model", "created": self._node.started_ms // 1000, "owned_by": info.node_name}

    async def _named(self, error: SkerryError, asked: Asked) -> SkerryError:
        """An error in the words of this API: a capability that nobody offers is a model that is not there."""
        if error.code == Code.UNKNOWN_CAPABILITY:
            return await self._unknown(asked.heading.model, (asked.kind,))
        return error

    async def _unknown(self, model: str, kinds: tuple[str, ...]) -> SkerryError:
        names = list(await self._offered(*kinds))
        closest = difflib.get_close_matches(model, names, n=CLOSEST_MAX, cutoff=CLOSE_ENOUGH)
        elsewhere = (await self._offered(*(kind for kind in KINDS if kind not in kinds))).get(model)
        wanted = f" that can {_DEEDS[kinds[0]]}" if len(kinds) == 1 else ""
        if elsewhere is not None:
            hint = f"it is there as {elsewhere.capability}"
        elif closest:
            hint = f"did you mean {' or '.join(closest)}?"
        elif names:
            hint = f"there are: {', '.join(names[:NAMES_MAX])}"
        else:
            hint = "bring one in with `skerry agent run`"
        return Refused(f"the mesh has no model {model[:100]!r}{wanted}", code=Code.UNKNOWN_CAPABILITY, hint=hint)
