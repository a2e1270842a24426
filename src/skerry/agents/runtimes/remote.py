"""A server that already runs and speaks OpenAI's HTTP API: Ollama, vLLM, llama.cpp, LM Studio, or a paid one.

Each of its models becomes `inference:ID`; with `--model M --capability C` that one is offered as C. The agent is a door: what the
server says goes on as it is, its errors with its own words.

The rule: the server is somebody else's. Nothing it says is followed (no redirects), everything it sends is bounded, and the key goes
to it alone and never in clear over a network.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.agents.capability import check_capability, kind_of, name_of
from skerry.agents.payloads import SHAPES, check
from skerry.agents.runtimes.contract import Call, Context, Health, Offer, Source
from skerry.errors import Code, Refused, SkerryError, UsageError

if TYPE_CHECKING:  # brings httpx, which only this runtime's workers need
    from skerry.agents.runtimes.openai_server import OpenAiServer

PATHS = {"inference": "/chat/completions", "embedding": "/embeddings"}
MODELS_MAX = 500  # the largest aggregators list some 400
HEALTH_TIMEOUT_S = 5.0  # listing models costs a server nothing


class RemoteRuntime:
    """Passes tasks on to one server."""

    def __init__(self) -> None:
        self._server: OpenAiServer | None = None
        self._models: dict[str, str] = {}  # capability -> the server's own name for the model
        self._chosen = False  # by the user; else the server's list is followed
        self._log = logging.getLogger(__name__)

    def can_handle(self, source: Source) -> bool:
        return source.runtime == "remote" and source.entry.removeprefix("openai+").startswith(("http://", "https://"))

    async def activate(self, source: Source, context: Context) -> str:
        if not self.can_handle(source):
            raise UsageError(f"{source.entry!r} is no server's address", hint="write openai+http://HOST:PORT/v1")
        from skerry.agents.runtimes.openai_server import OpenAiServer

        self._log = context.log
        self._models = _chosen_models(source)
        self._chosen = bool(self._models)
        key_file = source.options.get("api_key_file")
        self._server = OpenAiServer(source.entry.removeprefix("openai+"), key_file=Path(key_file) if key_file else None)
        listed = await self._server.models(timeout_s=HEALTH_TIMEOUT_S)
        if not self._chosen:
            self._follow(listed)
        return uuid.uuid4().hex

    def offers(self) -> list[Offer]:
        return [_offer(capability, model) for capability, model in self._models.items()]

    async def health(self) -> Health:
        if self._server is None:
            return Health(False, "the server is not connected")
        try:
            listed = await self._server.models(timeout_s=HEALTH_TIMEOUT_S)
        except SkerryError as error:
            return Health(False, str(error))
        if not self._chosen:
            self._follow(listed)
        return Health(True) if self._models else Health(False, f"{self._server} lists no models")

    async def call(self, call: Call) -> Any:
        server, path, body = self._request(call)
        return await server.post(path, {**body, "stream": False}, timeout_s=call.timeout_s)

    async def stream(self, call: Call) -> AsyncIterator[Any]:
        server, path, body = self._request(call)
        if kind_of(call.capability) != "inference":
            yield await server.post(path, body, timeout_s=call.timeout_s)
            return
        async with aclosing(server.stream(path, {**body, "stream": True}, timeout_s=call.timeout_s)) as parts:
            async for part in parts:
                yield part

    async def stop(self) -> None:
        server, self._server = self._server, None
        self._models = {}
        if server is not None:
            await server.close()

    def _request(self, call: Call) -> tuple[OpenAiServer, str, dict[str, Any]]:
        if self._server is None:
            raise Refused("the server is not connected", code=Code.SHUTTING_DOWN)
        if call.capability not in self._models:
            raise Refused(
                f"{self._server} does not offer {call.capability!r}",
                code=Code.UNKNOWN_CAPABILITY,
                hint=f"it offers {', '.join(self._models) or 'nothing'}",
            )
        check(call.capability, call.payload)
        kind = kind_of(call.capability)
        body = {key: value for key, value in call.payload.items() if key != "stream"}
        return self._server, PATHS[kind], {**body, "model": self._models[call.capability]}

    def _follow(self, listed: list[str]) -> None:
        models = {}
        for model in listed[:MODELS_MAX]:
            try:
                models[check_capability(f"inference:{model}")] = model
            except UsageError:
                self._log.warning("the model %.80r is left out: its name can't be a capability", model)
        self._models = models


def _chosen_models(source: Source) -> dict[str, str]:
    model = source.options.get("model")
    capabilities = source.options.get("capabilities") or ([f"inference:{model}"] if model else [])
    for capability in capabilities:
        check_capability(capability)
        if kind_of(capability) not in PATHS:
            raise UsageError(
                f"an OpenAI-compatible server can't be asked for {capability!r} yet",
                hint=f"offer it as {' or '.join(f'{kind}:NAME' for kind in PATHS)}",
            )
    return {capability: model or name_of(capability) for capability in capabilities}


def _offer(capability: str, model: str) -> Offer:
    kind = kind_of(capability)
    shape = SHAPES[kind]
    return Offer(
        capability,
        idempotent=True,
        streams=kind == "inference",
        description=f"{model}, on a server brought in",
        payload=shape.payload,
        result=shape.result,
        example=shape.example,
        attributes={"format": "openai", "model": model},
    )
