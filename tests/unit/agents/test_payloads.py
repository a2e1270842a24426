"""Payloads by kind: examples fit, OpenAI's own requests fit, and a refusal names the field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.agents.capability import BARE_KINDS, NAMED_KINDS
from skerry.agents.payloads import INPUTS_MAX, SHAPES, check, shape_of
from skerry.errors import Code, UsageError
from skerry.identity.codec import pack, unpack


def test_every_kind_but_custom_has_a_shape() -> None:
    assert set(SHAPES) == set(NAMED_KINDS + BARE_KINDS) - {"custom"}
    assert shape_of("custom:x") is None


@pytest.mark.parametrize("kind", SHAPES)
def test_examples_fit_and_travel(kind: str) -> None:
    shape = SHAPES[kind]
    assert unpack(pack([shape.payload, shape.result])) == [shape.payload, shape.result]
    if shape.example is not None:
        check(kind, shape.example)
        assert unpack(pack(shape.example)) == shape.example


@pytest.mark.parametrize(
    ("capability", "payload"),
    [
        ("inference:m", {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "stop": ["a"]}),
        ("inference:m", {"messages": [{"role": "assistant", "content": None, "tool_calls": []}], "temperature": None, "logit_bias": {}}),
        ("embedding:m", {"model": "m", "input": "hi", "encoding_format": "base64"}),
        ("transcription:m", {"file": b"RIFF", "language": "en"}),
        ("custom:m", object()),
    ],
)
def test_what_clients_send_fits(capability: str, payload: Any) -> None:
    check(capability, payload)


@pytest.mark.parametrize(
    ("capability", "payload", "says"),
    [
        ("inference:m", None, "payload: expected an object, got null"),
        ("inference:m", {"messages": []}, "payload.messages: expected at least 1"),
        ("inference:m", {"messages": "hi"}, "payload.messages: expected a list, got a string"),
        ("inference:m", {"messages": [{"content": "hi"}]}, "payload.messages[0].role is missing"),
        ("inference:m", {"messages": [{"role": "user", "content": 3}]}, "payload.messages[0].content: expected a string or a list or null"),
        ("inference:m", {"messages": [{"role": "user"}], "temperature": 3}, "payload.temperature: expected at most 2"),
        ("inference:m", {"messages": [{"role": "user"}], "max_tokens": True}, "payload.max_tokens: expected a whole number"),
        ("embedding:m", {"input": []}, "payload.input: expected at least 1 item(s)"),
        ("embedding:m", {"input": ""}, "payload.input: expected at least 1 character(s)"),
        ("embedding:m", {"input": ["x"] * (INPUTS_MAX + 1)}, f"payload.input: expected at most {INPUTS_MAX}"),
        ("embedding:m", {"input": [["x"]]}, "payload.input[0]: expected a string, got a list"),
        ("transcription:m", {"file": "RIFF"}, "payload.file: expected bytes, got a string"),
        ("storage", {"op": "burn", "key": "k"}, "payload.op: expected one of"),
    ],
)
def test_a_refusal_names_the_field_and_what_was_expected(capability: str, payload: Any, says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        check(capability, payload)
    assert refusal.value.code == Code.BAD_PAYLOAD
    assert says in str(refusal.value)
    assert capability in str(refusal.value)
    assert f"skerry capability show {capability}" in refusal.value.hint


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["messages", "input", "role", "content", "x"]), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(SHAPES)), values)
def test_any_value_fits_or_is_refused(kind: str, payload: Any) -> None:
    refusal = None
    try:
        check(kind, payload)
    except UsageError as error:
        refusal = error
    assert refusal is None or "payload" in str(refusal)
