"""The peers that this node pulls from: those it was given, and those that others told it of.

What somebody else tells is a *candidate*: so many from one source, so many in all, forgotten after a day, and never told on before a pull
from it has come to its end. A seed is what the owner named: it stays, and is told on only where a stranger could use it.

Each peer has its turn: after a pull the next one is due an interval later, after a failure later each time.

The rule: a list of peers costs its author more than us: bounds on what is kept, on who may fill it, and on how often we try. Pure: `now_ms`
and the chance are parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from skerry.channel.weburl import Place, read_place
from skerry.errors import UsageError

CANDIDATES_MAX = 256
CANDIDATES_EACH_MAX = 16  # of one source
CANDIDATE_MS = 24 * 3600 * 1000  # unproven for so long, it is forgotten
PROVEN_MS = 7 * 24 * 3600 * 1000  # since the last pull that came to its end
FAILURES_MAX = 8  # in a row, and a candidate is forgotten
BACKOFF_MAX_MS = 3600 * 1000
BACKOFF_STEPS_MAX = 12
CANDIDATE_INTERVAL_MS = 600 * 1000  # between two pulls from one that nobody of ours named
DIALS_EACH_AT_ONCE = 8  # of one source's candidates; then one in ten minutes
DIALS_EACH_MS = 600 * 1000


@dataclass(slots=True)
class Peer:
    """One place. `source`: who told us of it; "" for a seed. Times are Unix ms, 0 for never."""

    place: Place
    source: str
    told_ms: int
    pulled_ms: int = 0
    tried_ms: int = 0
    failures: int = 0
    due_ms: int = 0
    last_error: str = ""

    @property
    def is_seed(self) -> bool:
        return not self.source

    @property
    def is_proven(self) -> bool:
        """Whether it lately gave what was asked."""
        return bool(self.pulled_ms) and not self.failures


@dataclass(slots=True)
class _Budget:
    left: float = DIALS_EACH_AT_ONCE
    then_ms: int = 0


@dataclass(slots=True)
class Peers:
    """All of them. `own`: texts of ourselves, which are never taken."""

    own: frozenset[str] = frozenset()
    _known: dict[str, Peer] = field(default_factory=dict)
    _budgets: dict[str, _Budget] = field(default_factory=dict)

    def __contains__(self, text: object) -> bool:
        return text in self._known

    def __len__(self) -> int:
        return len(self._known)

    def all(self) -> list[Peer]:
        return list(self._known.values())

    def add_seed(self, place: Place, *, now_ms: int) -> None:
        """One that the owner named."""
        known = self._known.get(str(place))
        if known is None:
            self._known[str(place)] = Peer(place, "", now_ms)
        else:
            known.source = ""

    def keep_seeds(self, texts: set[str]) -> None:
        """Seeds that are named no more are forgotten."""
        for text in [text for text, peer in self._known.items() if peer.is_seed and text not in texts]:
            del self._known[text]

    def told(self, texts: list[str], *, source: str, now_ms: int) -> list[str]:
        """Candidates that a source names. Returns those that were taken; the others are no places, ours, known, or too many."""
        taken = []
        for text in texts:
            try:
                place = read_place(text)
            except UsageError:
                continue
            is_own = str(place) in self.own or (place.node != b"" and place.node.hex() in self.own)
            if place.scheme != "https" or is_own or str(place) in self._known:
                continue
            if sum(peer.source == source for peer in self._known.values()) >= CANDIDATES_EACH_MAX:
                break
            if sum(not peer.is_seed for peer in self._known.values()) >= CANDIDATES_MAX:
                break
            self._known[str(place)] = Peer(place, source, now_ms)
            taken.append(str(place))
        return taken

    def due(self, *, now_ms: int) -> list[Peer]:
        """Whom to pull from now: those whose turn it is, and of the unproven as many as the budget of their sources allows."""
        self._forget(now_ms)
        turn = [peer for peer in self._known.values() if peer.due_ms <= now_ms]
        return [peer for peer in turn if peer.is_seed or peer.is_proven or self._may_dial(peer.source, now_ms)]

    def pulled(self, peer: Peer, *, now_ms: int, interval_ms: int) -> None:
        """A pull came to its end."""
        peer.pulled_ms = peer.tried_ms = now_ms
        peer.failures, peer.last_error = 0, ""
        peer.due_ms = now_ms + (interval_ms if peer.is_seed else max(interval_ms, CANDIDATE_INTERVAL_MS))

    def failed(self, peer: Peer, reason: str, *, now_ms: int, interval_ms: int, chance: float) -> None:
        """It could not be pulled from. `chance`: 0 to 1, so that many don't come back at once."""
        peer.tried_ms, peer.last_error = now_ms, reason
        peer.failures += 1
        wait_ms = min(interval_ms * 2 ** min(peer.failures - 1, BACKOFF_STEPS_MAX), max(BACKOFF_MAX_MS, interval_ms))
        peer.due_ms = now_ms + int(wait_ms * (0.5 + chance / 2))

    def proven(self, *, now_ms: int) -> list[Peer]:
        """Those that lately gave what was asked: candidates for others."""
        return [peer for peer in self._known.values() if peer.is_proven and now_ms - peer.pulled_ms < PROVEN_MS]

    def _may_dial(self, source: str, now_ms: int) -> bool:
        budget = self._budgets.setdefault(source, _Budget(then_ms=now_ms))
        budget.left = min(DIALS_EACH_AT_ONCE, budget.left + max(now_ms - budget.then_ms, 0) / DIALS_EACH_MS)
        budget.then_ms = now_ms
        if budget.left < 1:
            return False
        budget.left -= 1
        return True

    def _forget(self, now_ms: int) -> None:
        for text, peer in list(self._known.items()):
            over_ms = peer.pulled_ms + PROVEN_MS if peer.pulled_ms else peer.told_ms + CANDIDATE_MS
            if not peer.is_seed and (now_ms > over_ms or peer.failures >= FAILURES_MAX):
                del self._known[text]
        sources = {peer.source for peer in self._known.values()}
        for source in [source for source in self._budgets if source not in sources]:
            if now_ms - self._budgets[source].then_ms > DIALS_EACH_AT_ONCE * DIALS_EACH_MS:  # not sooner: it would be full again
                del self._budgets[source]
