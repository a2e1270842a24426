"""Memberships of many nodes without their nodes: what decides who is there, over messages that take their time.

A whole node costs a simulator a hundred times as much as its membership. Here only that runs, so that thirty nodes live ten minutes in
seconds, and two hundred a minute. Whole nodes are tested in `tests/sim`.

A member may stand still (what arrives waits, its own timers come late, and first), be starved (it runs in slices), be killed (its peers'
systems say so), crash (nobody says anything), or be cut off, one way or both.

The rule: a crowd is its seed, as a world is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from skerry.discovery import moves
from skerry.discovery.membership import Membership
from skerry.discovery.moves import State
from skerry.discovery.profiles import PROFILES, Profile
from skerry.identity.keys import KeyPair
from skerry.sim.clock import SimRandom

DELAY_S = (0.000_2, 0.003)  # of one message, with the work at its end
FRAME_BYTES = 20  # of a message beside its claims
FORMATION = bytes(32)
TIMER, MESSAGE = 0, 1


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody's view of somebody changed."""

    at_s: float
    by: int
    of: int
    state: State
    before: State


class One:
    """A member of the crowd. `is_running`: its process is there; `is_refused`: it is not, and its system says so."""

    def __init__(self, number: int, key: KeyPair) -> None:
        self.number = number
        self.key = key
        self.is_running = False
        self.is_refused = False
        self.stalled_until = 0.0
        self.life = 0
        self.sent_bytes = 0
        self.sent = 0
        self.timer_s = float("inf")
        self.machine: Membership | None = None


class Crowd:
    """`count` members, each linked with each. Nothing runs before `run`."""

    def __init__(self, count: int, *, seed: int | str, profile: Profile = PROFILES["lan"], delay_s: tuple[float, float] = DELAY_S) -> None:
        self.now_s = 0.0
        self.seen: list[Seen] = []
        self.random = SimRandom(f"{seed}/crowd")
        self._profile = profile
        self._delay_s = delay_s
        self._queue: list[tuple[float, int, int, One | None, int, Callable[[], None]]] = []
        self._count = 0
        self._cut: set[tuple[int, int]] = set()
        self.ones = [One(number, KeyPair.from_seed(self.random.token(32))) for number in range(count)]
        self._by_id = {one.key.public: one for one in self.ones}
        for one in self.ones:
            self.start(one.number)

    # --- time -----------------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        ends_s = self.now_s + seconds
        while self._queue and self._queue[0][0] <= ends_s:
            at_s, kind, number, one, life, act = heapq.heappop(self._queue)
            self.now_s = at_s
            if one is not None and (not one.is_running or one.life != life):
                continue
            if one is not None and one.stalled_until > at_s:
                heapq.heappush(self._queue, (one.stalled_until, kind, number, one, life, act))
                continue
            act()
        self.now_s = ends_s

    def later(self, seconds: float, act: Callable[[], None], *, one: One | None = None, kind: int = MESSAGE) -> None:
        """Something happens then: to a member's process, as it is now, or to the world."""
        self._count += 1
        life = one.life if one is not None else 0
        heapq.heappush(self._queue, (self.now_s + seconds, kind, self._count, one, life, act))

    # --- what goes wrong ------------------------------------------------------------------------------------------------------

    def start(self, number: int, *, incarnation: int | None = None) -> None:
        one = self.ones[number]
        one.life += 1
        one.is_running, one.is_refused, one.stalled_until, one.timer_s = True, False, 0.0, float("inf")
        incarnation = int(self.now_s * 1000) + 1 if incarnation is None else incarnation
        one.machine = Membership(
            one.key, FORMATION, profile=self._profile, incarnation=incarnation, fraction=self.random.fraction, now_s=self.now_s
        )
        self._handle(one, moves.MembersChanged(frozenset(self._by_id) - {one.key.public}))
        for other in self.ones:
            if other is not one and other.is_running and not {(number, other.number), (other.number, number)} & self._cut:
                self._open(one, other)

    def kill(self, number: int) -> None:
        """Its process ends; its system says so to everybody who is linked with it."""
        self.crash(number)
        self.ones[number].is_refused = True
        for other in self.ones:
            if other.is_running and (number, other.number) not in self._cut:
                self._event(other, moves.LinkLost(self.ones[number].key.public))

    def crash(self, number: int) -> None:
        """Silence."""
        self.ones[number].is_running = False

    def stall(self, number: int, seconds: float) -> None:
        self.ones[number].stalled_until = self.now_s + seconds

    def stall_again(self, number: int, *, seconds: float, every_s: float) -> None:
        """It stands still so long, again and again."""
        self.stall(number, seconds)
        self.later(every_s, lambda: self.stall_again(number, seconds=seconds, every_s=every_s))

    def cut(self, a: int, b: int, *, one_way: bool = False) -> None:
        self._cut |= {(a, b)} if one_way else {(a, b), (b, a)}

    def heal(self) -> None:
        """Every way is open again, and whoever was cut off is linked anew."""
        pairs = {(min(pair), max(pair)) for pair in self._cut}
        self._cut.clear()
        for a, b in sorted(pairs):
            if self.ones[a].is_running and self.ones[b].is_running:
                self._open(self.ones[a], self.ones[b])

    def tell(self, sender: int, receiver: int, claims: moves.Claims) -> None:
        """Say something in a member's name, be it true or not."""
        self._event(self.ones[receiver], moves.Told(self.ones[sender].key.public, claims))

    def go_away(self, number: int) -> None:
        self._handle(self.ones[number], moves.WentAway())

    def come_back(self, number: int) -> None:
        self._handle(self.ones[number], moves.CameBack())

    # --- looking at it --------------------------------------------------------------------------------------------------------

    def machine(self, number: int) -> Membership:
        machine = self.ones[number].machine
        assert machine is not None
        return machine

    def state(self, by: int, of: int) -> State | None:
        return self.machine(by).state_of(self.ones[of].key.public)

    def views(self, of: int) -> set[State | None]:
        """How the running ones see it."""
        return {self.state(one.number, of) for one in self.ones if one.is_running and one.number != of}

    def known_s(self, of: int, state: State, *, since_s: float) -> float:
        """When the last of the running ones came to see it so, counted from `since_s`; infinity where one does not."""
        if self.views(of) != {state}:
            return float("inf")
        times = [seen.at_s for seen in self.seen if seen.of == of and seen.state is state and seen.at_s >= since_s]
        return max(times, default=since_s) - since_s

    # --- the ways -------------------------------------------------------------------------------------------------------------

    def _open(self, one: One, other: One) -> None:
        self._event(one, moves.LinkOpened(other.key.public))
        self._event(other, moves.LinkOpened(one.key.public))

    def _event(self, one: One, event: moves.Event) -> None:
        self.later(self.random.uniform(*self._delay_s), self._handler(one, event), one=one)

    def _send(self, sender: One, receiver: One, claims: moves.Claims, act: Callable[[], None]) -> None:
        sender.sent += 1
        sender.sent_bytes += FRAME_BYTES + sum(map(len, claims))
        if (sender.number, receiver.number) not in self._cut:
            self.later(self.random.uniform(*self._delay_s), act, one=receiver)

    def _handle(self, one: One, event: moves.Event) -> moves.Claims:
        assert one.machine is not None
        answer: moves.Claims = ()
        for effect in one.machine.handle(event, now_s=self.now_s):
            match effect:
                case moves.SendProbe(node, number, claims):
                    self._probe(one, self._by_id[node], number, claims)
                case moves.AskToProbe(helper, node, number):
                    self._relay(one, self._by_id[helper], self._by_id[node], number)
                case moves.Tell(node, claims):
                    other = self._by_id[node]
                    self._send(one, other, claims, self._handler(other, moves.Told(one.key.public, claims)))
                case moves.Answer(claims):
                    answer = claims
                case moves.Show(node, state, before):
                    self.seen.append(Seen(self.now_s, one.number, self._by_id[node].number, state, before))
        due_s = one.machine.next_s
        if due_s < one.timer_s or one.timer_s <= self.now_s:
            one.timer_s = due_s
            if due_s != float("inf"):
                self.later(max(due_s - self.now_s, 0.0), lambda: self._timer(one), one=one, kind=TIMER)
        return answer

    def _timer(self, one: One) -> None:
        assert one.machine is not None
        if self.now_s >= one.machine.next_s:
            self._handle(one, moves.TimePassed())
        else:
            one.timer_s = one.machine.next_s
            self.later(one.timer_s - self.now_s, lambda: self._timer(one), one=one, kind=TIMER)

    def _handler(self, one: One, event: moves.Event) -> Callable[[], None]:
        def act() -> None:
            self._handle(one, event)

        return act

    def _probe(self, one: One, other: One, number: int, claims: moves.Claims) -> None:
        def arrived() -> None:
            answer = self._handle(other, moves.Probed(one.key.public, claims))
            self._send(other, one, answer, self._handler(one, moves.ProbeAnswered(other.key.public, number, answer)))

        if self._is_refused(one, other):
            self._event(one, moves.ProbeFailed(other.key.public, number))
        else:
            self._send(one, other, claims, arrived)

    def _relay(self, one: One, helper: One, other: One, number: int) -> None:
        answered = False

        def reply(reached: bool) -> None:
            nonlocal answered
            if not answered:
                answered = True
                event = moves.HelperAnswered(number, reached)
                self._send(helper, one, (), self._handler(one, event))

        def came_back(answer: moves.Claims) -> None:
            self._handle(helper, moves.Told(other.key.public, answer))
            reply(True)

        def arrived(claims: moves.Claims) -> None:
            answer = self._handle(other, moves.Probed(helper.key.public, claims))
            self._send(other, helper, answer, lambda: came_back(answer))

        def asked() -> None:
            if self._is_refused(helper, other):
                reply(False)
                return
            assert helper.machine is not None
            claims = helper.machine.claims_for(other.key.public)
            self._send(helper, other, claims, lambda: arrived(claims))
            self.later(self._profile.relay_s, lambda: reply(False), one=helper)

        if self._is_refused(one, helper):
            self._event(one, moves.HelperFailed(number))
        else:
            self._send(one, helper, (), asked)

    def _is_refused(self, one: One, other: One) -> bool:
        """Whether the other's system says that nobody is there: its process was killed, its machine runs."""
        return other.is_refused and (one.number, other.number) not in self._cut
