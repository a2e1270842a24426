"""How well agents, nodes and circles did what this node asked of them: one number each, from 0 to 1, and 0.5 for whom we don't know.

    s, f       successes and failures, each weighed, and halved with every day that passes: x(t) = x * 2^(-days)
               a success counts 1 for s; a failure 1 for f, a time-out 0.5, a wrong signature 4
    posterior  (1 + s) / (2 + s + f)           the mean of Beta(1 + s, 1 + f): what a prior that knows nothing makes of them
    pace       (g - l) / (g + l)               between -1 and 1: l is the subject's latency, g the geometric mean of all that do the same
    score      posterior + 0.1 * pace * s / (1 + s), kept within 0 and 1

A worked example. An agent did 8 tasks, failed 2 and timed out twice, all just now: s = 8, f = 2 + 2 * 0.5 = 3, posterior = 9 / 13 = 0.692.
It answers within 20 ms where its peers take 60 ms: pace = (60 - 20) / (60 + 20) = 0.5, score = 0.692 + 0.1 * 0.5 * 8 / 9 = 0.737. A day
later s = 4 and f = 1.5: posterior = 5 / 7.5 = 0.667, score = 0.667 + 0.1 * 0.5 * 4 / 5 = 0.707. Another one failed 5 times and did nothing
else: 1 / 7 = 0.143, which is below 0.2 after 5 observations, so it is blacklisted; a day later 1 / 4.5 = 0.222 lifts that.

The rule: only what this node saw of its own calls counts; nobody else's word moves a score, and no score ever leaves this node.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from skerry.errors import SkerryError
from skerry.identity.codec import pack, unpack

NEUTRAL = 0.5
HALF_LIFE_MS = 24 * 3600 * 1000
PACE_WEIGHT = 0.1  # the most that latency moves a score by: being quick makes up for no failure
BLACKLIST_BELOW = 0.2
OBSERVATIONS_MIN = 5  # fewer may be bad luck
SMOOTHING = 0.2  # the weight of the newest latency in a subject's own
LATENCY_MS_MIN = 0.01  # below it a clock tells nothing, and logarithms run away
SUBJECTS_MAX = 20_000  # about 400 bytes each; above it whom we asked longest ago is forgotten
GROUPS_MAX = 32  # capabilities of one subject whose latency is kept
AGENT, NODE, CONTACT, CIRCLE = "agent:", "node:", "contact:", "circle:"  # what a subject begins with


class Deed(StrEnum):
    """How a task ended, as far as it says something of who did it."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIME_OUT = "time_out"
    BAD_SIGNATURE = "bad_signature"


_WEIGHTS = {Deed.SUCCESS: (1.0, 0.0), Deed.FAILURE: (0.0, 1.0), Deed.TIME_OUT: (0.0, 0.5), Deed.BAD_SIGNATURE: (0.0, 4.0)}


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task that a subject was asked to do. `group`: those it is compared with, a capability; `latency_ms`: of a success."""

    deed: Deed
    group: str = ""
    latency_ms: float | None = None


@dataclass(slots=True)
class Standing:
    """What is kept of one subject: weights as they were at `at_ms`, and by group the logarithm of its latency (ms)."""

    successes: float = 0.0
    failures: float = 0.0
    observations: int = 0
    at_ms: int = 0
    pace: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    """All that do the same: the sum of the logarithms of their latencies."""

    total: float = 0.0
    count: int = 0


class Reputation:
    """The scores of one node. Subjects are `agent:ID`, `node:ID`, `contact:ID` (another formation) and `circle:ID`."""

    def __init__(self) -> None:
        self._standings: OrderedDict[str, Standing] = OrderedDict()  # the one asked longest ago first
        self._groups: dict[str, _Group] = {}
        self._doubtful: set[str] = set()  # all that may be blacklisted
        self._changed: set[str] = set()

    def record(self, subject: str, record: TaskRecord, *, now_ms: int) -> None:
        """Take note of one task's end."""
        self.note(subject, record.deed, record.group, record.latency_ms, now_ms=now_ms)

    def note(self, subject: str, deed: Deed, group: str = "", latency_ms: float | None = None, *, now_ms: int) -> None:
        """The same, for who has no time to make a record of it: every task comes here."""
        standing = self._standings.get(subject)
        if standing is None:
            standing = self._standings[subject] = Standing(at_ms=now_ms)
            if len(self._standings) > SUBJECTS_MAX:
                self.forgive(next(iter(self._standings)))
        self._standings.move_to_end(subject)
        good, bad = _WEIGHTS[deed]
        fading = _fading(standing, now_ms)
        standing.successes = standing.successes * fading + good
        standing.failures = standing.failures * fading + bad
        standing.observations += 1
        standing.at_ms = max(now_ms, standing.at_ms)
        if latency_ms is not None and deed is Deed.SUCCESS and math.isfinite(latency_ms):
            self._note_pace(standing, group, math.log(max(latency_ms, LATENCY_MS_MIN)))
        self._look_at(subject, standing)
        self._changed.add(subject)

    def get(self, subject: str, *, now_ms: int) -> float | None:
        """Its score; None where it was never asked."""
        standing = self._standings.get(subject)
        return self._score(standing, now_ms) if standing is not None else None

    def score(self, subject: str, *, now_ms: int) -> float:
        """Its score, neutral where it was never asked."""
        standing = self._standings.get(subject)
        return self._score(standing, now_ms) if standing is not None else NEUTRAL

    def observations(self, subject: str) -> int:
        standing = self._standings.get(subject)
        return standing.observations if standing is not None else 0

    @property
    def has_doubts(self) -> bool:
        """Whether anybody may be blacklisted at all: nearly always nobody is."""
        return bool(self._doubtful)

    def is_blacklisted(self, subject: str, *, now_ms: int) -> bool:
        """Asked of every candidate that is drawn: nearly always one look-up."""
        if subject not in self._doubtful:
            return False
        standing = self._standings[subject]
        return standing.observations >= OBSERVATIONS_MIN and self._score(standing, now_ms) < BLACKLIST_BELOW

    def top(self, count: int, *, now_ms: int, kind: str = "") -> list[tuple[str, float]]:
        """The best, best first; by subject where they are equal."""
        scored = [(subject, self._score(one, now_ms)) for subject, one in self._standings.items() if subject.startswith(kind)]
        return sorted(scored, key=lambda item: (-item[1], item[0]))[:count]

    def blacklisted(self, *, now_ms: int, kind: str = "") -> list[str]:
        return sorted(one for one in self._doubtful if one.startswith(kind) and self.is_blacklisted(one, now_ms=now_ms))

    def forgive(self, subject: str) -> bool:
        """Forget all about it; whether there was anything."""
        standing = self._standings.pop(subject, None)
        if standing is None:
            return False
        for group, held in standing.pace.items():
            self._leave(group, held)
        self._doubtful.discard(subject)
        self._changed.add(subject)
        return True

    # --- circles --------------------------------------------------------------------------------------------------------------

    def record_circle_task(self, circle_id: bytes, record: TaskRecord, *, now_ms: int) -> None:
        self.record(CIRCLE + circle_id.hex(), record, now_ms=now_ms)

    def get_circle_reputation(self, circle_id: bytes, *, now_ms: int) -> float | None:
        return self.get(CIRCLE + circle_id.hex(), now_ms=now_ms)

    def top_circles(self, count: int, *, now_ms: int) -> list[tuple[bytes, float]]:
        return [(_circle(subject), score) for subject, score in self.top(count, now_ms=now_ms, kind=CIRCLE)]

    def blacklisted_circles(self, *, now_ms: int) -> list[bytes]:
        return [_circle(subject) for subject in self.blacklisted(now_ms=now_ms, kind=CIRCLE)]

    # --- on the disk ----------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._standings)

    def take_changes(self) -> dict[str, bytes | None]:
        """What has to be written since the last time: None for what is to be deleted."""
        changes: dict[str, bytes | None] = {}
        for subject in self._changed:
            one = self._standings.get(subject)
            fields = [one.successes, one.failures, one.observations, one.at_ms, one.pace] if one is not None else None
            changes[subject] = pack(fields) if fields is not None else None
        self._changed.clear()
        return changes

    def restore(self, subject: str, stored: bytes) -> None:
        """What was written once; what can't be read is as if it had never been."""
        standing = _read(stored)
        if standing is None or subject in self._standings:
            return
        for group, held in standing.pace.items():
            self._join(group, held)
        self._standings[subject] = standing
        self._look_at(subject, standing)

    # --- inside ---------------------------------------------------------------------------------------------------------------

    def _score(self, standing: Standing, now_ms: int) -> float:
        fading = _fading(standing, now_ms)
        good, bad = standing.successes * fading, standing.failures * fading
        score = (1 + good) / (2 + good + bad)
        if standing.pace:
            score += PACE_WEIGHT * self._pace(standing) * good / (1 + good)
        return min(max(score, 0.0), 1.0)

    def _pace(self, standing: Standing) -> float:
        """The mean over all that it does. With x = ln(g) - ln(l), (g - l) / (g + l) is tanh(x / 2)."""
        total = 0.0
        for group, held in standing.pace.items():
            peers = self._groups[group]
            total += math.tanh((peers.total / peers.count - held) / 2)
        return total / len(standing.pace)

    def _note_pace(self, standing: Standing, group: str, latest: float) -> None:
        held = standing.pace.get(group)
        if held is None:
            if len(standing.pace) < GROUPS_MAX:
                standing.pace[group] = latest
                self._join(group, latest)
            return
        moved = held + SMOOTHING * (latest - held)
        standing.pace[group] = moved
        self._groups[group].total += moved - held

    def _join(self, group: str, held: float) -> None:
        peers = self._groups.setdefault(group, _Group())
        peers.total += held
        peers.count += 1

    def _leave(self, group: str, held: float) -> None:
        peers = self._groups[group]
        peers.total -= held
        peers.count -= 1
        if not peers.count:
            del self._groups[group]

    def _look_at(self, subject: str, standing: Standing) -> None:
        """Keep the few that may be blacklisted apart, with room for what their peers' latency may do."""
        posterior = (1 + standing.successes) / (2 + standing.successes + standing.failures)
        if posterior < BLACKLIST_BELOW + PACE_WEIGHT:
            self._doubtful.add(subject)
        else:
            self._doubtful.discard(subject)


def _fading(standing: Standing, now_ms: int) -> float:
    """What is left of each weight. A clock that went back takes nothing away and gives nothing back."""
    passed_ms = now_ms - standing.at_ms
    return math.exp2(-passed_ms / HALF_LIFE_MS) if passed_ms > 0 else 1.0


def _circle(subject: str) -> bytes:
    return bytes.fromhex(subject.removeprefix(CIRCLE))


def _read(stored: bytes) -> Standing | None:
    try:
        fields: Any = unpack(stored)
    except SkerryError:
        return None
    match fields:
        case [float(good), float(bad), int(seen), int(at_ms), dict(pace), *_]:
            latencies = {str(group): held for group, held in pace.items() if isinstance(held, float) and math.isfinite(held)}
            if all(math.isfinite(weight) and weight >= 0 for weight in (good, bad)) and seen >= 0:
                return Standing(good, bad, seen, at_ms, latencies)
    return None
