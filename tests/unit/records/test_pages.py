"""Pages as they travel over HTTP."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest

from skerry.errors import ProtocolError, UsageError
from skerry.identity.codec import pack, unpack
from skerry.records.card import card_from_json
from skerry.records.pages import (
    CBOR,
    JSON,
    LIMIT,
    PAGE_BYTES_MAX,
    entity_tag,
    read_cursor,
    read_limit,
    read_page,
    to_cbor,
    to_json,
    update_of,
)
from tests.support.federation import card_at
from tests.support.formation import NOW_MS, OPERATOR, operator_grant
from tests.support.replicas import said

CARD = card_at(OPERATOR.public.hex())
RECORDS = [operator_grant().signed]
PAGE = update_of(RECORDS, peers=["https://a.example"], cursor="abc.7", more=True, now_ms=NOW_MS)
PLAIN: dict[str, Any] = json.loads(to_json(PAGE))


def test_a_page_comes_back_in_both_forms() -> None:
    for form, body in ((JSON, to_json(PAGE)), (CBOR, to_cbor(PAGE)), ("Application/JSON; charset=utf-8", to_json(PAGE))):
        assert read_page(body, form) == PAGE
    assert PAGE["records"] == PAGE.records == RECORDS
    assert (PAGE.timestamp, PAGE["cursor"], PAGE.more) == (NOW_MS / 1000, "YWJjLjc", True)
    with pytest.raises(KeyError):
        PAGE["nothing"]


def test_agents_are_decoded_for_who_only_looks() -> None:
    from skerry.records.card import sealed_form

    record = said(OPERATOR, name=CARD.id, body={"card": sealed_form(CARD), "status": "available"}, audience="public")
    page = update_of([record.signed, said(OPERATOR, name="broken").signed], peers=[], cursor="a.1", more=False, now_ms=NOW_MS)
    assert page["agents"][0].id == CARD.id
    assert [card_from_json(value) for value in json.loads(to_json(page))["agents"]] == [CARD]
    assert unpack(to_cbor(page))["agents"] == [CARD.id]
    assert len(to_cbor(page)) < len(to_json(page)) * 0.6
    assert read_page(to_json(page), JSON).agents == [], "nothing is believed but the records"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("records", None),
        ("records", ["!"]),
        ("records", [""]),
        ("records", [7]),
        ("records", ["AA"] * 1001),
        ("records", ["A" * 100_000]),
        ("peers", "https://a.example"),
        ("peers", [7]),
        ("cursor", 7),
        ("cursor", "%"),
        ("cursor", "A" * 300),
        ("cursor", "AAAA"),
        ("timestamp", "now"),
        ("timestamp", True),
        ("more", "yes"),
    ],
)
def test_a_page_with_a_wrong_field_names_it(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=field):
        read_page(json.dumps({**PLAIN, field: value}).encode(), JSON)
    if value is not None and value != ["A" * 100_000]:
        with pytest.raises(ProtocolError, match=field):
            read_page(pack({**PLAIN, "records": RECORDS, field: value}), CBOR)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400])
def test_a_timestamp_that_is_no_time_names_the_field(number: str) -> None:
    with pytest.raises(ProtocolError, match="timestamp"):
        read_page(json.dumps(PLAIN | {"timestamp": 0}).replace('"timestamp": 0', f'"timestamp": {number}').encode(), JSON)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0])
def test_a_timestamp_that_is_no_number_of_seconds_names_the_field(number: float) -> None:
    page = pack({**PLAIN, "records": RECORDS, "timestamp": 0.1})
    body = page.replace(struct.pack(">d", 0.1), struct.pack(">d", number))
    assert body != page
    with pytest.raises(ProtocolError, match="timestamp"):
        read_page(body, CBOR)


def test_a_page_without_a_field_names_it() -> None:
    for field in ("records", "peers", "cursor", "timestamp"):
        rest = {key: value for key, value in PLAIN.items() if key != field}
        with pytest.raises(ProtocolError, match=f"{field}: it is missing"):
            read_page(json.dumps(rest).encode(), JSON)


@pytest.mark.parametrize(
    ("body", "form", "named"),
    [
        (b"{", JSON, "no JSON"),
        (b"[]", JSON, "object"),
        (b"\xff", CBOR, "CBOR"),
        (b"{}", "text/html", "content-type"),
        (b"[" * 100_000, JSON, "no JSON"),
        (b"x" * (PAGE_BYTES_MAX + 1), JSON, "at most"),
    ],
)
def test_what_is_no_page_is_refused(body: bytes, form: str, named: str) -> None:
    with pytest.raises(ProtocolError, match=named):
        read_page(body, form)


@pytest.mark.parametrize("text", ["%%%", "AAAA", "a.b", "YWJj", "é", "A" * 201, " "])
def test_a_cursor_that_is_none_names_the_field(text: str) -> None:
    with pytest.raises(UsageError, match="since"):
        read_cursor(text)


def test_cursors_and_limits() -> None:
    assert read_cursor("") == read_cursor("0") == ""
    assert read_cursor(PAGE.cursor) == "abc.7"
    assert (read_limit(""), read_limit("7"), read_limit("100000")) == (LIMIT, 7, LIMIT)
    for text in ("0", "-1", "x", "1.5", "9" * 50):
        with pytest.raises(UsageError, match="limit"):
            read_limit(text)


def test_the_tag_follows_what_is_said_and_not_the_time() -> None:
    later = update_of(RECORDS, peers=["https://a.example"], cursor="abc.7", more=True, now_ms=NOW_MS + 5000)
    assert entity_tag(PAGE, JSON) == entity_tag(later, JSON) != entity_tag(PAGE, CBOR)
    other = update_of(RECORDS, peers=[], cursor="abc.7", more=True, now_ms=NOW_MS)
    assert entity_tag(other, JSON) != entity_tag(PAGE, JSON)
