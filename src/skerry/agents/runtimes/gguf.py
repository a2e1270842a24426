"""Language models in GGUF form, through llama.cpp (xllamacpp): chat completions, whole or token by token.

llama.cpp opens an HTTP port on 127.0.0.1 by itself. Nobody should find a model there past the mesh's rights, so it is given a random
key that is told to no one.

The rule: one generation at a time, in a thread; one that is given up ends at the next token, or within PROMPT_STEP_TOKENS of prompt.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry.agents.capability import check_capability, kind_of, name_of
from skerry.agents.payloads import SHAPES, unfit
from skerry.agents.runtimes.completion import completion_of
from skerry.agents.runtimes.contract import Call, Context, Health, Offer, Source
from skerry.agents.runtimes.gguf_header import GgufFacts, NoGguf, read_facts
from skerry.agents.runtimes.threads import Threads
from skerry.agents.schema import misfit
from skerry.errors import Code, Refused, SkerryError, UsageError

CONTEXT_TOKENS_MAX = 4096  # the cache for more costs gigabytes with larger models; a model with a smaller window keeps its own
PROMPT_STEP_TOKENS = 128  # measured: 0.6 s on one core, with a small model; larger steps make giving up slow, not prompts fast
THREADS_MAX = 4  # beyond it memory bandwidth is the limit; half the cores stay free for the node and the other agents
LOG_ERRORS = 1  # llama.cpp's verbosity; the agent's log keeps what it says
EXTRA_HINT = "install it: pip install 'skerry[gguf]'"
_DONE = object()


# Servers that were stopped: they end with this process, which a worker's does at once. To end one is to wait for its thread with Python's
# lock held, and where that thread still lets go of the last part's callback it waits for that lock: now and then neither ever ended.
_STOPPED: list[Any] = []


@dataclass(slots=True)
class _Generation:
    """One run of the model. The thread puts parts in; `given_up` tells it to stop."""

    parts: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)  # bounded by the model's window: one part per token
    given_up: bool = False


class GgufRuntime:
    """Runs one model."""

    def __init__(self) -> None:
        self._loaded: list[Any] = []  # one item, the server, while it is loaded; what runs holds the list
        self._offers: list[Offer] = []
        self._threads: Threads | None = None

    def can_handle(self, source: Source) -> bool:
        return source.runtime == "gguf" and source.path is not None

    async def activate(self, source: Source, context: Context) -> str:
        if source.path is None:
            raise UsageError(f"{source.name} names no model file", hint="give MODEL.gguf")
        capabilities = [check_capability(text) for text in source.options.get("capabilities") or [f"inference:{source.name}"]]
        path = _model_file(source.path)
        for capability in capabilities:
            if kind_of(capability) not in ("inference", "custom"):
                raise UsageError(f"{path.name} is a GGUF model: it does chat completions, not {capability!r}", hint="use inference:NAME")
        facts = _facts(path)
        window = min(facts.context_length or CONTEXT_TOKENS_MAX, CONTEXT_TOKENS_MAX)
        self._threads = Threads(f"skerry-{source.name}", count=1)
        self._loaded = [await self._threads.run(_load, path, window)]
        self._offers = [_offer(capability, facts, window) for capability in capabilities]
        context.log.info("%s: %s, window of %d tokens", path.name, facts.quantization or "unknown quantization", window)
        return uuid.uuid4().hex

    def offers(self) -> list[Offer]:
        return list(self._offers)

    async def health(self) -> Health:
        return Health(True) if self._loaded else Health(False, "the model is not loaded")

    async def call(self, call: Call) -> Any:
        async with aclosing(self._generate(call, {"stream_options": {"include_usage": True}})) as chunks:
            return completion_of([chunk async for chunk in chunks])

    async def stream(self, call: Call) -> AsyncIterator[Any]:
        async with aclosing(self._generate(call, {})) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stop(self) -> None:
        self._offers = []
        threads, self._threads = self._threads, None
        if threads is not None:
            _STOPPED.extend(self._loaded)
            self._loaded.clear()
            threads.close()

    async def _generate(self, call: Call, more: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        if not self._loaded or self._threads is None:
            raise Refused("the model is not loaded", code=Code.SHUTTING_DOWN)
        if call.capability not in (offer.capability for offer in self._offers):
            raise Refused(
                f"this model does not do {call.capability!r}",
                code=Code.UNKNOWN_CAPABILITY,
                hint=f"it does {', '.join(offer.capability for offer in self._offers)}",
            )
        options = {**_options(call), **more}
        generation = _Generation()
        loop = asyncio.get_running_loop()

        def give_up() -> None:
            generation.given_up = True

        running = asyncio.create_task(
            self._threads.run(_complete, self._loaded, options, generation, loop, call.capability, on_cancel=give_up)
        )
        # However the run ends, whoever waits for parts must hear of it.
        running.add_done_callback(lambda _: generation.parts.put_nowait(_DONE))
        try:
            while (part := await generation.parts.get()) is not _DONE:
                if "error" in part:
                    raise _refusal(call.capability, part["error"])
                if "prompt_progress" not in part:
                    yield {**part, "model": name_of(call.capability)}
            await running
        finally:
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # raised above, or about a caller who is gone


def _complete(
    loaded: list[Any], options: dict[str, Any], generation: _Generation, loop: asyncio.AbstractEventLoop, capability: str
) -> None:
    """On the model's thread. llama.cpp calls back with each part, and stops when that says True."""

    def take(part: dict[str, Any]) -> bool:
        if not generation.given_up:
            loop.call_soon_threadsafe(generation.parts.put_nowait, part)
        return generation.given_up

    if generation.given_up or not loaded:
        return
    try:
        loaded[0].handle_chat_completions(options, take)
    except (ValueError, TypeError, RuntimeError) as error:  # what it raises for a request that it can't take
        raise unfit(capability, str(error).partition("\n")[0]) from error


def _options(call: Call) -> dict[str, Any]:
    """The request as llama.cpp wants it; parts of prompt progress are asked for since only a part gives us a chance to stop."""
    if wrong := misfit(SHAPES["inference"].payload, call.payload):  # also where it is offered as custom:
        raise unfit(call.capability, wrong)
    given = {key: value for key, value in call.payload.items() if value is not None}
    given.setdefault("max_tokens", given.pop("max_completion_tokens", -1))
    return {**given, "stream": True, "return_progress": True}


def _refusal(capability: str, error: Any) -> SkerryError:
    detail = error if isinstance(error, dict) else {"message": str(error)}
    message = str(detail.get("message", "no reason given"))
    if detail.get("code") == 400:
        return unfit(capability, message)
    return Refused(f"the model failed: {message}", code=Code.TASK_FAILED, hint="see: skerry agent logs NAME")


def _model_file(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"there is no file {path}", code=Code.NOT_FOUND, hint="check the path")
    if path.is_file():
        return path
    models = sorted(path.glob("*.gguf"))
    if not models:
        raise UsageError(f"the folder {path} has no .gguf file", hint="name the file itself")
    return models[0]  # of a model in several files the first names the others


def _facts(path: Path) -> GgufFacts:
    try:
        with path.open("rb") as file:
            return read_facts(file)
    except NoGguf as error:
        raise _bad_model(path, str(error)) from error


def _bad_model(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"{path.name} is no GGUF model that can be loaded: {reason}",
        code=Code.BAD_MODEL,
        hint="is it a whole .gguf file? Compare its size with the original's",
    )


def _load(path: Path, window: int) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise UsageError(f"the runtime for {path.name} is not installed: {error}", hint=EXTRA_HINT) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = window
    params.n_batch = params.n_ubatch = PROMPT_STEP_TOKENS
    threads = max(1, min(THREADS_MAX, (os.cpu_count() or 1) // 2))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_parallel = 1
    params.warmup = False  # the first task pays 10 ms instead of every start
    params.cache_ram_mib = 0  # by default it keeps prompts of the past in up to 8 GiB
    params.verbosity = LOG_ERRORS
    params.api_keys = [secrets.token_hex(16)]
    params.ui = params.endpoint_slots = False
    logging.getLogger(__name__).debug("loading %s", path)
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise _bad_model(path, "llama.cpp gives up on it; it is damaged, cut short, or of a newer kind") from error


def _offer(capability: str, facts: GgufFacts, window: int) -> Offer:
    shape = SHAPES["inference"]
    known = {"architecture": facts.architecture, "quantization": facts.quantization}
    return Offer(
        capability,
        idempotent=True,
        streams=True,
        description=f"chat with {facts.name or name_of(capability)}",
        payload=shape.payload,
        result=shape.result,
        example=shape.example,
        attributes={"format": "gguf", "context_length": window, **{key: value for key, value in known.items() if value}},
    )
