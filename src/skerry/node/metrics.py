"""What a node counts about itself, as Prometheus reads it: a registry of its own, in Prometheus' text format 0.0.4.

What happens often (a call, a task) is counted where it happens, at less than a microsecond. What just is (links, agents, records) is read
when somebody asks, from the parts that know it: they carry no code for it.

The rule: labels come from closed lists (verbs, error codes, kinds, states), never from a peer's text, so that nobody can fill our memory.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from skerry.agents.profile import Status
from skerry.errors import Code, SkerryError, StorageError
from skerry.records.record import KINDS
from skerry.routing.dispatch import OK

if TYPE_CHECKING:
    from skerry.node.node import Node

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds. A call inside a machine takes half a millisecond, a long generation minutes: three steps a decade over all of it.
TASK_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)

OTHER = "other"  # a verb or a code that this node does not know
_CODES = {str(code): str(code) for code in Code}

Labels = tuple[str, ...]


class Metric(Protocol):
    """Something that can be written out."""

    def lines(self) -> Iterable[str]: ...


M = TypeVar("M", bound=Metric)


class Counter:
    """Only grows."""

    __slots__ = ("_labels", "_name", "values")

    def __init__(self, name: str, labels: Labels) -> None:
        self._name = name
        self._labels = labels
        self.values: Tally[Labels] = Tally()

    def add(self, *labels: str) -> None:
        self.values[labels] += 1

    def lines(self) -> Iterable[str]:
        for labels, value in sorted(self.values.items()):
            yield _line(self._name, self._labels, labels, value)


class Histogram:
    """How often a time fell below each of the bounds."""

    __slots__ = ("_bounds", "_counts", "_labels", "_name", "_sums")

    def __init__(self, name: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._labels = labels
        self._bounds = bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, *labels: str) -> None:
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def lines(self) -> Iterable[str]:
        names = (*self._labels, "le")
        for labels, counts in sorted(self._counts.items()):
            below = 0
            for bound, count in zip((*(f"{bound:g}" for bound in self._bounds), "+Inf"), counts, strict=True):
                below += count
                yield _line(f"{self._name}_bucket", names, (*labels, bound), below)
            yield _line(f"{self._name}_sum", self._labels, labels, self._sums[labels])
            yield _line(f"{self._name}_count", self._labels, labels, below)


class Reading:
    """Read from its part when somebody asks: label -> value, or one value under the label ""."""

    __slots__ = ("_labels", "_name", "_read")

    def __init__(self, name: str, labels: Labels, read: Callable[[], Mapping[str, float]]) -> None:
        self._name = name
        self._labels = labels
        self._read = read

    def lines(self) -> Iterable[str]:
        for label, value in sorted(self._read().items()):
            yield _line(self._name, self._labels, (label,) if self._labels else (), value)


class Registry:
    """All metrics of one node, in the order in which they were made."""

    def __init__(self) -> None:
        self._metrics: list[tuple[str, str, str, Metric]] = []

    def counter(self, name: str, about: str, *labels: str) -> Counter:
        return self._add(name, about, "counter", Counter(name, labels))

    def histogram(self, name: str, about: str, *labels: str, bounds: tuple[float, ...]) -> Histogram:
        return self._add(name, about, "histogram", Histogram(name, labels, bounds))

    def gauge(self, name: str, about: str, read: Callable[[], Mapping[str, float]], *labels: str) -> None:
        self._add(name, about, "gauge", Reading(name, labels, read))

    def total(self, name: str, about: str, read: Callable[[], Mapping[str, float]], *labels: str) -> None:
        """A counter that some part keeps by itself."""
        self._add(name, about, "counter", Reading(name, labels, read))

    def names(self) -> list[str]:
        return [name for name, _, _, _ in self._metrics]

    def text(self) -> str:
        """The page that Prometheus reads."""
        lines: list[str] = []
        for name, about, kind, metric in self._metrics:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *metric.lines()]
        return "\n".join(lines) + "\n"

    def _add(self, name: str, about: str, kind: str, metric: M) -> M:
        self._metrics.append((name, about, kind, metric))
        return metric


def _line(name: str, names: Labels, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{_escaped(label)}"' for key, label in zip(names, labels, strict=True))
    return f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


# --- a node's own -----------------------------------------------------------------------------------------------------------------


class NodeMetrics:
    """The metrics of one node, bound to its parts. Made last: it reads them, they know `called` and `task_ended` at most."""

    def __init__(self, node: Node, verbs: Iterable[str]) -> None:
        self.registry = Registry()
        self._node = node
        self._verbs = {verb: verb for verb in verbs}
        self._calls = self.registry.counter("skerry_calls_total", "Calls answered, by verb and outcome.", "verb", "outcome")
        self._tasks = self.registry.histogram(
            "skerry_task_seconds",
            "Tasks that this node had done for its clients and agents, by outcome: how long they took.",
            "outcome",
            bounds=TASK_BUCKETS_S,
        )
        self._store_errors = self.registry.counter("skerry_store_errors_total", "What failed because the disk did.")
        self._store_errors.values[()] = 0  # so that the first one is seen as a rise
        self._add_readings()

    def called(self, verb: str, outcome: str = OK) -> None:
        """A call was answered; `outcome`: OK, or the error's code."""
        self._calls.values[self._verbs.get(verb, OTHER), outcome if outcome is OK else _CODES.get(outcome, OTHER)] += 1

    def failed(self, verb: str, error: SkerryError) -> None:
        """A call was answered with an error."""
        self.called(verb, error.code)
        self.trouble(error)

    def task_ended(self, outcome: str, took_s: float) -> None:
        """A task is over; `outcome`: OK, or the error's code."""
        self._tasks.observe(took_s, outcome if outcome is OK else _CODES.get(outcome, OTHER))

    def trouble(self, error: SkerryError) -> None:
        """Something of the node's own failed; what the disk is to blame for is counted."""
        if isinstance(error, StorageError):
            self._store_errors.add()

    def text(self) -> str:
        return self.registry.text()

    def _add_readings(self) -> None:
        node, add = self._node, self.registry
        add.total("skerry_choices_total", "Tasks for which an agent was chosen.", lambda: dict(node.dispatcher.choices), "strategy")
        add.total("skerry_failovers_total", "Tasks that were given to another agent.", lambda: {"": node.dispatcher.failovers})
        add.total(
            "skerry_hedges_total", "Second agents asked beside a slow one: won or lost.", lambda: dict(node.dispatcher.hedges), "outcome"
        )
        add.total("skerry_stream_restarts_total", "Streams that began anew at another agent.", lambda: {"": node.dispatcher.restarts})
        add.gauge("skerry_blacklisted", "Agents, nodes and circles that this node asks no more.", self._blacklisted)
        add.gauge("skerry_links", "Open connections, by what is at the other end: a node, or a client.", self._links, "to")
        add.gauge("skerry_pipes", "Pipes that this node forwards for others.", lambda: {"": len(node.links.pipes)})
        add.total("skerry_pipe_bytes_total", "Bytes that it forwarded.", lambda: {"": node.links.pipes.bytes_passed})
        add.gauge("skerry_unproven_connections", "Connections that have not proved who they are yet.", lambda: {"": node.links.unproven})
        add.gauge("skerry_strangers", "Connections of peers without a grant.", lambda: {"": len(node.strangers)})
        add.gauge("skerry_loop_tasks", "What the node's event loop works on.", lambda: {"": len(asyncio.all_tasks())})
        add.gauge("skerry_nodes", "Nodes that belong to the formation, this one counted, by whether a link is up.", self._nodes, "link")
        add.gauge("skerry_members", "The other nodes of the formation, by how they stand.", self._members, "presence")
        add.gauge("skerry_agents", "Agents of this node, by status.", self._agents, "status")
        add.total("skerry_agent_restarts_total", "Times an agent of this node was started again.", self._restarts)
        add.gauge("skerry_queued_tasks", "Tasks that wait or run on this node's agents.", self._queued)
        add.gauge("skerry_letters", "Letters that this node holds: waiting in the outbox, or put aside.", self._letters, "state")
        add.gauge("skerry_records", "Records that this node holds, by kind.", self._records, "kind")
        add.total(
            "skerry_records_refused_total", "Records that were not taken in, by reason.", lambda: dict(node.federation.refused), "reason"
        )
        add.total("skerry_announcements_refused_total", "Circles of others that were not believed, by reason.", self._disbelieved, "reason")
        add.gauge("skerry_warnings", "What `skerry status` warns of now.", lambda: {"": len(node.warnings)})
        add.gauge("skerry_grant_expires_seconds", "When this node's grant ends, Unix time.", self._grant_ends)
        add.gauge("skerry_start_time_seconds", "When this node started, Unix time.", lambda: {"": node.started_ms / 1000})
        add.gauge("skerry_info", "Always 1; the label says which version runs.", lambda: {node.settings.version: 1}, "version")

    def _disbelieved(self) -> dict[str, float]:
        return dict(self._node.circles.router.refused)

    def _links(self) -> dict[str, float]:
        nodes = len(self._node.links.nodes())
        return {"node": nodes, "client": len(self._node.links.all()) - nodes}

    def _nodes(self) -> dict[str, float]:
        node = self._node
        members = [subject for subject in node.roster.subjects() if node.trust.standing(subject).belongs]
        up = sum(subject == node.key.public or node.links.get(subject) is not None for subject in members)
        return {"up": up, "down": len(members) - up}

    def _members(self) -> dict[str, float]:
        return self._node.presence.count()

    def _agents(self) -> dict[str, float]:
        by_status = Tally(resident.status for resident in self._node.host.all())
        return {status.value: by_status[status] for status in Status}

    def _restarts(self) -> dict[str, float]:
        return {"": sum(resident.restarts for resident in self._node.host.all())}

    def _queued(self) -> dict[str, float]:
        return {"": sum(resident.load for resident in self._node.host.all())}

    def _letters(self) -> dict[str, float]:
        mail = self._node.mail
        return {"waiting": len(mail.outbox), "aside": len(mail.undelivered.aside)}

    def _records(self) -> dict[str, float]:
        return {kind: len(self._node.ports.store.of_kind(kind)) for kind in KINDS}

    def _blacklisted(self) -> dict[str, float]:
        return {"": len(self._node.dispatcher.reputation.blacklisted(now_ms=self._node.ports.clock.now_ms()))}

    def _grant_ends(self) -> dict[str, float]:
        return {"": self._node.trust.own().expires_ms / 1000}
