"""Which circles there are, ours and those that were discovered, and what a DHT is to be asked and told.

The planning half: every method takes what is known and returns operations (`Store`, `Drop`, `Find`) or targets; whoever owns a socket
executes them. Announcements of others are judged when they come (`announcement.judge`); what is over is not found, and collected later.

The rule: registering twice does not double, unregistering leaves nothing behind, and what has expired is never routed to.
Times are Unix ms, all of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from skerry.agents.capability import kind_of
from skerry.channel.reachable import IPNetwork
from skerry.records.record import Refusal, Rejection
from skerry.routing.announcement import CircleAnnouncement, PublishedCircle, judge
from skerry.routing.circle import AgentCircle, AgentProfile, CircleStatus, announcement_key, capability_key, query_keys
from skerry.routing.verbs import MeshStats

DISCOVERED_MAX = 1000  # circles of others; with 64 capabilities and 8 speakers each 24 MiB
OF_FORMATION_MAX = 64  # of one formation, so that none fills the room


@dataclass(frozen=True, slots=True)
class Store:
    """Say under these keys that this node speaks for a circle."""

    circle_id: bytes
    key: bytes
    capability_keys: tuple[bytes, ...]

    @property
    def keys(self) -> tuple[bytes, ...]:
        return (self.key, *self.capability_keys)


@dataclass(frozen=True, slots=True)
class Drop:
    """Say it no more under these."""

    circle_id: bytes
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Find:
    """Look for nodes under a key, and ask each for what it says of the capability, or of the circle."""

    key: bytes
    capability: str = ""
    circle_id: bytes = b""


DhtOp = Store | Drop | Find


@dataclass(frozen=True, slots=True)
class MeshDiscoveryResult:
    """Circles that answer a query: ours, and discovered ones."""

    local_circles: tuple[AgentCircle, ...] = ()
    discovered_circles: tuple[PublishedCircle, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalAgent:
    """A task goes to a member of one of our circles."""

    circle_id: bytes
    agent_pubkey: bytes
    agent_id: str


@dataclass(frozen=True, slots=True)
class RemoteCircle:
    """A task goes to another formation's circle, which routes on inside."""

    circle_id: bytes
    announcement: CircleAnnouncement


RoutingTarget = LocalAgent | RemoteCircle
Speak = Callable[[AgentCircle, int], PublishedCircle]
Noted = Callable[[PublishedCircle | None, PublishedCircle | None], None]  # what was known of a discovered circle, and what is


@dataclass(slots=True)
class _Index:
    """Capability -> circles, exact and by prefix."""

    _circles: dict[str, set[bytes]] = field(default_factory=dict)
    _sorted: list[str] = field(default_factory=list)

    def add(self, circle: bytes, capabilities: Iterable[str]) -> None:
        for capability in capabilities:
            if capability not in self._circles:
                self._circles[capability] = set()
                insort(self._sorted, capability)
            self._circles[capability].add(circle)

    def remove(self, circle: bytes, capabilities: Iterable[str]) -> None:
        for capability in capabilities:
            held = self._circles.get(capability, set())
            held.discard(circle)
            if not held and self._circles.pop(capability, None) is not None:
                del self._sorted[bisect_left(self._sorted, capability)]

    def find(self, query: str) -> list[bytes]:
        """In the order of ids."""
        if not query.endswith("*"):
            return sorted(self._circles.get(query, ()))
        found: set[bytes] = set()
        for capability in self._sorted[bisect_left(self._sorted, query[:-1]) :]:
            if not capability.startswith(query[:-1]):
                break
            found |= self._circles[capability]
        return sorted(found)

    def __len__(self) -> int:
        return len(self._circles)


class MeshDiscoveryRouter:
    """The circles that one node knows. `speak` makes this node's signed announcement of a circle as it stands at a time (ms); `most`
    discovered ones are kept."""

    def __init__(
        self, our_pubkey: bytes, *, speak: Speak, formation: bytes = b"", also: Sequence[IPNetwork] = (), most: int = DISCOVERED_MAX
    ) -> None:
        self.our_pubkey = our_pubkey
        self._speak = speak
        self._formation = formation
        self._also = tuple(also)
        self._discovered_max = most
        self._local: dict[bytes, AgentCircle] = {}
        self._local_index = _Index()
        self._announced: dict[bytes, PublishedCircle] = {}
        self._discovered: dict[bytes, PublishedCircle] = {}
        self._discovered_index = _Index()
        self._of_formation: Counter[bytes] = Counter()
        self._noted: list[Noted] = []
        self.refused: Counter[str] = Counter()  # announcements, by reason

    # --- our circles ----------------------------------------------------------------------------------------------------------

    def register_local_circle(self, circle: AgentCircle, *, now_ms: int, announced: bool = True) -> None:
        """A circle of ours, as it stands. `announced`: this node speaks for it."""
        self._forget_local(circle.id)
        self._local[circle.id] = circle
        self._local_index.add(circle.id, circle.capabilities)
        if announced:
            self._announced[circle.id] = self._speak(circle, now_ms)
        else:
            self._announced.pop(circle.id, None)

    def unregister_local_circle(self, circle_id: bytes) -> list[DhtOp]:
        """It is ours no more; what was announced is taken back."""
        self._forget_local(circle_id)
        published = self._announced.pop(circle_id, None)
        return [Drop(circle_id, store_of(published).keys)] if published is not None else []

    def _forget_local(self, circle_id: bytes) -> None:
        circle = self._local.pop(circle_id, None)
        if circle is not None:
            self._local_index.remove(circle_id, circle.capabilities)

    def local(self, circle_id: bytes) -> AgentCircle | None:
        return self._local.get(circle_id)

    def local_circles(self) -> list[AgentCircle]:
        """By name, then id."""
        return sorted(self._local.values(), key=lambda circle: (circle.name, circle.id))

    def announced(self, circle_id: bytes) -> PublishedCircle | None:
        """What this node says of a circle."""
        return self._announced.get(circle_id)

    def on_circle_state_change(self, circle: AgentCircle, *, now_ms: int) -> list[DhtOp]:
        """A circle that this node speaks for stands otherwise now: what is to be said, and where no more."""
        before = self._announced.get(circle.id)
        self.register_local_circle(circle, now_ms=now_ms)
        said = store_of(self._announced[circle.id])
        gone = tuple(key for key in store_of(before).keys if key not in said.keys) if before is not None else ()
        return [said, *([Drop(circle.id, gone)] if gone else [])]

    def on_member_change(self, circle: AgentCircle, *, now_ms: int) -> list[DhtOp]:
        """Somebody entered or left, or stands otherwise."""
        return self.on_circle_state_change(circle, now_ms=now_ms)

    def on_capability_change(self, circle: AgentCircle, *, now_ms: int) -> list[DhtOp]:
        """A member offers something else."""
        return self.on_circle_state_change(circle, now_ms=now_ms)

    # --- planning -------------------------------------------------------------------------------------------------------------

    def plan_announce_all(self) -> list[DhtOp]:
        """To say again all that this node says, in the order of ids."""
        return [store_of(published) for _, published in sorted(self._announced.items())]

    def plan_announce(self, circle_id: bytes) -> DhtOp | None:
        """To say one again; None where this node does not speak for it."""
        published = self._announced.get(circle_id)
        return store_of(published) if published is not None else None

    def plan_discover_capability(self, capability: str) -> Find | None:
        """To look for circles by what they offer. A query that ends in `*` is looked for by its kind; None where it names none."""
        if not capability.endswith("*"):
            return Find(capability_key(capability), capability=capability)
        if ":" not in capability:
            return None
        return Find(capability_key(f"{kind_of(capability)}:*"), capability=capability)

    def plan_discover_circle(self, circle_id: bytes) -> Find:
        """To look for who speaks for a circle."""
        return Find(announcement_key(circle_id), circle_id=circle_id)

    # --- discovered ones ------------------------------------------------------------------------------------------------------

    def watch(self, noted: Noted) -> None:
        """Hear of each discovered circle that comes, is told anew, or is forgotten."""
        self._noted.append(noted)

    def ingest_discovery(self, payloads: Iterable[bytes], *, now_ms: int) -> int:
        """Take in what was found; returns how many are believed. Why the others are not is counted in `refused`."""
        outcomes = [self.ingest_one(payload, now_ms=now_ms) for payload in payloads]
        return sum(not isinstance(outcome, Refusal) for outcome in outcomes)

    def ingest_one(self, payload: bytes, *, now_ms: int) -> PublishedCircle | Refusal:
        """One announcement: kept, or refused with the reason."""
        outcome = judge(payload, now_ms=now_ms, also=self._also)
        if not isinstance(outcome, Refusal):
            outcome = self._keep(outcome, now_ms)
        if isinstance(outcome, Refusal):
            self.refused[outcome.reason.value] += 1
        return outcome

    def _keep(self, published: PublishedCircle, now_ms: int) -> PublishedCircle | Refusal:
        said = published.announcement
        if said.formation == self._formation:
            return Refusal(Rejection.WRONG_FORMATION, "it is a circle of ours, which tells us by its records")
        held = self._discovered.get(said.circle_id)
        if (
            held is not None
            and held.announcement.expires > now_ms
            and (said.epoch, said.timestamp) < (held.announcement.epoch, held.announcement.timestamp)
        ):
            return Refusal(Rejection.STALE, f"epoch {said.epoch}, where {held.announcement.epoch} is known")
        if held is None and self._of_formation[said.formation] >= OF_FORMATION_MAX:
            self.gc_discovered(now_ms=now_ms)
            if self._of_formation[said.formation] >= OF_FORMATION_MAX:
                return Refusal(Rejection.OVER_QUOTA, f"{OF_FORMATION_MAX} circles of one formation are kept already")
        if held is None and len(self._discovered) >= self._discovered_max:
            self._make_room(now_ms)
        self._take_out(said.circle_id)
        self._discovered[said.circle_id] = published
        self._discovered_index.add(said.circle_id, said.capabilities)
        self._of_formation[said.formation] += 1
        self._tell(held, published)
        return published

    def _make_room(self, now_ms: int) -> None:
        """Formations cost nothing to make: where all is full, the one with the most circles gives up what is over first."""
        if self.gc_discovered(now_ms=now_ms):
            return
        most = self._of_formation[max(self._of_formation, key=self._of_formation.__getitem__)]
        of_most = [one for one in self._discovered.values() if self._of_formation[one.announcement.formation] == most]
        self._forget_discovered(min(of_most, key=lambda one: (one.announcement.expires, one.circle_id)).circle_id)

    def _forget_discovered(self, circle_id: bytes) -> None:
        self._tell(self._take_out(circle_id), None)

    def _take_out(self, circle_id: bytes) -> PublishedCircle | None:
        held = self._discovered.pop(circle_id, None)
        if held is not None:
            self._discovered_index.remove(circle_id, held.announcement.capabilities)
            self._of_formation -= Counter([held.announcement.formation])
        return held

    def _tell(self, before: PublishedCircle | None, after: PublishedCircle | None) -> None:
        for noted in self._noted:
            noted(before, after)

    def discovered(self, circle_id: bytes, *, now_ms: int) -> PublishedCircle | None:
        """A discovered circle whose announcement still holds."""
        held = self._discovered.get(circle_id)
        return held if held is not None and held.announcement.expires > now_ms else None

    def discovered_circles(self, *, now_ms: int) -> list[PublishedCircle]:
        """All whose announcements still hold, by name, then id."""
        living = [one for one in self._discovered.values() if one.announcement.expires > now_ms]
        return sorted(living, key=lambda one: (one.announcement.name, one.circle_id))

    def gc_discovered(self, *, now_ms: int) -> int:
        """Forget what is over; returns how many."""
        over = [circle for circle, held in self._discovered.items() if held.announcement.expires <= now_ms]
        for circle in over:
            self._forget_discovered(circle)
        return len(over)

    # --- routing --------------------------------------------------------------------------------------------------------------

    def find_capable_circles(self, query: str, *, now_ms: int) -> MeshDiscoveryResult:
        """Ours, and discovered ones, that offer what is asked for; a query may end in `*`."""
        found = [self.discovered(circle, now_ms=now_ms) for circle in self._discovered_index.find(query)]
        return MeshDiscoveryResult(
            tuple(self._local[circle] for circle in self._local_index.find(query)),
            tuple(published for published in found if published is not None),
        )

    def route_task(
        self,
        capability: str,
        *,
        now_ms: int,
        choose: Callable[[Sequence[AgentProfile]], AgentProfile] = lambda members: members[0],
        score: Callable[[bytes], float] = lambda _: 0.5,
        leaves: bool = True,
        avoided: frozenset[bytes] = frozenset(),
    ) -> RoutingTarget | None:
        """Who gets a task: a member of ours that is available, or a discovered circle; None where nobody is known.

        choose    among members; score: of a circle, 0 to 1, by what this node saw of it
        leaves    whether the task may leave the formation; avoided: circles that get nothing while others are there
        """
        found = self.find_capable_circles(capability, now_ms=now_ms)
        home = {m.id: (c, m) for c in found.local_circles for m in c.members if m.status is CircleStatus.AVAILABLE and m.offers(capability)}
        if home:
            circle, member = home[choose([one for _, one in home.values()]).id]
            return LocalAgent(circle.id, member.pubkey, member.id)
        others = [one.announcement for one in found.discovered_circles] if leaves else []
        wanted = [one for one in others if one.circle_id not in avoided] or others
        best = max(wanted, key=lambda one: preference(one, score(one.circle_id)), default=None)
        return RemoteCircle(best.circle_id, best) if best is not None else None

    def stats(self, *, now_ms: int) -> MeshStats:
        members = [member for circle in self._local.values() for member in circle.members]
        living = self.discovered_circles(now_ms=now_ms)
        return MeshStats(
            len(self._local),
            len(self._local_index),
            len(members),
            sum(member.status is CircleStatus.AVAILABLE for member in members),
            len(living),
            sum(one.announcement.available_count for one in living),
        )


def _sound(score: float) -> float:
    """A score as it can be compared: what is none (NaN, or out of bounds) counts as the worst."""
    return score if 0.0 <= score <= 1.0 else 0.0


def preference(said: CircleAnnouncement, score: float) -> tuple[bool, float, int, bytes]:
    """Which of two circles gets a task, where nothing else is asked for: one that has somebody available, then the better one by what this
    node saw of them, then the one with more available members. The greater is preferred."""
    return said.available_count > 0, _sound(score), said.available_count, said.circle_id


def store_of(published: PublishedCircle) -> Store:
    """Where an announcement is said: under its circle, and under what it offers."""
    said = published.announcement
    return Store(said.circle_id, said.dht_key(), tuple(query_keys(said.capabilities)))
