"""Tasks and results as they travel, and the errors in them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import astuple, replace

from skerry.errors import CODES, Code, ProtocolError, Refused, SkerryError, Unreachable, UsageError
from skerry.identity.codec import pack
from skerry.identity.pieces import unpack_body
from skerry.routing.task import (
    HOPS_MAX,
    PRIORITY_MOST,
    WHERE_MAX,
    Request,
    Task,
    TaskResult,
    clamp_priority,
    error_fields,
    error_from,
    new_task_id,
    read_where,
)
from tests.support.formation import MEMBER, NOW_MS, OPERATOR

TASK = Task(b"i" * 32, "web", "a" * 32, b"payload", MEMBER.public, NOW_MS)


def changed(field: int, value: Any) -> bytes:
    fields = unpack_body(TASK.to_bytes())
    fields[field] = value
    return pack(fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, b"short"),
        (0, "text"),
        (1, b"bytes"),
        (2, 7),
        (3, "text"),
        (4, bytes(31)),
        (5, "now"),
        (5, 1.5),
        (6, -1),
        (6, PRIORITY_MOST + 1),
        (7, None),
        (8, 1),
        (9, 1),
    ],
)
def test_a_task_with_a_wrong_field_is_refused(field: int, value: Any) -> None:
    with pytest.raises(ProtocolError):
        Task.from_bytes(changed(field, value))


def test_the_last_fields_may_be_missing() -> None:
    short = Task.from_bytes(pack(unpack_body(TASK.to_bytes())[:6]))
    assert short == TASK
    with pytest.raises(ProtocolError):
        Task.from_bytes(pack(unpack_body(TASK.to_bytes())[:5]))


@pytest.mark.parametrize("body", [b"", pack(None), pack({}), pack([]), pack("x"), b"\xff", pack({"id": b"i" * 32})])
def test_what_is_no_array_is_no_task(body: bytes) -> None:
    for kind in (Task, TaskResult):
        with pytest.raises(ProtocolError):
            kind.from_bytes(body)


def test_ids_differ_by_requester_and_nonce() -> None:
    ids = {new_task_id(who.public, nonce) for who in (MEMBER, OPERATOR) for nonce in (bytes(16), b"n" * 16)}
    assert len(ids) == 4
    assert all(len(one) == 32 for one in ids)


def test_a_task_over_the_bound_is_refused_with_the_bound() -> None:
    for much, code, says in (
        (replace(TASK, chain=["a"] * (HOPS_MAX + 1)), Code.HOP_LIMIT, f"at most {HOPS_MAX}"),
        (Request("web", b"", where={f"n{number}": "1" for number in range(WHERE_MAX + 1)}), Code.TOO_LARGE, f"at most {WHERE_MAX}"),
    ):
        with pytest.raises(ProtocolError) as caught:
            type(much).from_bytes(pack([*astuple(much)]))
        assert caught.value.code == code
        assert says in caught.value.message
    with pytest.raises(UsageError, match=f"at most {WHERE_MAX}"):
        read_where([f"n{number}=1" for number in range(WHERE_MAX + 1)])


def test_priorities_stay_in_bounds() -> None:
    assert [clamp_priority(priority) for priority in (-5, 0, 7, 10, 11, 10**9)] == [0, 0, 7, 10, 10, 10]


@pytest.mark.parametrize("code", [*Code, "a_new_code"])
@pytest.mark.parametrize("unknown", [True, False])
def test_every_error_comes_back_as_what_it_was(code: str, unknown: bool) -> None:
    sent = Unreachable("what", code=code, hint="next", outcome_unknown=True) if unknown else Refused("what", code=code, hint="next")
    got = error_from(error_fields(sent))
    assert (got.code, got.message, got.hint) == (code, "what", "next")
    assert getattr(got, "outcome_unknown", False) == unknown
    assert isinstance(got, Unreachable | Refused)
    assert len(CODES) == len(Code)


@pytest.mark.parametrize("fields", [None, [], ["code"], [1, 2, 3, 4], ["a", "b", "c", "d"]])
def test_a_failure_that_does_not_say_why_is_still_an_error(fields: Any) -> None:
    result = TaskResult(b"i" * 32, False, None, fields, "", b"", 0, 0.0)
    with pytest.raises(ProtocolError):
        result.raise_error()


def test_a_good_result_raises_nothing() -> None:
    TaskResult(b"i" * 32, True, b"", None, "", b"", 0, 0.0).raise_error()


def test_a_newer_peer_may_say_more_about_an_error() -> None:
    error: SkerryError = error_from(["busy", "no", "wait", False, "more"])
    assert error.code == Code.BUSY
