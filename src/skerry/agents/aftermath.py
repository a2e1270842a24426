"""What a task's caller is told when the worker died with it.

The rule: a task that the worker never began may be done elsewhere; of one that it began nobody knows.
"""

from __future__ import annotations

from skerry.errors import Code, Unreachable
from skerry.ports import Worker

LOGS = "`skerry agent logs` shows what it said"


async def after_crash(worker: Worker, turn: int, *, agent: str) -> Unreachable:
    """Once it is really over: what it began is final only then. `turn`: the task's."""
    await worker.wait()
    ended = worker.why_ended()
    why = f": {ended}" if ended else ""
    if turn <= worker.begun():
        said = f"the agent {agent!r} ended while it did the task{why}"
        return Unreachable(said, code=Code.AGENT_FAILED, hint=LOGS, outcome_unknown=True)
    return Unreachable(f"the agent {agent!r} ended before it began the task{why}", code=Code.AGENT_RESTARTING)
