"""What the handlers of an agent take and give: type hints turned into schemas, checks and plain values.

msgspec reads the hints (builtins, dataclasses, TypedDict, Annotated limits); pydantic models work where the user's code brings them,
recognised by their methods, so that pydantic itself is never loaded for those who don't use it.

The rule: a payload is checked before the handler sees it, and what leaves a handler is a plain CBOR value.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, get_args, get_origin

import msgspec

from skerry.agents.payloads import unfit
from skerry.agents.runtimes.contract import JsonSchema, Offer
from skerry.agents.schema import BYTES, example_of
from skerry.agents.sdk import Agent, Handling, handlings
from skerry.errors import Code, SkerryError, UsageError

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_PASSED: Final = (bytes, bytearray, memoryview)  # msgspec would write these as base64, for JSON's sake; CBOR has bytes
_ANYTHING = (inspect.Parameter.empty, Any, object)


class Form(Enum):
    """How a handler runs."""

    SYNC = "sync"
    ASYNC = "async"
    PARTS = "generator"
    ASYNC_PARTS = "async generator"


@dataclass(frozen=True, slots=True)
class Handler:
    """One bound handler. `hint` is the payload's type, or `inspect.Parameter.empty` where any value is taken."""

    offer: Offer
    method: Callable[..., Any]
    form: Form
    takes_payload: bool
    hint: Any

    @property
    def streams(self) -> bool:
        return self.form in (Form.PARTS, Form.ASYNC_PARTS)

    def arguments(self, payload: Any) -> tuple[Any, ...]:
        """What to call the method with. Raises UsageError(bad_payload) that names the field."""
        if not self.takes_payload:
            if payload is not None:
                raise unfit(self.offer.capability, "payload: expected nothing, since the handler takes no argument")
            return ()
        if _is_anything(self.hint):
            return (payload,)
        try:
            return (_convert(payload, self.hint),)
        except msgspec.ValidationError as error:
            raise unfit(self.offer.capability, _complaint(str(error))) from error


def handlers_of(agent: Agent) -> dict[str, Handler]:
    """capability -> handler. Raises UsageError that names class, method and hint where one can't be used."""
    return {capability: _read(agent, method, handling) for capability, (method, handling) in handlings(type(agent)).items()}


def plain(value: Any) -> Any:
    """A value of dataclasses, models, enums, dates ... as a CBOR value. Raises SkerryError(agent_failed) where there is none."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, memoryview):
        return value.tobytes()
    try:
        return msgspec.to_builtins(value, builtin_types=_PASSED, str_keys=True, enc_hook=_dump)
    except (TypeError, ValueError, RecursionError) as error:
        raise SkerryError(
            f"a {type(value).__name__} can't be sent: {error}",
            code=Code.AGENT_FAILED,
            hint="use None, booleans, numbers, text, bytes, lists, dicts, dataclasses or pydantic models",
        ) from error


# --- reading a method -------------------------------------------------------------------------------------------------------------


def _read(agent: Agent, name: str, handling: Handling) -> Handler:
    method = getattr(agent, name)
    where = f"{type(agent).__name__}.{name}"
    takes_payload, parameter = _parameter(method, where)
    hints = _hints(method, where)
    form = _form(method)
    hint = hints.get(parameter, inspect.Parameter.empty) if takes_payload else inspect.Parameter.empty
    payload = _schema(hint, where) if takes_payload else {"type": "null"}
    result = _schema(_result_hint(hints, form, where), where)
    if result is not None and form in (Form.PARTS, Form.ASYNC_PARTS):
        result = _listed(result)
    offer = Offer(
        capability=handling.capability,
        idempotent=handling.idempotent,
        streams=form in (Form.PARTS, Form.ASYNC_PARTS),
        description=handling.description or (inspect.getdoc(method) or "").partition("\n")[0],
        payload=payload,
        result=result,
        example=_working_example(payload, hint),
        attributes=handling.attributes,
    )
    return Handler(offer, method, form, takes_payload, hint)


def _parameter(method: Callable[..., Any], where: str) -> tuple[bool, str]:
    """Whether a handler takes the payload, and under which name."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(method).parameters.values())
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    first = parameters[0] if parameters and parameters[0].kind in positional else None
    if [p for p in needed if p is not first]:
        raise UsageError(
            f"{where} takes {len(needed)} arguments: {', '.join(p.name for p in needed)}",
            hint="a handler takes the whole payload as its one argument after self; for several values use a dataclass",
        )
    return first is not None, first.name if first else ""


def _hints(method: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(method, include_extras=True)
    except (NameError, AttributeError, TypeError) as error:
        raise UsageError(
            f"a type hint of {where} can't be read: {error}",
            hint="define or import the type at the top of the file (not under TYPE_CHECKING)",
        ) from error


def _form(method: Callable[..., Any]) -> Form:
    method = inspect.unwrap(method)
    if inspect.isasyncgenfunction(method):
        return Form.ASYNC_PARTS
    if inspect.isgeneratorfunction(method):
        return Form.PARTS
    return Form.ASYNC if inspect.iscoroutinefunction(method) else Form.SYNC


def _result_hint(hints: dict[str, Any], form: Form, where: str) -> Any:
    hint = hints.get("return", inspect.Parameter.empty)
    if _is_anything(hint) or form in (Form.SYNC, Form.ASYNC):
        return hint
    origin, parts = get_origin(hint), get_args(hint)
    if origin is None or not hasattr(origin, "__iter__" if form is Form.PARTS else "__aiter__"):
        raise UsageError(
            f"{where} yields, but its return hint {hint!r} is no iterator",
            hint="write AsyncIterator[T] for async def, Iterator[T] for def",
        )
    return parts[0] if parts else Any


# --- hints and schemas ------------------------------------------------------------------------------------------------------------


def _is_anything(hint: Any) -> bool:
    return any(hint is one for one in _ANYTHING)  # not `in`: a hint need not be hashable


def _schema(hint: Any, where: str) -> JsonSchema | None:
    if _is_anything(hint):
        return None
    if hint is type(None) or hint is None:
        return {"type": "null"}
    try:
        return _tidied(msgspec.json.schema(hint, schema_hook=_model_schema))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the type hint {getattr(hint, '__name__', hint)!s} of {where} can't be checked: {str(error).splitlines()[0]}",
            hint="use builtins, dataclasses, TypedDict, Annotated or pydantic models, or leave the hint out to take any value",
        ) from error


def _tidied(schema: JsonSchema) -> JsonSchema:
    """One document: definitions at the top, where `$ref` looks for them, and bytes as the doors write them."""
    definitions: JsonSchema = {}

    def tidy(node: Any) -> Any:
        if isinstance(node, list):
            return [tidy(item) for item in node]
        if not isinstance(node, dict):
            return node
        if node.get("type") == "string" and (node.get("contentEncoding") == "base64" or node.get("format") == "binary"):
            return dict(BYTES)
        own = node.get("$defs") if isinstance(node.get("$defs"), dict) else {}
        definitions.update({name: tidy(inner) for name, inner in (own or {}).items()})
        return {key: tidy(item) for key, item in node.items() if key != "$defs"}

    whole: JsonSchema = tidy(schema)
    return {**whole, "$defs": definitions} if definitions else whole


def _listed(part: JsonSchema) -> JsonSchema:
    """The schema of a list of parts; definitions stay at the top."""
    definitions = {"$defs": part["$defs"]} if "$defs" in part else {}
    return {"type": "array", "items": {key: value for key, value in part.items() if key != "$defs"}, **definitions}


def _working_example(schema: JsonSchema | None, hint: Any) -> Any:
    """An example that the handler's own check lets through, or None. (A pattern can't be answered from the schema alone.)"""
    if schema is None:
        return None
    example = example_of(schema)
    try:
        if not _is_anything(hint):
            _convert(example, hint)
    except msgspec.ValidationError:
        return None
    return example


def _convert(payload: Any, hint: Any) -> Any:
    return msgspec.convert(payload, hint, strict=True, builtin_types=(bytes,), dec_hook=_model)


def _complaint(message: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.n`" as "payload.n: expected int, got str"."""
    text, *places = message.replace("`", "").split(" - at ")
    missing = "Object missing required field "
    if text.startswith(missing):
        path = "".join(place.removeprefix("$") for place in reversed(places))
        return f"payload{path}.{text.removeprefix(missing)} is missing"
    path = "".join(place.removeprefix("$") if place.startswith("$") else f" ({place})" for place in reversed(places))
    return f"payload{path}: {text[:1].lower()}{text[1:]}"


# --- pydantic, by what it can do --------------------------------------------------------------------------------------------------


def _model_schema(hint: Any) -> JsonSchema:
    if hasattr(hint, "model_json_schema"):
        schema: JsonSchema = hint.model_json_schema()
        return schema
    raise TypeError(f"{hint!r} is no type that can be checked")


def _model(hint: Any, value: Any) -> Any:
    if not hasattr(hint, "model_validate"):
        raise TypeError(f"expected a {getattr(hint, '__name__', hint)}")
    try:
        return hint.model_validate(value)
    except ValueError as error:
        raise ValueError(_first_of(error)) from error


def _first_of(error: ValueError) -> str:
    """The first thing that a model complains about, in the form in which msgspec names places."""
    errors: Any = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    return f"{first['msg']} - at `${path}`" if path else str(first["msg"])


def _dump(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no plain value")
