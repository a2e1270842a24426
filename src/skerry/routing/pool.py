"""Those among whom one is chosen, kept so that a choice costs the same among ten and among a hundred thousand.

A `Provider` is one agent on one node, with the work that it has as far as this node knows: what we gave it ourselves is known exactly, what
others gave it is what its last reply said, and is believed for a moment only. An `Option` is one capability of it. A `Pool` is all options
that answer one question. Orders (by load, by reputation) are made when they are first asked for, and from then on moved, never sorted.

The rule: an option is in a pool once, and whatever changes it costs a step in each order that it is in, not a pass over the others.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

DECAY_S = 10.0  # the time constant of the moving average
REPORT_S = 2.0  # how long an agent's word of its load is believed: who has much to do is asked again after that
SILENT_S = 5.0  # how long a node that could not be reached is asked last
PENALTY_S = 1e6  # the latency of one that was never measured while it has something to do: one at a time measures it
NEAR = 64  # of very many so many are drawn from for a while: what was touched a moment ago costs a tenth of what was not
NEAR_FROM = 256  # fewer than that all fit where they are touched quickly
NEAR_EVERY = 8  # choices until one of them makes room for another, so that in time all have their turn
LOAD_STEPS = 16  # how fine loads are told apart, per task that an agent works on at once
LOAD_MOST = 1 << 20  # no agent has more to do, whatever it says


@dataclass(frozen=True, slots=True)
class Candidate:
    """One agent that offers one capability. `expires` (Unix ms) is its record's; `formation`: the id of another one, where it is there."""

    agent: str
    name: str
    node: bytes
    capability: str
    idempotent: bool
    expires: int
    description: str = ""
    streams: bool = False
    restarting: bool = False  # asked last: it may be back by then
    formation: bytes = b""
    payload: dict[str, Any] | None = field(default=None, compare=False)
    result: dict[str, Any] | None = field(default=None, compare=False)
    example: Any = field(default=None, compare=False)
    attributes: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def place(self) -> bytes:
        """Where a task for it is remembered: its node, or at another formation the node that lets us in, whichever that is."""
        return self.formation or self.node


class Latency:
    """A peak-aware moving average of the latency of one target, in seconds (as in Finagle's peak EWMA).

    A sample above the average replaces it at once, one below draws it down: value = value * w + sample * (1 - w), w = exp(-elapsed / 10 s).
    Read at a later time it has faded by the same factor: who was slow once is asked again one day.
    """

    __slots__ = ("_at", "value_s")

    def __init__(self) -> None:
        self.value_s: float | None = None
        self._at = 0.0

    def observe(self, sample_s: float, *, now_s: float) -> None:
        if not math.isfinite(sample_s):
            return
        if self.value_s is None or sample_s > self.value_s:
            self.value_s = max(sample_s, 0.0)
        else:
            weight = math.exp((self._at - now_s) / DECAY_S) if now_s > self._at else 1.0
            self.value_s = self.value_s * weight + max(sample_s, 0.0) * (1 - weight)
        self._at = now_s

    def faded_s(self, now_s: float) -> float | None:
        if self.value_s is None or now_s <= self._at:
            return self.value_s
        return self.value_s * math.exp((self._at - now_s) / DECAY_S)


class Provider:
    """One agent on one node, and what it has to do. `place`: as `Candidate.place`, who is asked for it."""

    __slots__ = ("_others", "_reported_s", "agent", "in_flight", "node", "options", "place", "places", "subject", "subject_of_peer")

    def __init__(self, node: bytes, agent: str, formation: bytes = b"") -> None:
        self.node = node
        self.agent = agent
        self.place = formation or node
        self.subject = f"agent:{agent}"  # as `reputation` calls it
        self.subject_of_peer = f"contact:{formation.hex()}" if formation else f"node:{node.hex()}"
        self.in_flight = 0  # tasks of ours
        self.places = 1  # tasks that it works on at once
        self.options: list[Option] = []
        self._others = 0
        self._reported_s = -math.inf

    def load(self, now_s: float) -> int:
        """Tasks that wait or run there, as far as we know."""
        return self.in_flight + (self._others if now_s - self._reported_s < REPORT_S else 0)

    def fill(self, now_s: float) -> int:
        """The load in sixteenths of what it works on at once."""
        return min(self.load(now_s), LOAD_MOST) * LOAD_STEPS // self.places

    def began(self, *, now_s: float) -> None:
        """A task of ours is on its way there."""
        self.in_flight += 1
        self._moved(now_s)

    def ended(self, *, now_s: float) -> None:
        """A task of ours ended, and nothing was said of what waits there."""
        self.in_flight -= 1
        self._moved(now_s)

    def answered(self, load: int, places: int, *, now_s: float) -> None:
        """A task of ours ended with a reply that says it."""
        self.in_flight -= 1
        self.reported(load, places, now_s=now_s)

    def reported(self, load: int, places: int, *, now_s: float) -> None:
        """What its node said with a reply: tasks that wait or run, ours among them, and how many it works on at once."""
        self.places = min(max(places, 1), LOAD_MOST)
        self._others = min(max(load - self.in_flight, 0), LOAD_MOST)
        self._reported_s = now_s
        self._moved(now_s)

    def _moved(self, now_s: float) -> None:
        for option in self.options:
            for pool in option.pools:
                if pool.by_load is not None:
                    pool.by_load.put(option, self.fill(now_s))


class Option:
    """One capability of one provider. `candidate` is what its record says now."""

    __slots__ = ("candidate", "latency", "pools", "provider")

    def __init__(self, provider: Provider, candidate: Candidate) -> None:
        self.provider = provider
        self.candidate = candidate
        self.latency = Latency()
        self.pools: list[Pool] = []

    def cost_s(self, now_s: float) -> float:
        """How long a task may take there: latency times all that stands before it. Whoever is not measured yet and idle costs nothing."""
        load = self.provider.load(now_s)
        latency_s = self.latency.faded_s(now_s)
        if latency_s is None:
            return PENALTY_S * load
        return latency_s * (1 + load / self.provider.places)


class Silent:
    """Nodes that could not be reached lately: they are asked last, not never."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[bytes, float] = {}

    def unreachable(self, node: bytes, *, now_s: float) -> None:
        self._since[node] = now_s

    def answered(self, node: bytes) -> None:
        if self._since:
            self._since.pop(node, None)

    def has(self, node: bytes, *, now_s: float) -> bool:
        since = self._since.get(node)
        return since is not None and now_s - since < SILENT_S

    def __bool__(self) -> bool:
        return bool(self._since)


class Order:
    """Options by a whole number, the lowest first; among equals there is no order."""

    __slots__ = ("_at", "_buckets", "ranks")

    def __init__(self) -> None:
        self.ranks: list[int] = []  # those that somebody has, sorted
        self._buckets: dict[int, list[Option]] = {}
        self._at: dict[Option, tuple[int, int]] = {}

    def put(self, option: Option, rank: int) -> None:
        """Give an option its number, or another one."""
        at = self._at.get(option)
        if at is not None:
            if at[0] == rank:
                return
            self.drop(option)
        bucket = self._buckets.get(rank)
        if bucket is None:
            bucket = self._buckets[rank] = []
            insort(self.ranks, rank)
        self._at[option] = (rank, len(bucket))
        bucket.append(option)

    def drop(self, option: Option) -> None:
        rank, index = self._at.pop(option)
        bucket = self._buckets[rank]
        last = bucket.pop()
        if last is not option:
            bucket[index] = last
            self._at[last] = (rank, index)
        if not bucket:
            del self._buckets[rank]
            del self.ranks[bisect_left(self.ranks, rank)]

    def rank(self, option: Option) -> int:
        return self._at[option][0]

    def of(self, rank: int) -> Sequence[Option]:
        return self._buckets[rank]


class Pool:
    """All that answer one question. `own`: those of them on this node."""

    __slots__ = ("_at", "_choices", "_near", "_ours", "by_load", "by_score", "hand", "options", "own", "turn")

    def __init__(self, ours: bytes) -> None:
        self.options: list[Option] = []
        self.own: list[Option] = []
        self.turn = 0  # whose turn it is, in `options`
        self.hand = 0  # who is looked at again next, because time alone moves it in its order
        self.by_load: Order | None = None
        self.by_score: Order | None = None
        self._ours = ours
        self._at: dict[Option, int] = {}
        self._near: list[Option] = []
        self._choices = 0

    def __contains__(self, option: Option) -> bool:
        return option in self._at

    def add(self, option: Option) -> None:
        """Take one in, and keep it up to date from now on."""
        self._at[option] = len(self.options)
        self.options.append(option)
        option.pools.append(self)
        if option.provider.node == self._ours:
            self.own.append(option)
        if self.by_load is not None:
            self.by_load.put(option, 0)
        if self.by_score is not None:
            self.by_score.put(option, 0)  # looked at when it is drawn

    def drop(self, option: Option) -> None:
        index = self._at.pop(option)
        last = self.options.pop()
        if last is not option:
            self.options[index] = last
            self._at[last] = index
        option.pools.remove(self)
        if option in self._near:
            self._near.remove(option)
        if option.provider.node == self._ours:
            self.own.remove(option)
        for order in (self.by_load, self.by_score):
            if order is not None:
                order.drop(option)

    def near(self, fraction: Callable[[], float]) -> Sequence[Option]:
        """Those to draw from: all, or of very many a few that change all the time (Finagle calls it an aperture)."""
        count = len(self.options)
        if count <= NEAR_FROM:
            return self.options
        self._choices += 1
        if self._choices % NEAR_EVERY == 0 or len(self._near) < NEAR:
            another = self.options[int(fraction() * count)]
            if another not in self._near:
                if len(self._near) >= NEAR:
                    self._near[self._choices // NEAR_EVERY % NEAR] = another
                else:
                    self._near.append(another)
        return self._near

    def take_in(self, options: Sequence[Option]) -> Pool:
        """A few options for one choice alone: they don't know of this pool."""
        self.options = list(options)
        self.own = [option for option in options if option.provider.node == self._ours]
        return self

    def loads(self, now_s: float) -> Order:
        """By how much each has to do."""
        if self.by_load is None:
            self.by_load = _ordered(self.options, lambda option: option.provider.fill(now_s))
        return self.by_load

    def scores(self, rank: Callable[[Option], int]) -> Order:
        """By reputation; `rank` 0 is the best."""
        if self.by_score is None:
            self.by_score = _ordered(self.options, rank)
        return self.by_score

    def next_hand(self) -> Option | None:
        """The next one to look at again; of very many only with every so many choices."""
        self._choices += 1
        count = len(self.options)
        if count > NEAR_FROM and self._choices % NEAR_EVERY:
            return None
        self.hand = (self.hand + 1) % count
        return self.options[self.hand]


def _ordered(options: Sequence[Option], rank: Callable[[Option], int]) -> Order:
    order = Order()
    for option in options:
        order.put(option, rank(option))
    return order
