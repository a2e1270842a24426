"""What agents answer, evened out to what OpenAI's clients expect."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from skerry.errors import CODES, Code, Refused, SkerryError
from skerry.gateway.answers import Heading, WrongField, chunks, completion, embeddings, error_object

HEADING = Heading("asked", "id-1", 1700000000)
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _part(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def _whole(**more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", **more}, "finish_reason": "stop"}], "usage": USAGE}


def test_a_completion_keeps_what_the_agent_said_and_gets_the_rest() -> None:
    answer = completion({**_whole(), "model": "inner", "id": "own", "system_fingerprint": "f"}, HEADING)
    assert (answer["model"], answer["id"], answer["created"], answer["object"]) == ("asked", "own", 1700000000, "chat.completion")
    assert (answer["system_fingerprint"], answer["usage"]) == ("f", USAGE)


def test_the_parts_of_a_generator_become_one_completion() -> None:
    answer = completion([_part("a "), _part("b", "stop")], HEADING)
    assert answer["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "a b"}, "finish_reason": "stop"}]
    assert (answer["object"], answer["model"]) == ("chat.completion", "asked")


def test_a_generator_of_one_whole_answer_is_that_answer() -> None:
    assert completion([_whole()], HEADING)["choices"] == _whole()["choices"]


def test_a_chunk_stays_one() -> None:
    (chunk,) = chunks(_part("a"), HEADING, usage=False)
    assert chunk == {"id": "id-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "asked", **_part("a")}


def test_a_whole_answer_becomes_chunks() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    first, last = chunks(_whole(tool_calls=[call]), HEADING, usage=True)
    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "hi", "tool_calls": [{"index": 0, **call}]},
            "finish_reason": "stop",
        }
    ]
    assert (last["choices"], last["usage"], last["id"]) == ([], USAGE, "id-1")
    assert len(chunks(_whole(), HEADING, usage=False)) == 1  # many clients read choices[0] of each chunk, so usage comes only when asked


@pytest.mark.parametrize("given", [[1.0, -2.5], base64.b64encode(struct.pack("<2f", 1.0, -2.5)).decode()])
def test_vectors_are_written_as_asked(given: Any) -> None:
    result = {"data": [{"embedding": given}]}
    as_float = embeddings(result, HEADING, encoding="float")
    assert as_float["data"] == [{"object": "embedding", "index": 0, "embedding": [1.0, -2.5]}]
    packed = embeddings(result, HEADING, encoding="base64")["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (1.0, -2.5)
    assert (as_float["model"], as_float["object"], as_float["usage"]) == ("asked", "list", {"prompt_tokens": 0, "total_tokens": 0})


@pytest.mark.parametrize("result", ["text", None, {}, {"data": "x"}, {"data": ["x"]}, {"data": [{"embedding": None}]}])
def test_what_is_no_embedding_is_refused(result: Any) -> None:
    with pytest.raises(Refused, match="agent that offers 'asked' did not answer with"):
        embeddings(result, HEADING, encoding="base64")


@pytest.mark.parametrize(("vector", "encoding"), [(["x"], "base64"), ([1e300, "x"], "base64"), ("no base64!", "float"), ("AAA=", "float")])
def test_broken_vectors_are_refused(vector: Any, encoding: str) -> None:
    with pytest.raises(Refused, match="vectors of numbers"):
        embeddings({"data": [{"embedding": vector}]}, HEADING, encoding=encoding)


@pytest.mark.parametrize("result", ["text", None, {}, {"choices": "x"}, {"choices": ["x"]}, ["x"], [_part("a"), 7]])
def test_what_is_no_completion_is_refused(result: Any) -> None:
    with pytest.raises(Refused) as refusal:
        completion(result, HEADING)
    assert refusal.value.code == Code.TASK_FAILED


def test_what_is_no_chunk_is_refused() -> None:
    with pytest.raises(Refused, match="with a string"):
        chunks("text", HEADING, usage=False)


@pytest.mark.parametrize("code", [*CODES, "a_newer_peers_code"])
def test_every_code_has_its_error_object(code: str) -> None:
    error = error_object(SkerryError("it failed", code=code, hint="try again"))["error"]
    assert error["message"] == "it failed (try again)"
    assert error["type"].endswith("_error")
    assert error["code"] == ("model_not_found" if code == Code.UNKNOWN_CAPABILITY else code)
    assert error["param"] is None


def test_a_wrong_field_is_named() -> None:
    assert error_object(WrongField("no", param="messages[0].role"))["error"]["param"] == "messages[0].role"
