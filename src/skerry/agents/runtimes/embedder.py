"""Text to vectors with a transformer in ONNX form: tokenise, run, mean over the mask, length 1.

This is what sentence-transformers does for the models that people bring. A text longer than the model's window is cut, as there.
Texts go in batches of similar length, so that little is padded and memory stays bounded.

The rule: the same text gives the same vector alone and in any batch (to float32 rounding). Imports numpy: only for an active runtime.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry.agents.runtimes.tensors import TensorSpec
from skerry.errors import Code, UsageError

BATCH_TEXTS_MAX = 32  # larger batches gain nothing on a CPU
BATCH_TOKENS_MAX = 1024  # padding counted: attention alone takes 12 heads x 512 x 512 x 4 bytes = 12 MiB for each text of 512 tokens
WINDOWS = (512, 256, 128)  # tokens; BERT's family ends at 512, and there are few below

Run = Callable[[dict[str, NDArray[Any]]], list[Any]]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedded:
    vectors: Vectors
    tokens: int


class Embedder:
    """One model with its tokenizer. Blocks: call it from a thread."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], tokenizer: Path, *, model: str) -> None:
        """Raises UsageError where model or tokenizer are not made for this."""
        self._inputs = {spec.name: spec for spec in inputs}
        strange = set(self._inputs) - {"input_ids", "attention_mask", "token_type_ids"}
        if strange or "input_ids" not in self._inputs:
            raise UsageError(
                f"{model} is no text embedding model: its inputs are {'; '.join(map(str, inputs))}",
                code=Code.BAD_MODEL,
                hint="offer it as tensors, with --capability custom:NAME",
            )
        self._output, self._pooled = _output(outputs, model)
        self._tokenizer = _tokenizer(tokenizer)
        self._pad_id = _pad_id(self._tokenizer)
        batch, width = (*self._inputs["input_ids"].shape, None, None)[:2]
        self._batch_max = batch if isinstance(batch, int) else BATCH_TEXTS_MAX
        self._width = width if isinstance(width, int) else None
        self._batch_fixed = isinstance(batch, int)
        own = (self._tokenizer.truncation or {}).get("max_length", 0)
        self.window = self._width or max(own, WINDOWS[0])
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.dimensions = 0

    def settle(self, run: Run, failures: tuple[type[Exception], ...]) -> None:
        """Find out, by trying, how many tokens the model takes and how long its vectors are."""
        for window in (self.window, *(w for w in WINDOWS if w < self.window)):
            try:
                vectors = self._run(run, [[self._pad_id] * window])
            except failures:
                if self._width is not None or window == WINDOWS[-1]:
                    raise
                continue
            self.window, self.dimensions = window, int(vectors.shape[1])
            return

    def embed(self, texts: Sequence[str], run: Run) -> Embedded:
        """The vectors in the order of the texts."""
        self._tokenizer.enable_truncation(self.window)
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.zeros((len(encoded), self.dimensions), dtype=np.float32)
        for chosen in self._batches([len(ids) for ids in encoded]):
            vectors[chosen] = self._run(run, [encoded[index] for index in chosen])
        return Embedded(vectors, sum(map(len, encoded)))

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Which texts go together, by their index."""
        chosen: list[int] = []
        for index in sorted(range(len(lengths)), key=lengths.__getitem__):
            full = len(chosen) >= self._batch_max or (chosen and (len(chosen) + 1) * lengths[index] > BATCH_TOKENS_MAX)
            if full:
                yield chosen
                chosen = []
            chosen.append(index)
        if chosen:
            yield chosen

    def _run(self, run: Run, batch: list[list[int]]) -> Vectors:
        rows = self._batch_max if self._batch_fixed else len(batch)
        width = self._width or max(1, *map(len, batch))
        ids = np.full((rows, width), self._pad_id, dtype=np.int64)
        mask = np.zeros((rows, width), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        mask[len(batch) :, 0] = 1  # rows that only fill a fixed batch: an empty mask would divide by zero inside some models
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        given = {name: feeds[name].astype(spec.dtype, copy=False) for name, spec in self._inputs.items()}
        found = np.asarray(run(given)[self._output], dtype=np.float32)[: len(batch)]
        vectors = found if self._pooled else _mean(found, mask[: len(batch)])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        result: Vectors = vectors / np.maximum(lengths, 1e-12)
        return result


def as_openai(embedded: Embedded, *, model: str, encoding: str) -> dict[str, Any]:
    """OpenAI's embeddings object. `encoding` "base64": little-endian float32, as their client asks for."""
    values: list[Any]
    if encoding == "base64":
        values = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in embedded.vectors]
    else:
        values = embedded.vectors.tolist()
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)],
        "model": model,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }


def _mean(hidden: Vectors, mask: NDArray[np.int64]) -> Vectors:
    weights = mask[:, :, None].astype(np.float32)
    result: Vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return result


def _output(outputs: Sequence[TensorSpec], model: str) -> tuple[int, bool]:
    """Which output has the vectors, and whether they are one per text already."""
    for index, spec in enumerate(outputs):
        if spec.name == "sentence_embedding" and len(spec.shape) == 2:
            return index, True
    for index, spec in enumerate(outputs):
        if len(spec.shape) == 3:
            return index, False
    raise UsageError(
        f"{model} gives no embeddings: its outputs are {'; '.join(map(str, outputs))}",
        code=Code.BAD_MODEL,
        hint="offer it as tensors, with --capability custom:NAME",
    )


def _tokenizer(path: Path) -> Any:
    import tokenizers

    if not path.is_file():
        raise UsageError(f"there is no tokenizer {path}", code=Code.NOT_FOUND, hint="check --tokenizer")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every file that it can't read
        raise UsageError(
            f"{path.name} is no tokenizer: {error}", code=Code.BAD_MODEL, hint="give the model's tokenizer.json with --tokenizer"
        ) from error


def _pad_id(tokenizer: Any) -> int:
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    for token in ("[PAD]", "<pad>"):
        if (found := tokenizer.token_to_id(token)) is not None:
            return int(found)
    return 0  # masked in any case
