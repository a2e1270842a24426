"""What agents answer, as OpenAI's clients expect it: completions, chunks, embeddings, errors.

Agents follow the shapes of `agents/payloads.py`, but not all of them stream, keep ids or write vectors the way a caller asked; here that is
evened out. `model` is always the id that was asked for, wherever the answer came from.

The rule: pure; nothing that an agent said is lost, and what is no answer of that kind is refused by name.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from dataclasses import dataclass
from typing import Any

from skerry.agents.runtimes.completion import completion_of
from skerry.agents.schema import noun
from skerry.errors import Code, Refused, SkerryError, UsageError, meaning

CHUNK = "chat.completion.chunk"
COMPLETION = "chat.completion"
FLOAT_BYTES = 4  # OpenAI's base64 holds little-endian float32

# Where OpenAI's API has a code of its own that clients test for.
_OPENAI_CODES: dict[str, str] = {Code.UNKNOWN_CAPABILITY: "model_not_found"}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class WrongField(UsageError):
    """A field of the request can't be what it is. `param` names it, as OpenAI's errors do."""

    def __init__(self, message: str, *, param: str, code: str = Code.BAD_PAYLOAD, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.param = param


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above every answer: the id asked for, the answer's own id, and when it was made (Unix s)."""

    model: str
    id: str
    created: int


def error_object(error: SkerryError) -> dict[str, Any]:
    """OpenAI's error object, with the hint in its message."""
    status = meaning(error.code).http
    return {
        "error": {
            "message": f"{error.message} ({error.hint})" if error.hint else error.message,
            "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
            "code": _OPENAI_CODES.get(error.code, str(error.code)),
            "param": error.param if isinstance(error, WrongField) else None,
        }
    }


def completion(result: Any, heading: Heading) -> dict[str, Any]:
    """One whole completion. A generator's parts come as a list when nobody streams: they are put together."""
    if isinstance(result, list):
        parts = [_with_choices(part, heading) for part in result]
        result = parts[0] if len(parts) == 1 and _is_whole(parts[0]) else completion_of(parts)
    answer = _with_choices(result, heading)
    return {"id": heading.id, "object": COMPLETION, "created": heading.created, **answer, "model": heading.model}


def chunks(part: Any, heading: Heading, *, usage: bool) -> list[dict[str, Any]]:
    """A streamed part as chunks: most are one; the whole answer of an agent that does not stream becomes one, and `usage` another."""
    answer = _with_choices(part, heading)
    if not _is_whole(answer):
        return [{"id": heading.id, "object": CHUNK, "created": heading.created, **answer, "model": heading.model}]
    rest = {key: value for key, value in answer.items() if key not in ("choices", "usage")}
    head = {"id": heading.id, "created": heading.created, **rest, "object": CHUNK, "model": heading.model}
    made = [{**head, "choices": [_delta(choice) for choice in answer["choices"]]}]
    if usage and answer.get("usage"):
        made.append({**head, "choices": [], "usage": answer["usage"]})
    return made


def embeddings(result: Any, heading: Heading, *, encoding: str) -> dict[str, Any]:
    """The embeddings object, with its vectors as `encoding` ("float" or "base64") says."""
    data = result.get("data") if isinstance(result, dict) else None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise _no_answer(result, heading, "an embeddings object with a list `data`")
    made = [
        {"object": "embedding", "index": index, **item, "embedding": _vector(item.get("embedding"), heading, encoding=encoding)}
        for index, item in enumerate(data)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return {"object": "list", "usage": usage, **result, "data": made, "model": heading.model}


# --- inside -----------------------------------------------------------------------------------------------------------------------


def _with_choices(answer: Any, heading: Heading) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise _no_answer(answer, heading, "a chat completion with a list `choices`")
    found: dict[str, Any] = answer
    return found


def _is_whole(answer: dict[str, Any]) -> bool:
    return any(isinstance(choice.get("message"), dict) for choice in answer["choices"])


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice of a whole answer as that of a chunk; tool calls are numbered there."""
    message = choice.get("message")
    delta = dict(message) if isinstance(message, dict) else {}
    if isinstance(calls := delta.get("tool_calls"), list):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls) if isinstance(call, dict)]
    rest = {key: value for key, value in choice.items() if key != "message"}
    return {"index": 0, "finish_reason": "stop", **rest, "delta": delta}


def _vector(vector: Any, heading: Heading, *, encoding: str) -> Any:
    try:
        if encoding == "base64" and isinstance(vector, list):
            return base64.b64encode(_little_endian(array("f", vector)).tobytes()).decode()
        if encoding != "base64" and isinstance(vector, str):
            return _little_endian(array("f", base64.b64decode(vector, validate=True))).tolist()
    except (TypeError, ValueError, OverflowError, binascii.Error):
        vector = None
    if not isinstance(vector, list | str):
        raise _no_answer(vector, heading, "vectors of numbers")
    return vector


def _little_endian(numbers: array[float]) -> array[float]:
    assert numbers.itemsize == FLOAT_BYTES
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _no_answer(answer: Any, heading: Heading, expected: str) -> Refused:
    return Refused(
        f"the agent that offers {heading.model!r} did not answer with {expected}, but with {noun(answer)}",
        code=Code.TASK_FAILED,
        hint="its handler must return what OpenAI's API returns",
    )
