"""The part of JSON Schema that agents speak: does a value fit, and what would an example be?

Cards carry schemas to people and to tools; here a node uses the same text to say which field of a payload is wrong. Only the words
that we write ourselves are known (`type`, `properties`, `items`, `anyOf`, limits ...); a word that is not known restrains nothing.

The rule: a refusal names the field and what was expected there, and a schema is data, never code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JsonSchema = dict[str, Any]

EXAMPLE_DEPTH_MAX = 8  # a type that contains itself must come to an end; people stop reading long before
SHOWN_CHARS_MAX = 40  # of an unfit value, in a message

# CBOR has bytes, JSON has not: the doors write them as {"$bytes": base64}, so that is what the schema says.
BYTES: JsonSchema = {
    "title": "bytes",
    "type": "object",
    "properties": {"$bytes": {"type": "string", "contentEncoding": "base64"}},
    "required": ["$bytes"],
    "additionalProperties": False,
}

_NOUNS = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def misfit(schema: JsonSchema, value: Any, *, at: str = "payload") -> str | None:
    """Why `value` does not fit, as `payload.messages[0].role: expected a string, got a whole number`; None where it fits."""
    return next(_misfits(schema, value, at, schema), None)


def example_of(schema: JsonSchema) -> Any:
    """A value that fits as far as it can be told from the schema: required fields, and those that show an example. Ask `misfit`."""
    return _example(schema, schema, EXAMPLE_DEPTH_MAX)


def noun(value: Any) -> str:
    """What a value is, in the words of JSON: "a list", "bytes"."""
    match value:
        case None:
            return "null"
        case bool():
            return _NOUNS["boolean"]
        case int():
            return _NOUNS["integer"]
        case float():
            return _NOUNS["number"]
        case str():
            return _NOUNS["string"]
        case bytes() | bytearray():
            return "bytes"
        case list() | tuple():
            return _NOUNS["array"]
        case dict():
            return _NOUNS["object"]
        case _:
            return f"a {type(value).__name__}"


def resolve(schema: JsonSchema, root: JsonSchema) -> JsonSchema:
    """Follow `$ref` inside one document. A reference that leads nowhere restrains nothing."""
    hops = 0
    while isinstance(reference := schema.get("$ref"), str):
        target: Any = root
        for step in reference.removeprefix("#/").split("/"):
            target = target.get(step, {}) if isinstance(target, dict) else {}
        schema, hops = target, hops + 1
        if hops > EXAMPLE_DEPTH_MAX:
            return {}
    return schema


def _misfits(schema: JsonSchema, value: Any, at: str, root: JsonSchema) -> Iterator[str]:
    schema = resolve(schema, root)
    if schema.get("title") == BYTES["title"] and "$bytes" in schema.get("properties", ()):
        if not isinstance(value, bytes | bytearray):
            yield f"{at}: expected bytes, got {noun(value)}"
        return
    if "anyOf" in schema:
        yield from _any_of(schema["anyOf"], value, at, root)
    if "const" in schema and value != schema["const"]:
        yield f"{at}: expected {schema['const']!r}, got {_shown(value)}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: expected one of {', '.join(map(repr, schema['enum']))}, got {_shown(value)}"
    expected = schema.get("type")
    kinds = [expected] if isinstance(expected, str) else expected
    if kinds and not _is_of_type(schema, value):
        yield f"{at}: expected {' or '.join(_NOUNS.get(kind, kind) for kind in kinds)}, got {noun(value)}"
        return
    match value:
        case dict():
            yield from _in_object(schema, value, at, root)
        case list() | tuple():
            yield from _in_list(schema, value, at, root)
        case str():
            yield from _bounds(schema, len(value), at, "minLength", "maxLength", "character(s)")
        case bool():
            return
        case int() | float():
            yield from _bounds(schema, value, at, "minimum", "maximum", "")


def _is(kind: str, value: Any) -> bool:
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list | tuple)
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case _:
            return True


def _any_of(choices: list[JsonSchema], value: Any, at: str, root: JsonSchema) -> Iterator[str]:
    """The complaint of the first choice that is of the value's own type, else all expectations together."""
    complaints = []
    for choice in choices:
        complaint = next(_misfits(choice, value, at, root), None)
        if complaint is None:
            return
        if _is_of_type(resolve(choice, root), value):
            complaints.append(complaint)
    if complaints:
        yield complaints[0]
    else:
        yield f"{at}: expected {_expectation({'anyOf': choices}, root)}, got {noun(value)}"


def _is_of_type(schema: JsonSchema, value: Any) -> bool:
    expected = schema.get("type")
    return any(_is(kind, value) for kind in ([expected] if isinstance(expected, str) else expected or []))


def _in_object(schema: JsonSchema, value: dict[Any, Any], at: str, root: JsonSchema) -> Iterator[str]:
    properties: dict[str, JsonSchema] = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}.{name} is missing: expected {_expectation(properties.get(name, {}), root)}"
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            yield from _misfits(properties[name], item, f"{at}.{name}", root)
        elif others is False:
            yield f"{at}.{name} is not known here: expected {', '.join(properties) or 'nothing'}"
        elif isinstance(others, dict):
            yield from _misfits(others, item, f"{at}.{name}", root)


def _in_list(schema: JsonSchema, value: list[Any] | tuple[Any, ...], at: str, root: JsonSchema) -> Iterator[str]:
    yield from _bounds(schema, len(value), at, "minItems", "maxItems", "item(s)")
    first: list[JsonSchema] = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    for index, item in enumerate(value):
        if index < len(first):
            yield from _misfits(first[index], item, f"{at}[{index}]", root)
        elif isinstance(rest, dict):
            yield from _misfits(rest, item, f"{at}[{index}]", root)


def _bounds(schema: JsonSchema, size: float, at: str, least: str, most: str, unit: str) -> Iterator[str]:
    tail = f" {unit}" if unit else ""
    if least in schema and not size >= schema[least]:
        yield f"{at}: expected at least {schema[least]}{tail}, got {size}"
    if most in schema and not size <= schema[most]:
        yield f"{at}: expected at most {schema[most]}{tail}, got {size}"


def _expectation(schema: JsonSchema, root: JsonSchema) -> str:
    schema = resolve(schema, root)
    if schema.get("title") == BYTES["title"]:
        return "bytes"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_expectation(choice, root) for choice in schema["anyOf"]))
    if "enum" in schema:
        return f"one of {', '.join(map(repr, schema['enum']))}"
    kinds = schema.get("type", [])
    return " or ".join(_NOUNS.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)) or "a value"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}..."


def _example(schema: JsonSchema, root: JsonSchema, depth: int) -> Any:
    schema = resolve(schema, root)
    if depth == 0:
        return None
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("title") == BYTES["title"]:
        return b"bytes"
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], root, depth - 1)
    kind = schema.get("type")
    match kind if isinstance(kind, str) else (kind or [None])[0]:
        case "object":
            return _example_object(schema, root, depth)
        case "array":
            return _example_list(schema, root, depth)
        case "string":
            return _example_text(schema)
        case "integer":
            return int(max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1))
        case "number":
            return max(schema.get("minimum", 1.0), schema.get("exclusiveMinimum", 0.0) + 1.0)
        case "boolean":
            return True
        case _:
            return None


def _example_object(schema: JsonSchema, root: JsonSchema, depth: int) -> dict[str, Any]:
    properties: dict[str, JsonSchema] = schema.get("properties", {})
    shown = [name for name, inner in properties.items() if name in schema.get("required", ()) or inner.get("examples")]
    return {name: _example(properties[name], root, depth - 1) for name in shown}


def _example_list(schema: JsonSchema, root: JsonSchema, depth: int) -> list[Any]:
    items = [_example(inner, root, depth - 1) for inner in schema.get("prefixItems", ())]
    rest = schema.get("items")
    if isinstance(rest, dict):
        wanted = max(schema.get("minItems", 0), min(1, schema.get("maxItems", 1)))
        items += [_example(rest, root, depth - 1) for _ in range(wanted - len(items))]
    return items


def _example_text(schema: JsonSchema) -> str:
    known = {"date-time": "2026-01-31T12:00:00Z", "date": "2026-01-31", "time": "12:00:00Z", "uuid": "7d444840-9dc0-11d1-b245-5ffdce74fad2"}
    text = known.get(schema.get("format", ""), "text").ljust(schema.get("minLength", 0), "t")
    return text[: schema.get("maxLength", len(text))]
