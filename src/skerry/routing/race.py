"""Two agents at work on one task, where the first one is slow: whoever answers first is heard, the other one is told to stop.

The second one is asked when the first takes twice as long as it lately took at most; latency is a peak-aware average, so this is rare while
all is well. Only idempotent tasks come here twice.

The rule: never more than two at a time, and none is left at work when the race is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from skerry.errors import SkerryError
from skerry.routing.pool import Option
from skerry.routing.task import Task, TaskResult
from skerry.routing.trial import Trial

HEDGE_FACTOR = 2.0
HEDGE_LEAST_S = 0.01  # below it a second task costs more than the wait
HEDGE_UNMEASURED_S = 0.1  # for one whose latency nobody knows yet

Ask = Callable[[Option, Task, float, Trial], Coroutine[Any, Any, TaskResult]]


class Race:
    """The agents at work on one task. `hedge`: the one that was asked beside another."""

    def __init__(self, ask: Ask, trial: Trial) -> None:
        self.runs: dict[asyncio.Task[TaskResult], Option] = {}
        self.hedge: Option | None = None
        self._ask = ask
        self._trial = trial
        self._alone = True  # nobody was asked beside the one at work

    def start(self, option: Option, task: Task, left_s: float) -> None:
        running = asyncio.get_running_loop().create_task(self._ask(option, task, left_s, self._trial))
        self.runs[running] = option
        self._alone = option.candidate.idempotent

    async def next_end(self) -> tuple[Option, TaskResult | SkerryError] | None:
        """Who ended, and with what; None where a second one was asked meanwhile, or none is there."""
        waits_s = self._patience_s() if self._alone and len(self.runs) == 1 else None
        done, _ = await asyncio.wait(self.runs, timeout=waits_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            self._start_second()
            return None
        ended = done.pop()  # of two at once either will do; the other one is looked at next
        option = self.runs.pop(ended)
        error = ended.exception()
        if isinstance(error, SkerryError):
            return option, error
        return option, ended.result()

    async def cancel(self) -> None:
        for running in self.runs:
            running.cancel()
        if self.runs:
            await asyncio.gather(*self.runs, return_exceptions=True)

    def _start_second(self) -> None:
        self._alone = False
        (first,) = self.runs.values()
        self._trial.at_work(first)
        second = self._trial.another()
        if second is None:
            return
        self.hedge = second[0]
        self.start(*second)
        self._alone = False

    def _patience_s(self) -> float:
        (option,) = self.runs.values()
        usual_s = option.latency.value_s
        return max(HEDGE_FACTOR * usual_s, HEDGE_LEAST_S) if usual_s is not None else HEDGE_UNMEASURED_S
