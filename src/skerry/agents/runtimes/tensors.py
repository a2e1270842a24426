"""Named tensors as CBOR values, both ways.

A tensor is nested lists, `{"dtype", "shape", "data"}` with the raw little-endian bytes in C order, or, for trying things out,
`{"dtype", "shape", "fill"}`. Results come in the form in which the inputs came: lists for lists, bytes for bytes.

The rule: what a model is fed has exactly the names, types and shapes that it asks for; a refusal names the tensor and both sides.
Imports numpy, so only a runtime that is active imports it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry.agents.schema import BYTES, JsonSchema, noun

TENSOR_BYTES_MAX = 256 * 1024 * 1024  # as much as one payload may have; a "fill" must not ask for more
EXAMPLE_ELEMENTS_MAX = 64  # a longer list shows nothing that a "fill" doesn't

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}


class Misfit(ValueError):
    """A tensor is not what the model asks for; the text says which and why."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. A dimension that is no number is free, and has a name at best."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join(str(size) if size is not None else "any" for size in self.shape)
        return f"{self.name}: {self.dtype} [{sizes}]"


def read(specs: Sequence[TensorSpec], payload: Any) -> tuple[dict[str, NDArray[Any]], bool]:
    """The arrays for a model, and whether they came as bytes. Raises Misfit."""
    asked = "; ".join(map(str, specs))
    if not isinstance(payload, dict):
        raise Misfit(f"payload: expected an object of named tensors ({asked}), got {noun(payload)}")
    known = {spec.name for spec in specs}
    for name in payload:
        if name not in known:
            raise Misfit(f"payload.{name} is no input of this model; it takes {asked}")
    arrays = {}
    for spec in specs:
        if spec.name not in payload:
            raise Misfit(f"payload.{spec.name} is missing: expected {spec}")
        value = payload[spec.name]
        arrays[spec.name] = _typed(spec, value) if isinstance(value, dict) else _listed(spec, value)
        _check_shape(spec, arrays[spec.name].shape)
    return arrays, any(isinstance(value, dict) for value in payload.values())


def write(value: Any, *, as_bytes: bool) -> Any:
    """A model's output as a CBOR value. Sequences and maps, which some models have, become lists and objects."""
    match value:
        case np.ndarray():
            if not as_bytes or value.dtype.kind in "OUS":
                return value.tolist()
            little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
            return {"dtype": str(value.dtype), "shape": list(value.shape), "data": little.tobytes()}
        case dict():
            return {str(key): write(item, as_bytes=as_bytes) for key, item in value.items()}
        case list() | tuple():
            return [write(item, as_bytes=as_bytes) for item in value]
        case np.generic():
            return value.item()
        case _:
            return value


def schema(specs: Sequence[TensorSpec]) -> JsonSchema:
    """What `read` takes."""
    return {
        "type": "object",
        "properties": {spec.name: {"description": str(spec), "anyOf": [_list_schema(spec), *_typed_schemas(spec)]} for spec in specs},
        "required": [spec.name for spec in specs],
        "additionalProperties": False,
    }


def example(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """A payload of ones, free dimensions 1."""
    return {spec.name: _example(spec) for spec in specs}


def _typed(spec: TensorSpec, value: dict[str, Any]) -> NDArray[Any]:
    at = f"payload.{spec.name}"
    if spec.dtype == "string":
        raise Misfit(f"{at}: expected nested lists of strings; text has no byte form")
    if value.get("dtype") != spec.dtype:
        raise Misfit(f"{at}.dtype: expected {spec.dtype!r}, got {value.get('dtype')!r}")
    shape = value.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise Misfit(f"{at}.shape: expected a list of whole numbers, got {shape!r}")
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes > TENSOR_BYTES_MAX:
        raise Misfit(f"{at}.shape: {shape} makes {size_bytes} bytes, at most {TENSOR_BYTES_MAX} are allowed")
    if "data" not in value:
        fill = value.get("fill")
        if not isinstance(fill, int | float):
            raise Misfit(f'{at}: expected "data" (bytes) or "fill" (a number) beside "dtype" and "shape"')
        return np.full(tuple(shape), fill, dtype=spec.dtype)
    data = value["data"]
    if not isinstance(data, bytes | bytearray):
        raise Misfit(f"{at}.data: expected bytes, got {noun(data)}")
    if len(data) != size_bytes:
        raise Misfit(f"{at}.data: expected {size_bytes} bytes for {spec.dtype} {shape}, got {len(data)}")
    return np.frombuffer(data, dtype=dtype).reshape(shape).astype(spec.dtype, copy=False)


def _listed(spec: TensorSpec, value: Any) -> NDArray[Any]:
    at = f"payload.{spec.name}"
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise Misfit(f"{at}: its lists have different lengths; expected {spec}") from error
    if spec.dtype == "string":
        if found.size and found.dtype.kind != "U":
            raise Misfit(f"{at}: expected strings, got {_kind(found)}")
        return found.astype(object)
    wanted = np.dtype(spec.dtype)
    allowed = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}[wanted.kind]
    if found.size and found.dtype.kind not in allowed:
        raise Misfit(f"{at}: expected {spec.dtype} values, got {_kind(found)}")
    if found.size and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if found.min() < limits.min or found.max() > limits.max:
            raise Misfit(f"{at}: a value does not fit {spec.dtype} ({limits.min} to {limits.max})")
    return found.astype(wanted)


def _kind(found: NDArray[Any]) -> str:
    words = {"U": "strings", "b": "true or false", "f": "numbers with fractions", "i": "whole numbers", "u": "whole numbers", "S": "bytes"}
    return words.get(found.dtype.kind, "values of no single type")


def _check_shape(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(wanted, int) or wanted == size for wanted, size in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise Misfit(f"payload.{spec.name}: expected {spec}, got the shape {list(shape)}")


def _leaf(spec: TensorSpec) -> JsonSchema:
    kinds = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
    return {"type": "string" if spec.dtype == "string" else kinds[np.dtype(spec.dtype).kind]}


def _list_schema(spec: TensorSpec) -> JsonSchema:
    inner = _leaf(spec)
    for size in reversed(spec.shape):
        fixed = {"minItems": size, "maxItems": size} if isinstance(size, int) else {}
        inner = {"type": "array", "items": inner, **fixed}
    return inner


def _typed_schemas(spec: TensorSpec) -> list[JsonSchema]:
    if spec.dtype == "string":
        return []
    sizes = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": len(spec.shape), "maxItems": len(spec.shape)}
    same = {"dtype": {"const": spec.dtype}, "shape": sizes}
    fill = {"type": "boolean" if spec.dtype == "bool" else "number"}
    return [
        {"type": "object", "properties": {**same, "data": BYTES}, "required": ["dtype", "shape", "data"]},
        {"type": "object", "properties": {**same, "fill": fill}, "required": ["dtype", "shape", "fill"]},
    ]


def _example(spec: TensorSpec) -> Any:
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    if spec.dtype == "string":
        return np.full(shape, "text").tolist()
    if math.prod(shape) > EXAMPLE_ELEMENTS_MAX:
        return {"dtype": spec.dtype, "shape": shape, "fill": spec.dtype == "bool" or 1}
    return np.ones(shape, dtype=spec.dtype).tolist()
