"""Named tensors both ways: what fits is read exactly, what does not is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.agents.runtimes.tensors import TENSOR_BYTES_MAX, Misfit, TensorSpec, example, read, schema, write
from skerry.agents.schema import misfit
from skerry.identity.codec import pack, unpack

PIXELS = TensorSpec("pixels", "float32", ("batch", 2))
SPECS = {
    "float": PIXELS,
    "int8": TensorSpec("t", "int8", (None,)),
    "bool": TensorSpec("t", "bool", (1, 1)),
    "string": TensorSpec("t", "string", (2,)),
    "scalar": TensorSpec("t", "int64", ()),
    "large": TensorSpec("t", "float32", (1, 3, 224, 224)),
}


@pytest.mark.parametrize("name", SPECS)
def test_the_example_fits_the_schema_and_the_reader(name: str) -> None:
    payload = unpack(pack(example([SPECS[name]])))
    assert len(pack(payload)) < 1000
    assert misfit(schema([SPECS[name]]), payload) is None
    arrays, _ = read([SPECS[name]], payload)
    (array,) = arrays.values()
    assert array.shape == tuple(size if isinstance(size, int) else 1 for size in SPECS[name].shape)


@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=5), st.booleans())
def test_what_goes_in_comes_out_in_the_same_form(rows: list[tuple[float, float]], as_bytes: bool) -> None:
    array = np.array(rows, dtype=np.float32)
    payload = unpack(pack({"pixels": write(array, as_bytes=as_bytes)}))
    arrays, came_as_bytes = read([PIXELS], payload)
    assert came_as_bytes is as_bytes
    assert np.array_equal(arrays["pixels"], array, equal_nan=True)
    assert arrays["pixels"].dtype == np.float32


def test_bytes_are_little_endian_whatever_the_array_was() -> None:
    written = write(np.array([1.0, 2.0], dtype=">f4"), as_bytes=True)
    assert written["data"] == np.array([1.0, 2.0], dtype="<f4").tobytes()
    assert write(np.ones((2, 3), dtype=np.float32).T, as_bytes=True)["shape"] == [3, 2]


@pytest.mark.parametrize(
    ("spec", "value", "says"),
    [
        ("float", [[1, 2, 3]], "expected pixels: float32 [batch, 2], got the shape [1, 3]"),
        ("float", [1, 2], "got the shape [2]"),
        ("float", [[1, 2], [3]], "lists have different lengths"),
        ("float", [["1", "2"]], "expected float32 values, got strings"),
        ("float", [[True, False]], "expected float32 values, got true or false"),
        ("float", None, "expected float32 values"),
        ("float", {"dtype": "float64", "shape": [1, 2], "data": bytes(16)}, ".dtype: expected 'float32', got 'float64'"),
        ("float", {"dtype": "float32", "shape": [1, 2], "data": bytes(7)}, ".data: expected 8 bytes for float32 [1, 2], got 7"),
        ("float", {"dtype": "float32", "shape": [1, 2], "data": "AAAA"}, ".data: expected bytes, got a string"),
        ("float", {"dtype": "float32", "shape": [-1, 2], "data": b""}, ".shape: expected a list of whole numbers"),
        ("float", {"dtype": "float32", "shape": [2, TENSOR_BYTES_MAX], "fill": 0}, "are allowed"),
        ("float", {"dtype": "float32", "shape": [1, 2]}, '"data" (bytes) or "fill"'),
        ("int8", [1.5], "expected int8 values, got numbers with fractions"),
        ("int8", [128], "does not fit int8 (-128 to 127)"),
        ("int8", [2**70], "expected int8 values"),
        ("bool", [[1]], "expected bool values, got whole numbers"),
        ("string", [1, 2], "expected strings, got whole numbers"),
        ("string", {"dtype": "string", "shape": [2], "data": b""}, "nested lists of strings"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(spec: str, value: Any, says: str) -> None:
    with pytest.raises(Misfit) as refusal:
        read([SPECS[spec]], {SPECS[spec].name: value})
    assert f"payload.{SPECS[spec].name}" in str(refusal.value)
    assert says in str(refusal.value)


def test_names_are_exact() -> None:
    with pytest.raises(Misfit, match=r"payload.pixels is missing: expected pixels: float32"):
        read([PIXELS], {})
    with pytest.raises(Misfit, match=r"payload.voxels is no input of this model; it takes pixels"):
        read([PIXELS], {"pixels": [[1, 2]], "voxels": []})
    with pytest.raises(Misfit, match="payload: expected an object of named tensors"):
        read([PIXELS], [[1, 2]])


def test_sequences_and_maps_of_a_model_become_lists_and_objects() -> None:
    assert write([{1: np.float32(0.5)}, np.array(["a"], dtype=object)], as_bytes=True) == [{"1": 0.5}, ["a"]]
