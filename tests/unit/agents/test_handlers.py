"""Type hints become schemas, checks and examples; results become plain values."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from pydantic import BaseModel, Field

from skerry.agents.handlers import Form, Handler, handlers_of, plain
from skerry.agents.schema import BYTES, misfit
from skerry.agents.sdk import Agent, handles
from skerry.errors import Code, SkerryError, UsageError
from skerry.identity.codec import pack, unpack


@dataclass
class Guest:
    name: Annotated[str, msgspec.Meta(min_length=1, examples=["Ann"])]
    age: int = 0
    photo: bytes = b""


class Sort(enum.Enum):
    LOUD = "loud"


class Options(TypedDict, total=False):
    sort: Literal["asc", "desc"]


class Seat(BaseModel):
    row: int = Field(ge=1)
    tags: list[str] = []


class Table(BaseModel):
    seats: list[Seat]


@dataclass
class Party:
    guests: list[Guest]
    table: Table
    seat: Seat = field(default_factory=lambda: Seat(row=1))


class Host(Agent):
    @handles("custom:guest")
    def guest(self, guest: Guest) -> Guest:
        """Welcomes one.

        And more that nobody needs to know."""
        return guest

    @handles("custom:party", description="all at once")
    async def party(self, party: Party) -> dict[str, list[Guest]]:
        return {"guests": party.guests}

    @handles("custom:table")
    async def table(self, table: Table) -> Table:
        return table

    @handles("custom:seats")
    async def seats(self, seats: list[Seat]) -> AsyncIterator[Seat]:
        for seat in seats:
            yield seat

    @handles("custom:count")
    def count(self, upto: int) -> Iterator[int]:
        yield from range(upto)

    @handles("custom:options")
    def options(self, options: Options | None) -> None: ...

    @handles("custom:any")
    def any(self, payload):  # type: ignore[no-untyped-def] # as people write
        return payload

    @handles("custom:none")
    def none(self) -> None: ...

    @handles("custom:bytes")
    def bytes(self, data: bytes, *, hidden: int = 3) -> bytes:
        return data


def handler(name: str) -> Handler:
    return handlers_of(Host())[f"custom:{name}"]


@pytest.mark.parametrize(
    ("name", "form"),
    [("guest", Form.SYNC), ("party", Form.ASYNC), ("count", Form.PARTS), ("seats", Form.ASYNC_PARTS), ("none", Form.SYNC)],
)
def test_the_four_forms_are_told_apart(name: str, form: Form) -> None:
    assert handler(name).form is form
    assert handler(name).offer.streams is (form in (Form.PARTS, Form.ASYNC_PARTS))


def test_the_description_is_what_was_said_or_the_docstrings_first_line() -> None:
    assert handler("guest").offer.description == "Welcomes one."
    assert handler("party").offer.description == "all at once"


@pytest.mark.parametrize("name", ["guest", "party", "table", "seats", "count", "options", "none", "bytes"])
def test_the_example_fits_the_schema_and_the_handler(name: str) -> None:
    one = handler(name)
    assert one.offer.payload is not None
    assert misfit(one.offer.payload, one.offer.example) is None
    one.arguments(unpack(pack(one.offer.example)))
    assert unpack(pack(one.offer.payload)) == one.offer.payload


def test_the_authors_example_is_shown() -> None:
    assert handler("guest").offer.example == {"name": "Ann"}


def test_references_point_into_one_document() -> None:
    schema = handler("party").offer.payload
    assert schema is not None
    assert {"Party", "Guest", "Seat"} <= set(schema["$defs"])
    assert schema["$defs"]["Guest"]["properties"]["photo"] == BYTES
    assert handler("seats").offer.result == {
        "type": "array",
        "items": {k: v for k, v in (handler("seats").offer.payload or {})["items"].items() if k != "$defs"},
    }


@pytest.mark.parametrize(
    ("name", "payload", "taken"),
    [
        ("guest", {"name": "Ann", "photo": b"jpg"}, Guest("Ann", photo=b"jpg")),
        ("table", {"seats": [{"row": 2}]}, Table(seats=[Seat(row=2)])),
        ("seats", [{"row": 2}], [Seat(row=2)]),
        ("options", {"sort": "asc"}, {"sort": "asc"}),
        ("options", None, None),
        ("any", {"what": [1, b"x"]}, {"what": [1, b"x"]}),
        ("bytes", b"\x00", b"\x00"),
    ],
)
def test_a_payload_becomes_what_the_hint_says(name: str, payload: Any, taken: Any) -> None:
    assert handler(name).arguments(payload) == (taken,)


def test_no_payload_becomes_no_argument() -> None:
    assert handler("none").arguments(None) == ()


@pytest.mark.parametrize(
    ("name", "payload", "says"),
    [
        ("guest", {}, "payload.name is missing"),
        ("guest", {"name": ""}, "payload.name: expected str of length >= 1"),
        ("guest", {"name": "Ann", "age": "7"}, "payload.age: expected int, got str"),
        ("guest", {"name": "Ann", "photo": "aGk="}, "payload.photo: expected bytes, got str"),
        ("guest", "Ann", "payload: expected object, got str"),
        ("party", {"guests": [{"name": "a"}, {"age": 1}], "table": {"seats": []}}, "payload.guests[1].name is missing"),
        ("party", {"guests": [], "table": {"seats": [{"row": 0}]}}, "payload.table.seats[0].row: input should be greater"),
        ("table", {}, "payload.seats: field required"),
        ("seats", [{"row": 1}, {"row": "x"}], "payload[1].row: input should be a valid integer"),
        ("options", {"sort": "up"}, "payload.sort: invalid enum value 'up'"),
        ("count", 1.5, "payload: expected int, got float"),
        ("none", {}, "payload: expected nothing"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_by_field(name: str, payload: Any, says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        handler(name).arguments(payload)
    assert refusal.value.code == Code.BAD_PAYLOAD
    assert says in str(refusal.value)
    assert f"custom:{name}" in str(refusal.value)


def _refused(method: Any) -> str:
    agent = type("Wrong", (Agent,), {"do": handles("custom:do")(method)})()
    with pytest.raises(UsageError) as refusal:
        handlers_of(agent)
    assert refusal.value.hint
    return str(refusal.value)


def test_a_handler_with_more_arguments_is_refused() -> None:
    def do(self: Any, first: int, second: int) -> None: ...

    assert _refused(do) == "Wrong.do takes 2 arguments: first, second"


def test_a_hint_that_cannot_be_read_is_refused() -> None:
    def do(self: Any, payload: Unknown) -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert "Unknown" in _refused(do)


def test_a_hint_that_cannot_be_checked_is_refused() -> None:
    def do(self: Any, payload: Agent) -> None: ...

    assert "Agent" in _refused(do)


def test_a_generator_with_a_plain_return_hint_is_refused() -> None:
    def do(self: Any) -> int:  # type: ignore[misc] # what a user may get wrong
        yield 1

    assert "yields" in _refused(do)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (None, None),
        (Guest("Ann", photo=b"x"), {"name": "Ann", "age": 0, "photo": b"x"}),
        ([Seat(row=1)], [{"row": 1, "tags": []}]),
        (Party([], Table(seats=[])), {"guests": [], "table": {"seats": []}, "seat": {"row": 1, "tags": []}}),
        ({"a": (1, {2})}, {"a": [1, [2]]}),
        (Sort.LOUD, "loud"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        (memoryview(b"x"), b"x"),
        (bytearray(b"x"), b"x"),
    ],
)
def test_results_become_values_that_can_be_sent(value: Any, sent: Any) -> None:
    assert unpack(pack(plain(value))) == sent


def test_arrays_of_numpy_become_lists() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy comes with the onnx extra")
    assert plain({"a": numpy.ones((1, 2)), "b": numpy.float32(0.5)}) == {"a": [[1.0, 1.0]], "b": 0.5}


def test_a_result_that_cannot_be_sent_is_the_agents_fault() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), [lambda: 1], endless):
        with pytest.raises(SkerryError, match="can't be sent") as refusal:
            plain(value)
        assert refusal.value.code == Code.AGENT_FAILED
