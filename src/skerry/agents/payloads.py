"""What a task of each kind takes and gives: JSON Schemas and examples that follow OpenAI's, so that clients of today fit as they are.

Known kinds are checked before a model sees them; fields that we don't know pass, because those APIs grow. `custom:` agents declare
their own (`handlers.py`, the runtimes).

The rule: data and two plain functions; a refusal says which field is wrong and what was expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skerry.agents.capability import kind_of
from skerry.agents.schema import BYTES, JsonSchema, misfit
from skerry.errors import Code, UsageError

INPUTS_MAX = 2048  # texts in one embeddings request; OpenAI's own limit


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind: what it takes, what it gives, a payload that works, and what a streamed part is (None: it doesn't stream)."""

    payload: JsonSchema
    result: JsonSchema
    example: Any
    part: JsonSchema | None = None


_TEXT: JsonSchema = {"type": "string"}
_COUNT: JsonSchema = {"type": "integer", "minimum": 0}
_FLAG: JsonSchema = {"type": "boolean"}


def _maybe(schema: JsonSchema) -> JsonSchema:
    """OpenAI's clients send null for what is not set."""
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: dict[str, JsonSchema], optional: dict[str, JsonSchema] | None = None) -> JsonSchema:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _list(items: JsonSchema, **limits: int) -> JsonSchema:
    return {"type": "array", "items": items, **limits}


_MESSAGE = _object(
    {"role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]}},
    {
        "content": {"anyOf": [_TEXT, _list(_object({"type": _TEXT})), {"type": "null"}]},
        "name": _TEXT,
        "tool_calls": _maybe(_list({"type": "object"})),
        "tool_call_id": _TEXT,
    },
)
_USAGE = _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT}, {"completion_tokens": _COUNT})


def _completion(choice: str) -> JsonSchema:
    """A chat completion, or a chunk of one: they differ in where the text is."""
    one = _object({"index": _COUNT, choice: {"type": "object"}, "finish_reason": _maybe(_TEXT)})
    return _object({"id": _TEXT, "object": _TEXT, "created": _COUNT, "model": _TEXT, "choices": _list(one)}, {"usage": _maybe(_USAGE)})


_INFERENCE = Shape(
    payload=_object(
        {"messages": _list(_MESSAGE, minItems=1)},
        {
            "model": _TEXT,
            "max_tokens": _maybe({"type": "integer", "minimum": 1}),
            "max_completion_tokens": _maybe({"type": "integer", "minimum": 1}),
            "temperature": _maybe({"type": "number", "minimum": 0, "maximum": 2}),
            "top_p": _maybe({"type": "number", "minimum": 0, "maximum": 1}),
            "stop": {"anyOf": [_TEXT, _list(_TEXT), {"type": "null"}]},
            "seed": _maybe({"type": "integer"}),
            "n": _maybe({"type": "integer", "minimum": 1}),
            "presence_penalty": _maybe({"type": "number", "minimum": -2, "maximum": 2}),
            "frequency_penalty": _maybe({"type": "number", "minimum": -2, "maximum": 2}),
            "stream": _maybe(_FLAG),
            "stream_options": _maybe({"type": "object"}),
            "response_format": _maybe({"type": "object"}),
            "tools": _maybe(_list({"type": "object"})),
        },
    ),
    result=_completion("message"),
    part=_completion("delta"),
    example={"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 32},
)

_ONE_INPUT: JsonSchema = {"type": "string", "minLength": 1}
_EMBEDDING = Shape(
    payload=_object(
        {"input": {"anyOf": [_ONE_INPUT, _list(_ONE_INPUT, minItems=1, maxItems=INPUTS_MAX)]}},
        {
            "model": _TEXT,
            "encoding_format": _maybe({"enum": ["float", "base64"]}),
            "dimensions": _maybe({"type": "integer", "minimum": 1}),
            "user": _TEXT,
        },
    ),
    result=_object(
        {
            "object": {"const": "list"},
            "data": _list(
                _object({"object": {"const": "embedding"}, "index": _COUNT, "embedding": {"anyOf": [_list({"type": "number"}), _TEXT]}})
            ),
            "model": _TEXT,
            "usage": _USAGE,
        }
    ),
    example={"input": ["cat", "kitten"]},
)

_TRANSCRIPTION = Shape(
    payload=_object(
        {"file": BYTES},
        {
            "model": _TEXT,
            "language": _maybe(_TEXT),
            "prompt": _maybe(_TEXT),
            "response_format": _maybe({"enum": ["json", "text", "verbose_json", "srt", "vtt"]}),
            "temperature": _maybe({"type": "number", "minimum": 0, "maximum": 1}),
        },
    ),
    result=_object({"text": _TEXT}),
    example=None,  # a sound that says something does not fit on a page
)

_SPEECH = Shape(
    payload=_object(
        {"input": _ONE_INPUT},
        {
            "model": _TEXT,
            "voice": _maybe(_TEXT),
            "response_format": _maybe({"enum": ["mp3", "opus", "aac", "flac", "wav", "pcm"]}),
            "speed": _maybe({"type": "number", "minimum": 0.25, "maximum": 4}),
        },
    ),
    result=BYTES,
    example={"input": "Hello."},
)

_IMAGE = Shape(
    payload=_object(
        {"prompt": _ONE_INPUT},
        {
            "model": _TEXT,
            "n": _maybe({"type": "integer", "minimum": 1, "maximum": 10}),
            "size": _maybe(_TEXT),
            "response_format": _maybe({"enum": ["url", "b64_json"]}),
        },
    ),
    result=_object({"created": _COUNT, "data": _list(_object({}, {"url": _TEXT, "b64_json": _TEXT}))}),
    example={"prompt": "a small rock in the sea"},
)

_CODE = Shape(
    payload=_object({"runtime": _TEXT, "source": _TEXT}, {"stdin": _maybe(_TEXT)}),
    result=_object({"stdout": _TEXT, "stderr": _TEXT, "exit_code": {"type": "integer"}}),
    example={"runtime": "python", "source": "print(6 * 7)"},
)

_WEB = Shape(
    payload=_object({"url": _ONE_INPUT}),
    result=_object({"status": _COUNT, "body": {"anyOf": [_TEXT, BYTES]}}, {"content_type": _TEXT}),
    example={"url": "https://example.org/"},
)

_STORAGE = Shape(
    payload=_object({"op": {"enum": ["get", "put", "delete", "list"]}, "key": _TEXT}, {"value": {}}),
    result={},
    example={"op": "get", "key": "greeting"},
)

SHAPES: dict[str, Shape] = {
    "inference": _INFERENCE,
    "embedding": _EMBEDDING,
    "transcription": _TRANSCRIPTION,
    "speech": _SPEECH,
    "image": _IMAGE,
    "code": _CODE,
    "web": _WEB,
    "storage": _STORAGE,
}


def shape_of(capability: str) -> Shape | None:
    """The shape of a capability's kind; None for `custom:`, whose agents declare their own."""
    return SHAPES.get(kind_of(capability))


def check(capability: str, payload: Any) -> None:
    """Raises UsageError(bad_payload) that names the field, where the payload does not fit its kind."""
    shape = shape_of(capability)
    wrong = misfit(shape.payload, payload) if shape else None
    if wrong:
        raise unfit(capability, wrong)


def unfit(capability: str, wrong: str) -> UsageError:
    """The refusal of a payload; `wrong` is a sentence about the field, as `schema.misfit` makes it."""
    return UsageError(
        f"the payload does not fit {capability}: {wrong}",
        code=Code.BAD_PAYLOAD,
        hint=f"see the schema and an example: skerry capability show {capability}",
    )
