"""No task twice: on one node never, and where the agent did not say that it may be repeated nowhere."""

from __future__ import annotations

from skerry.sim.agents import SCRIPTS, Witness

IDEMPOTENT = {script.offer.capability: script.offer.idempotent for script in SCRIPTS.values()}


class RunOnce:
    """Counts what the agents themselves saw."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def look(self) -> list[str]:
        wrong = []
        for task_id, runs in self._witness.runs.items():
            if len(runs) < 2:
                continue
            nodes = [run.node for run in runs]
            where = ", ".join(f"{run.agent} on {run.node} at {run.at_s:.3f}" for run in runs)
            if len(set(nodes)) < len(nodes):
                wrong.append(f"the task {task_id.hex()[:8]} ({runs[0].capability}) ran twice on one node: {where}")
            elif not IDEMPOTENT[runs[0].capability]:
                wrong.append(f"the task {task_id.hex()[:8]} ({runs[0].capability}), which is not idempotent, ran twice: {where}")
        return wrong

    def settled(self) -> list[str]:
        return self.look()
