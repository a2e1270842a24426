"""Text to vectors with the real model: the same as computed by hand, alone or in any company."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.agents.runtimes.contract import Call, Source
from skerry.agents.runtimes.onnx import OnnxRuntime
from skerry.errors import Code, UsageError
from tests.support import models
from tests.support.meshes import context

TEXTS = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "A node joins the mesh with a ticket."]


@asynccontextmanager
async def minilm(**options: Any) -> AsyncIterator[OnnxRuntime]:
    runtime = OnnxRuntime()
    chosen = {"capabilities": ["embedding:minilm", "custom:minilm"], "tokenizer": str(models.minilm_tokenizer()), **options}
    try:
        await runtime.activate(Source("onnx", "minilm", models.minilm(), options=chosen), context())
        yield runtime
    finally:
        await runtime.stop()


async def embed(runtime: OnnxRuntime, texts: Any, **more: Any) -> Any:
    answer = await runtime.call(Call("embedding:minilm", {"input": texts, **more}))
    return np.array([one["embedding"] for one in answer["data"]])


async def test_it_says_what_the_model_says() -> None:
    """By hand: cat is token 4937 between [CLS] and [SEP]; the mean of the three, made 1 long."""
    ids = [[101, 4937, 102]]
    async with minilm() as runtime:
        tensors = {"input_ids": ids, "attention_mask": [[1, 1, 1]], "token_type_ids": [[0, 0, 0]]}
        hidden = (await runtime.call(Call("custom:minilm", tensors)))["last_hidden_state"]
        mean = np.array(hidden)[0].mean(axis=0)
        assert np.allclose(await embed(runtime, "cat"), mean / np.linalg.norm(mean), atol=1e-5)


async def test_what_means_the_same_lies_near() -> None:
    async with minilm() as runtime:
        vectors = await embed(runtime, TEXTS)
        assert vectors.shape == (3, 384)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        near = vectors @ vectors.T
        assert near[0, 1] > 0.6
        assert abs(near[0, 2]) < 0.2


async def test_company_changes_nothing() -> None:
    async with minilm() as runtime:
        many = ["a much longer text than the others, " * 30, *TEXTS, "x", *TEXTS * 20]
        together = await embed(runtime, many)
        for index in (0, 1, 3, 4, 63):
            assert np.allclose(together[index], (await embed(runtime, many[index]))[0], atol=0.02), "int8 rounds by batch"


async def test_a_text_that_is_too_long_is_cut_to_the_window() -> None:
    async with minilm() as runtime:
        (offer,) = (one for one in runtime.offers() if one.capability == "embedding:minilm")
        assert offer.attributes == {"format": "onnx", "dimensions": 384, "max_tokens": 512}
        answer = await runtime.call(Call("embedding:minilm", {"input": "word " * 2000}))
        assert answer["usage"] == {"prompt_tokens": 512, "total_tokens": 512}


async def test_openais_client_asks_for_base64() -> None:
    async with minilm() as runtime:
        answer = await runtime.call(Call("embedding:minilm", {"input": "cat", "encoding_format": "base64"}))
        packed = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), dtype="<f4")
        assert np.allclose(packed, (await embed(runtime, "cat"))[0], atol=1e-6)


async def test_another_number_of_dimensions_is_refused() -> None:
    async with minilm() as runtime:
        assert (await embed(runtime, "cat", dimensions=384)).shape == (1, 384)
        with pytest.raises(UsageError, match=r"payload.dimensions: this model's vectors have 384, got 100"):
            await embed(runtime, "cat", dimensions=100)


async def test_a_tokenizer_beside_the_model_is_found(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to(models.minilm())
    (tmp_path / "tokenizer.json").symlink_to(models.minilm_tokenizer())
    for path in (tmp_path, tmp_path / "model.onnx"):
        runtime = OnnxRuntime()
        await runtime.activate(Source("onnx", "m", path, options={"capabilities": ["embedding:minilm"]}), context())
        assert len(await embed(runtime, "cat")) == 1
        await runtime.stop()


async def test_a_tokenizer_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text("[]")
    for name, code in (("words.json", Code.BAD_MODEL), ("absent.json", Code.NOT_FOUND)):
        with pytest.raises(UsageError, match=name) as refusal:
            async with minilm(tokenizer=str(tmp_path / name)):
                pass
        assert refusal.value.code == code


async def test_bytes_give_bytes() -> None:
    async with minilm() as runtime:
        row = np.array([[101, 4937, 102]], dtype="<i8")
        ones = {"dtype": "int64", "shape": [1, 3], "fill": 1}
        ids = {"dtype": "int64", "shape": [1, 3], "data": row.tobytes()}
        answer = await runtime.call(
            Call("custom:minilm", {"input_ids": ids, "attention_mask": ones, "token_type_ids": {**ones, "fill": 0}})
        )
        hidden = answer["last_hidden_state"]
        assert (hidden["dtype"], hidden["shape"], len(hidden["data"])) == ("float32", [1, 3, 384], 3 * 384 * 4)


async def test_tensors_that_only_the_model_can_refuse_are_refused_too() -> None:
    async with minilm() as runtime:
        wide = {"dtype": "int64", "shape": [1, 600], "fill": 1}
        with pytest.raises(UsageError, match="the model can't process these tensors") as refusal:
            await runtime.call(Call("custom:minilm", {"input_ids": wide, "attention_mask": wide, "token_type_ids": {**wide, "fill": 0}}))
        assert refusal.value.code == Code.BAD_PAYLOAD
