"""Payloads as JSON and back: bytes are `{"$bytes": base64}`, everything else is what it is.

A map that itself has the one key `$bytes` is written with one more dollar, `{"$$bytes": ...}`, and so on.

The rule: what goes out as JSON and comes back is the same value.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from skerry.errors import Code, ProtocolError, UsageError

BYTES = "$bytes"


def to_json(value: Any) -> Any:
    """A CBOR value as what `json` can write. Raises ProtocolError for what no payload should hold."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        shown = {str(key): to_json(item) for key, item in value.items()}
        return {f"${key}": item for key, item in shown.items()} if _looks_like_bytes(shown) else shown
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ProtocolError(f"the payload holds a {type(value).__name__}, which JSON can't say", hint="send plain values only")


def from_json(value: Any) -> Any:
    """A JSON value as a payload. Raises UsageError where a `$bytes` is no base64."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {BYTES}:
        try:
            return base64.b64decode(value[BYTES], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise UsageError('a {"$bytes": ...} in the payload is no base64', hint="encode the bytes as base64 text") from None
    meant = {key: from_json(item) for key, item in value.items()}
    return {key[1:]: item for key, item in meant.items()} if _looks_like_bytes(meant) else meant


def _looks_like_bytes(value: dict[str, Any]) -> bool:
    """One key, `$bytes` with any number of dollars more."""
    return len(value) == 1 and all(key.startswith("$") and key.lstrip("$") == BYTES.lstrip("$") for key in value)


def parse_payload(text: str, *, where: str = "the payload") -> Any:
    """A payload from JSON text. Raises UsageError that says where it stops being JSON."""
    try:
        return from_json(json.loads(text))
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 10) : error.pos + 20].replace("\n", " ")
        raise UsageError(
            f"{where} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}, near {near!r}",
            hint="""quote text inside it: '{"name": "Ada"}'; a plain text is '"text"'""",
            code=Code.BAD_INPUT,
        ) from None
    except ValueError as error:  # a number of thousands of digits
        raise UsageError(f"{where} is no JSON: {error}", hint="numbers up to 64 bits are allowed") from None
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply", hint="32 levels are allowed") from None


def read_value(text: str) -> Any:
    """A value as people type it: JSON where it parses, else the text itself."""
    try:
        return from_json(json.loads(text))
    except (ValueError, RecursionError):
        return text
