"""What it means that a handler failed."""

from __future__ import annotations

import pytest

from skerry.agents.letters import Outgoing
from skerry.agents.unheard import ERROR_CHARACTERS_MAX, is_passing, not_handled
from skerry.errors import Code, Refused, Unreachable

SENT = [Outgoing("a@b", b"\x01")]


@pytest.mark.parametrize(
    ("error", "busy", "passing"),
    [
        (ValueError("its own"), False, False),
        (Refused("no such thing", code=Code.TASK_FAILED), False, False),
        (Refused("no room", code=Code.BUSY), True, False),
        (Refused("nobody offers it", code=Code.UNKNOWN_CAPABILITY), False, True),
        (Unreachable("its node is away"), False, True),
        (Unreachable("it may have been done", outcome_unknown=True), False, True),
        (TimeoutError(), False, False),
    ],
)
def test_whose_fault_it_was(error: Exception, busy: bool, passing: bool) -> None:
    reply = not_handled(error, number=3, sent=SENT)
    assert (reply.handled, reply.failed_at, reply.sent, reply.state) == (3, 3, SENT, None)
    assert (reply.busy, reply.passing) == (busy, passing)
    assert is_passing(error) == passing
    assert reply.failed.startswith(type(error).__name__)


def test_what_it_says_is_bounded() -> None:
    assert len(not_handled(ValueError("x" * 5000), number=0, sent=[]).failed) == ERROR_CHARACTERS_MAX
