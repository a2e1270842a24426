"""Receipts: what is signed can be checked by anybody, and what does not fit is no receipt."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from skerry.errors import Code, ProtocolError
from skerry.identity.codec import pack
from skerry.identity.keys import KeyPair, agent_id
from skerry.routing.receipt import PartsDigest, check_receipt, digest, read_receipt, sign_receipt
from skerry.routing.task import Task, TaskResult

KEY, OTHER = KeyPair.from_seed(b"k" * 32), KeyPair.from_seed(b"o" * 32)
TASK = Task(b"t" * 32, "custom:greet", agent_id(KEY.public), pack("Ada"), b"r" * 32, 1, receipt=True)
RESULT = TaskResult(TASK.id, True, pack("Hello"), None, TASK.agent, b"n" * 32, 1_700_000_000_000, 12.4)
SIGNED = replace(RESULT, receipt=sign_receipt(TASK, RESULT, KEY))


def test_a_receipt_says_who_did_what_for_whom_and_when() -> None:
    check_receipt(TASK, SIGNED)
    assert SIGNED.receipt is not None
    receipt = read_receipt(SIGNED.receipt)
    assert (receipt.agent, receipt.node, receipt.requester, receipt.task) == (TASK.agent, RESULT.node, TASK.requester, TASK.id)
    assert (receipt.payload, receipt.result) == (digest(pack("Ada")), digest(pack("Hello")))
    assert (receipt.completed_at, receipt.took_ms) == (1_700_000_000_000, 12)


def test_a_task_and_a_result_carry_it() -> None:
    assert TaskResult.from_bytes(SIGNED.to_bytes()) == SIGNED
    assert Task.from_bytes(TASK.to_bytes()) == TASK


@pytest.mark.parametrize(
    ("task", "result"),
    [
        (TASK, RESULT),
        (TASK, replace(SIGNED, payload=pack("Bye"))),
        (TASK, replace(SIGNED, node=b"m" * 32)),
        (replace(TASK, id=b"u" * 32), SIGNED),
        (replace(TASK, payload=pack("Eve")), SIGNED),
        (replace(TASK, requester=b"s" * 32), SIGNED),
        (replace(TASK, agent=agent_id(OTHER.public)), SIGNED),
        (TASK, replace(RESULT, receipt=sign_receipt(TASK, RESULT, OTHER))),
        (replace(TASK, origin=[b"o" * 32, b"x" * 32]), SIGNED),
        (TASK, replace(SIGNED, receipt=(SIGNED.receipt or b"")[:-1] + b"\x00")),
    ],
)
def test_a_result_signed_by_someone_else_or_for_something_else_is_refused(task: Task, result: TaskResult) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_receipt(task, result)
    assert caught.value.code == Code.BAD_SIGNATURE


@pytest.mark.parametrize("data", [b"", b"\x00" * 200, b"x" * 5000])
def test_what_is_no_receipt_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_receipt(data)


def test_a_stream_is_signed_with_all_its_parts_in_their_order() -> None:
    parts, swapped = PartsDigest(), PartsDigest()
    for part in (pack(1), pack(2)):
        parts.add(part)
    for part in (pack(2), pack(1)):
        swapped.add(part)
    done = replace(RESULT, payload=None)
    signed = replace(done, receipt=sign_receipt(TASK, done, KEY, parts=parts.digest()))
    check_receipt(TASK, signed, parts=parts.digest())
    for other in (swapped.digest(), PartsDigest().digest(), None):
        with pytest.raises(ProtocolError, match="another result"):
            check_receipt(TASK, signed, parts=other)


def test_a_task_that_was_handed_on_is_signed_for_whose_it_is() -> None:
    handed_on = replace(TASK, id=b"i" * 32, requester=b"n" * 32, origin=[TASK.id, TASK.requester])
    assert Task.from_bytes(handed_on.to_bytes()) == handed_on
    done = replace(RESULT, task_id=handed_on.id)
    signed = replace(done, receipt=sign_receipt(handed_on, done, KEY))
    check_receipt(handed_on, signed)
    check_receipt(TASK, replace(signed, task_id=TASK.id))
    with pytest.raises(ProtocolError, match="origin"):
        Task.from_bytes(replace(handed_on, origin=[b"short", TASK.requester]).to_bytes())
