"""Chat completion chunks put together to one completion, as OpenAI's API would have given it without `stream`.

The gguf runtime always generates part by part, since only then can a task be given up half-way; this makes the whole of it.

The rule: pure; nothing that a chunk said is lost, and what is no chunk is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skerry.errors import ProtocolError

TOOL_CALLS_MAX = 128  # of one answer: as many as a request may offer tools; a number that is taken as it comes would fill the memory
_TEXTS = ("content", "reasoning_content", "refusal")  # parts of a text that are joined


def completion_of(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One `chat.completion` of its `chat.completion.chunk`s. Raises ProtocolError where they are none: they may come from anywhere."""
    try:
        return _whole(chunks)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise ProtocolError(f"parts that make no chat completion: {error}") from None


def _whole(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        whole.update({key: value for key, value in chunk.items() if key != "choices"})
        for part in chunk.get("choices", ()):
            index = part.get("index", 0)
            empty = {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
            _add(choices.setdefault(index, empty), part)
    for choice in choices.values():
        if choice["message"]["content"] is None and "tool_calls" not in choice["message"]:
            choice["message"]["content"] = ""  # null means "see tool_calls"
    return {**whole, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _add(choice: dict[str, Any], part: dict[str, Any]) -> None:
    message = choice["message"]
    delta = part.get("delta") or {}
    for key, value in delta.items():
        if value is None:
            continue
        if key in _TEXTS:
            message[key] = (message.get(key) or "") + value
        elif key == "tool_calls":
            for piece in value:
                _add_tool_call(message.setdefault("tool_calls", []), piece)
        else:
            message[key] = value
    if part.get("logprobs"):
        kept = choice.setdefault("logprobs", {"content": []})
        kept["content"] += part["logprobs"].get("content") or []
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]


def _add_tool_call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """The first piece has id and name, the others more of the arguments."""
    index = piece.get("index", len(calls))
    if not 0 <= index < TOOL_CALLS_MAX:
        raise ValueError(f"a tool call with the number {index}")
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[index]
    call["id"] = piece.get("id") or call["id"]
    function = piece.get("function") or {}
    call["function"]["name"] = function.get("name") or call["function"]["name"]
    call["function"]["arguments"] += function.get("arguments") or ""
