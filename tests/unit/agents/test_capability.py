"""Capabilities and queries: what is one, and which answers which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.agents.capability import (
    BARE_KINDS,
    LENGTH_MAX,
    NAMED_KINDS,
    check_capability,
    check_query,
    idempotent_by_default,
    kind_of,
    matches,
    name_of,
)
from skerry.errors import Code, UsageError

names = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="*"), min_size=1, max_size=60)
capabilities = st.one_of(st.builds("{}:{}".format, st.sampled_from(NAMED_KINDS), names), st.sampled_from(BARE_KINDS))


@pytest.mark.parametrize("text", ["inference:llama3:8b", "embedding:all-MiniLM-L6-v2", "custom:Grüße", "web", "storage", "inference:a/b"])
def test_these_are_capabilities(text: str) -> None:
    assert check_capability(text) == text
    assert check_query(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1 to"),
        (" web", "blanks"),
        ("inference:\n", "printable"),
        ("inference:" + "x" * LENGTH_MAX, "1 to"),
        ("inference", "inference:NAME"),
        ("inference:", "inference:NAME"),
        ("web:page", "must be one of"),
        ("greet", "must be one of"),
        ("Inference:x", "must be one of"),
        ("inference:llama*", "only a query"),
    ],
)
def test_these_are_none_and_the_refusal_says_why(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        check_capability(text)
    assert refusal.value.code == Code.BAD_INPUT
    assert refusal.value.hint


@pytest.mark.parametrize("query", ["*", "inference:*", "inference:llama3*", "emb*", "w*", "web*"])
def test_these_are_queries(query: str) -> None:
    assert check_query(query) == query


@pytest.mark.parametrize("query", ["**", "infer*:x", "*:x", "inference:*:8b", "nothing*", "nothing:*", "web:*"])
def test_these_are_no_queries(query: str) -> None:
    with pytest.raises(UsageError):
        check_query(query)


def test_a_refusal_offers_the_custom_form() -> None:
    with pytest.raises(UsageError) as refusal:
        check_capability("mine:greet")
    assert "custom:mine-greet" in refusal.value.hint


@given(capabilities)
def test_kind_and_name_make_the_capability_again(capability: str) -> None:
    kind, name = kind_of(capability), name_of(capability)
    assert (f"{kind}:{name}" if name else kind) == check_capability(capability)


@given(capabilities, capabilities)
def test_an_exact_query_finds_itself_alone(one: str, other: str) -> None:
    assert matches(one, other) == (one == other)


@given(capabilities, st.data())
def test_every_start_of_a_capability_finds_it(capability: str, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(capability)))
    assert matches(f"{capability[:length]}*", capability)


@given(capabilities, capabilities)
def test_what_a_prefix_finds_begins_with_it(one: str, other: str) -> None:
    assert matches(f"{one}*", other) == other.startswith(one)


@given(st.text(max_size=250))
def test_any_text_is_taken_as_it_is_or_refused(text: str) -> None:
    for check in (check_capability, check_query):
        refusal = None
        try:
            assert check(text) == text
        except UsageError as error:
            refusal = error
        assert refusal is None or refusal.hint


@pytest.mark.parametrize(("capability", "harmless"), [("inference:x", True), ("embedding:x", True), ("custom:x", False), ("web", False)])
def test_the_kind_decides_what_may_be_done_twice(capability: str, harmless: bool) -> None:
    assert idempotent_by_default(capability) is harmless
