"""What it means that a handler failed with a letter: whose fault it was, and so how often it is worth another try.

The rule: what another agent's absence did is no fault of the letter's, and passes.
"""

from __future__ import annotations

from skerry.agents.letters import HearReply, Outgoing
from skerry.errors import Code, Refused, Unreachable

ERROR_CHARACTERS_MAX = 1000  # of what an agent's exception says, as others see it
ABSENT = frozenset(
    {
        Code.UNKNOWN_CAPABILITY,
        Code.NO_CANDIDATE,
        Code.NOT_AVAILABLE,
        Code.BLACKLISTED,
        Code.AGENT_RESTARTING,
        Code.SHUTTING_DOWN,
        Code.UNREACHABLE,
        Code.CONNECTION_LOST,
    }
)  # what a call is refused with where nobody is there who could do it, or not now


def is_passing(error: Exception) -> bool:
    """Whether whom the handler asked is not there now: a node starts again, say, or a model still loads."""
    return isinstance(error, Unreachable) or (isinstance(error, Refused) and error.code in ABSENT)


def not_handled(error: Exception, *, number: int, sent: list[Outgoing]) -> HearReply:
    """The letter with that number could not be handled, those before it were."""
    busy = isinstance(error, Refused) and error.code == Code.BUSY
    said = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]
    return HearReply(number, None, sent, said, number, busy, is_passing(error))
