"""ONNX models: named tensors in and out; with a tokenizer, text in and OpenAI's embeddings out.

The rule: one thread per model, since agents share the machine; a task that is given up ends inside the model, at its next node.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.agents.capability import check_capability, idempotent_by_default, kind_of, name_of
from skerry.agents.payloads import SHAPES, check, unfit
from skerry.agents.runtimes import tokenizer_beside
from skerry.agents.runtimes.contract import Call, Context, Health, Offer, Source
from skerry.agents.runtimes.threads import Threads
from skerry.errors import Code, Refused, UsageError

if TYPE_CHECKING:  # numpy comes with the extra
    from skerry.agents.runtimes.embedder import Embedder
    from skerry.agents.runtimes.tensors import TensorSpec

THREADS = 1  # inside one model; measured: MiniLM takes 4 ms on one core, and a second agent needs the other
LOG_ERRORS = 3  # onnxruntime's severities; 4 is fatal alone
LOG_FATAL = 4
EXTRA_HINT = "install it: pip install 'skerry[onnx]'"


@dataclass(slots=True)
class _Model:
    """What is loaded."""

    session: Any
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    failures: tuple[type[Exception], ...]


class OnnxRuntime:
    """Runs one model, on one thread."""

    def __init__(self) -> None:
        self._model: _Model | None = None
        self._embedder: Embedder | None = None
        self._offers: list[Offer] = []
        self._threads: Threads | None = None

    def can_handle(self, source: Source) -> bool:
        return source.runtime == "onnx" and source.path is not None

    async def activate(self, source: Source, context: Context) -> str:
        if source.path is None:
            raise UsageError(f"{source.name} names no model file", hint="give MODEL.onnx")
        capabilities = [check_capability(text) for text in source.options.get("capabilities") or [f"custom:{source.name}"]]
        path = _model_file(source.path)
        tokenizer = _tokenizer_for(source, path, capabilities)
        self._threads = Threads(f"skerry-{source.name}", count=1)
        self._model = await self._threads.run(_load, path)
        if tokenizer is not None:
            self._embedder = await self._threads.run(_embedder, self._model, tokenizer, path.name)
        self._offers = [self._offer(capability) for capability in capabilities]
        await self._drop_examples_that_fail(context)
        return uuid.uuid4().hex

    def offers(self) -> list[Offer]:
        return list(self._offers)

    async def health(self) -> Health:
        return Health(True) if self._model is not None else Health(False, "the model is not loaded")

    async def call(self, call: Call) -> Any:
        if self._model is None or self._threads is None:
            raise Refused("the model is not loaded", code=Code.SHUTTING_DOWN)
        if call.capability not in (offer.capability for offer in self._offers):
            raise Refused(
                f"this model does not do {call.capability!r}",
                code=Code.UNKNOWN_CAPABILITY,
                hint=f"it does {', '.join(offer.capability for offer in self._offers)}",
            )
        options = _run_options()
        work = self._embed if self._is_embedding(call.capability) else self._run_tensors

        def give_up() -> None:
            options.terminate = True

        return await self._threads.run(work, self._model, call, options, on_cancel=give_up)

    async def stream(self, call: Call) -> AsyncIterator[Any]:
        yield await self.call(call)

    async def stop(self) -> None:
        self._model = self._embedder = None
        self._offers = []
        if self._threads is not None:
            self._threads.close()
            self._threads = None

    # --- inside, on the model's thread --------------------------------------------------------------------------------------------

    def _run_tensors(self, model: _Model, call: Call, options: Any) -> dict[str, Any]:
        from skerry.agents.runtimes import tensors

        try:
            feeds, as_bytes = tensors.read(model.inputs, call.payload)
        except tensors.Misfit as error:
            raise unfit(call.capability, str(error)) from error
        try:
            outputs = model.session.run(None, feeds, options)
        except model.failures as error:
            raise unfit(call.capability, f"the model can't process these tensors: {_reason(error)}") from error
        return {spec.name: tensors.write(value, as_bytes=as_bytes) for spec, value in zip(model.outputs, outputs, strict=True)}

    def _embed(self, model: _Model, call: Call, options: Any) -> dict[str, Any]:
        from skerry.agents.runtimes.embedder import as_openai

        assert self._embedder is not None
        check(call.capability, call.payload)
        dimensions = call.payload.get("dimensions")
        if dimensions not in (None, self._embedder.dimensions):
            raise unfit(call.capability, f"payload.dimensions: this model's vectors have {self._embedder.dimensions}, got {dimensions}")
        texts = call.payload["input"]
        try:
            embedded = self._embedder.embed(
                [texts] if isinstance(texts, str) else texts, lambda feeds: model.session.run(None, feeds, options)
            )
        except model.failures as error:
            raise Refused(f"the model failed: {_reason(error)}", code=Code.TASK_FAILED, hint="see: skerry agent logs NAME") from error
        return as_openai(embedded, model=name_of(call.capability), encoding=call.payload.get("encoding_format") or "float")

    # --- what is offered ----------------------------------------------------------------------------------------------------------

    def _is_embedding(self, capability: str) -> bool:
        return kind_of(capability) == "embedding"

    def _offer(self, capability: str) -> Offer:
        from skerry.agents.runtimes import tensors

        assert self._model is not None
        if self._is_embedding(capability) and self._embedder is not None:
            shape = SHAPES["embedding"]
            return Offer(
                capability,
                idempotent=True,
                description="text to vectors of length 1",
                payload=shape.payload,
                result=shape.result,
                example=shape.example,
                attributes={"format": "onnx", "dimensions": self._embedder.dimensions, "max_tokens": self._embedder.window},
            )
        outputs = {spec.name: {"description": str(spec)} for spec in self._model.outputs}
        return Offer(
            capability,
            idempotent=idempotent_by_default(capability),
            description=f"{'; '.join(map(str, self._model.inputs))} -> {'; '.join(map(str, self._model.outputs))}",
            payload=tensors.schema(self._model.inputs),
            result={"type": "object", "properties": outputs, "required": list(outputs)},
            example=tensors.example(self._model.inputs),
            attributes={"format": "onnx"},
        )

    async def _drop_examples_that_fail(self, context: Context) -> None:
        """An example has to work: free dimensions of 1 are too small for some models. Trying also warms the model up."""
        for index, offer in enumerate(self._offers):
            try:
                await self.call(Call(offer.capability, offer.example))
            except (UsageError, Refused) as error:
                context.log.info("no example for %s: %s", offer.capability, error)
                self._offers[index] = Offer(
                    offer.capability,
                    idempotent=offer.idempotent,
                    description=offer.description,
                    payload=offer.payload,
                    result=offer.result,
                    attributes=offer.attributes,
                )
            await asyncio.sleep(0)


def _model_file(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"there is no file {path}", code=Code.NOT_FOUND, hint="check the path")
    if path.is_file():
        return path
    models = sorted(path.glob("*.onnx"))
    if len(models) != 1:
        names = ", ".join(model.name for model in models) or "none"
        raise UsageError(f"the folder {path} must have one .onnx file; it has {names}", hint="name the file itself")
    return models[0]


def _tokenizer_for(source: Source, model: Path, capabilities: list[str]) -> Path | None:
    if not any(kind_of(capability) == "embedding" for capability in capabilities):
        return None
    if named := source.options.get("tokenizer"):
        return Path(named)
    found = tokenizer_beside(model)
    if found is None:
        raise UsageError(
            f"{model.name} takes numbers, and no tokenizer.json lies beside it that would make them from text",
            hint="name one with --tokenizer FILE, or offer tensors with --capability custom:NAME",
        )
    return found


def _load(path: Path) -> _Model:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is imported; without it, it reports to its makers
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one thread is the promise of this module
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as native

        from skerry.agents.runtimes.tensors import DTYPES, TensorSpec
    except ImportError as error:
        raise UsageError(f"the runtime for {path.name} is not installed: {error}", hint=EXTRA_HINT) from error
    failures = tuple(kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    options.log_severity_level = LOG_ERRORS
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise UsageError(
            f"{path.name} is no model that onnxruntime can load: {_reason(error)}",
            code=Code.BAD_MODEL,
            hint="is it a whole .onnx file? Compare its size with the original's",
        ) from error
    for node in session.get_inputs():
        if node.type not in DTYPES:
            raise UsageError(
                f"{path.name} has the input {node.name}, a {node.type}: only tensors can be sent",
                code=Code.BAD_MODEL,
                hint=f"export it with inputs of {', '.join(DTYPES.values())}",
            )
    return _Model(
        session,
        inputs=[TensorSpec(node.name, DTYPES[node.type], tuple(node.shape)) for node in session.get_inputs()],
        outputs=[TensorSpec(node.name, DTYPES.get(node.type, node.type), tuple(node.shape or ())) for node in session.get_outputs()],
        failures=failures,
    )


def _run_options() -> Any:
    """For one run. What goes wrong in it is said to its caller, not to the log; and memory that one long text needed is given back:
    measured, 160 instead of 330 MiB afterwards, and no slower."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = LOG_FATAL
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _embedder(model: _Model, tokenizer: Path, name: str) -> Embedder:
    options = _run_options()
    try:
        from skerry.agents.runtimes.embedder import Embedder

        embedder = Embedder(model.inputs, model.outputs, tokenizer, model=name)
    except ImportError as error:
        raise UsageError(f"the tokenizer for {name} can't be used: {error}", hint=EXTRA_HINT) from error
    try:
        embedder.settle(lambda feeds: list(model.session.run(None, feeds, options)), model.failures)
    except model.failures as error:
        raise UsageError(
            f"{name} can't embed text: {_reason(error)}", code=Code.BAD_MODEL, hint="is this the tokenizer of this model?"
        ) from error
    return embedder


def _reason(error: Exception) -> str:
    """onnxruntime's "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from x failed:Protobuf parsing failed." in short."""
    text = str(error).partition("\n")[0]
    return text.rpartition(" : ")[2][:300] or type(error).__name__
