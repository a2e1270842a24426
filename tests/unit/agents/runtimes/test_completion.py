"""Chunks put together say what the whole would have said."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skerry.agents.runtimes.completion import completion_of


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


@given(st.lists(st.text(), max_size=5))
def test_texts_are_joined(texts: list[str]) -> None:
    chunks = [chunk({"role": "assistant", "content": None}), *(chunk({"content": text}) for text in texts), chunk({}, "stop")]
    whole = completion_of(chunks)
    assert whole["object"] == "chat.completion"
    assert whole["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "".join(texts)}, "finish_reason": "stop"}]


def test_usage_comes_with_the_last_chunk() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    whole = completion_of([chunk({"content": "a"}, "length"), {**chunk({}), "choices": [], "usage": usage}])
    assert whole["usage"] == usage
    assert whole["choices"][0]["finish_reason"] == "length"


def test_tool_calls_come_in_pieces() -> None:
    pieces = [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city":'}},
        {"index": 0, "function": {"arguments": '"Rome"}'}},
        {"index": 1, "id": "c2", "function": {"name": "time", "arguments": "{}"}},
    ]
    whole = completion_of([*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls")])
    message = whole["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
        {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]


def test_choices_and_probabilities_are_kept_apart_and_in_order() -> None:
    second = chunk({"content": "b"}, logprobs={"content": [{"token": "b"}]})
    second["choices"][0]["index"] = 1
    whole = completion_of([second, chunk({"content": "a"}, logprobs={"content": [{"token": "a"}]}), second])
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["a", "bb"]
    assert whole["choices"][1]["logprobs"] == {"content": [{"token": "b"}, {"token": "b"}]}
