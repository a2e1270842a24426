"""The words of JSON Schema that we know: what fits, and examples that do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.agents.schema import BYTES, JsonSchema, example_of, misfit

TREE: JsonSchema = {
    "$ref": "#/$defs/Tree",
    "$defs": {
        "Tree": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "branches": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}

leaves = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.just(BYTES),
    st.builds(lambda least: {"type": "integer", "minimum": least}, st.integers(-9, 9)),
    st.builds(lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more}, st.integers(0, 9), st.integers(0, 9)),
    st.builds(lambda items: {"enum": items}, st.lists(st.integers(), min_size=1, max_size=3)),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 2)),
        st.builds(lambda fields: {"type": "object", "properties": fields, "required": list(fields)}, st.dictionaries(st.text("ab"), inner)),
        st.builds(lambda choices: {"anyOf": choices}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


@given(schemas)
def test_an_example_fits_its_schema(schema: JsonSchema) -> None:
    assert misfit(schema, example_of(schema)) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"name": "a", "branches": [{"name": "b", "branches": []}]}, None),
        ({"name": "a", "branches": [{"branches": []}]}, "payload.branches[0].name is missing: expected a string"),
        ({"name": "a", "leaves": 1}, "payload.leaves is not known here: expected name, branches"),
        ([], "payload: expected an object, got a list"),
        (b"x", "payload: expected an object, got bytes"),
        (True, "payload: expected an object, got true or false"),
    ],
)
def test_references_are_followed_and_places_named(value: Any, says: str | None) -> None:
    assert misfit(TREE, value) == says


def test_a_schema_that_contains_itself_has_an_example_with_an_end() -> None:
    schema = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}, "required": ["t"]}}}
    assert str(example_of(schema)).count("t") < 20


@pytest.mark.parametrize(
    ("schema", "value", "fits"),
    [
        ({}, object(), True),
        ({"type": "number"}, 1, True),
        ({"type": "number", "maximum": 2}, float("nan"), False),
        ({"type": ["string", "null"]}, None, True),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, [1, "a"], True),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, [1, 2], False),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": "b"}, False),
        ({"const": 3}, 4, False),
        ({"$ref": "#/$defs/absent"}, 4, True),
        ({"$ref": "#", "type": "integer"}, 4, True),
    ],
)
def test_what_fits(schema: JsonSchema, value: Any, fits: bool) -> None:
    assert (misfit(schema, value) is None) is fits


def test_an_example_of_the_author_goes_first() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string", "examples": ["Ann"]}, "n": {"type": "integer"}}}
    assert example_of(schema) == {"name": "Ann"}
