"""A membership alone among members that the test plays by hand."""

from __future__ import annotations

from skerry.discovery import moves
from skerry.discovery.claims import Claim, Word, say
from skerry.discovery.membership import Membership
from skerry.discovery.moves import State
from skerry.discovery.profiles import PROFILES, Profile
from skerry.identity.keys import KeyPair
from skerry.sim.clock import SimRandom

FORMATION = bytes(range(32))
LAN = PROFILES["lan"]
INCARNATION = 100  # ours, and what each other one says first


def keys(count: int) -> list[KeyPair]:
    """Sorted by id, so that the first one's neighbour on the ring is the second."""
    made = [KeyPair.from_seed(bytes([number + 1]) * 32) for number in range(count)]
    return sorted(made, key=lambda pair: pair.public)


class Alone:
    """Our own membership. `others` are linked and have said that they are alive, unless `greeted` says otherwise."""

    def __init__(self, others: int = 5, *, profile: Profile = LAN, greeted: bool = True, seed: int = 1) -> None:
        self.key, *self.others = keys(others + 1)
        self.now_s = 50.0
        self.effects: list[moves.Effect] = []
        self._open: list[moves.Effect] = []  # what the others have not seen yet
        self.machine = Membership(
            self.key, FORMATION, profile=profile, incarnation=INCARNATION, fraction=SimRandom(seed).fraction, now_s=self.now_s
        )
        self.do(moves.MembersChanged(frozenset(other.public for other in self.others)))
        if greeted:
            for other in self.others:
                self.do(moves.LinkOpened(other.public))
                self.answer(other, self.alive(other, INCARNATION))
            for _ in range(20):  # the greetings have made their way
                self.pass_time(0.5, answering=True)
            self.effects.clear()

    def alive(self, who: KeyPair, incarnation: int) -> Claim:
        return say(who, FORMATION, Word.ALIVE, subject=who.public, incarnation=incarnation)

    def away(self, who: KeyPair, incarnation: int) -> Claim:
        return say(who, FORMATION, Word.AWAY, subject=who.public, incarnation=incarnation)

    def suspect(self, witness: KeyPair, whom: KeyPair, incarnation: int = INCARNATION) -> Claim:
        return say(witness, FORMATION, Word.SUSPECT, subject=whom.public, incarnation=incarnation)

    # --- events ---------------------------------------------------------------------------------------------------------------

    def do(self, event: moves.Event) -> list[moves.Effect]:
        effects = self.machine.handle(event, now_s=self.now_s)
        self.effects += effects
        self._open += effects
        return effects

    def hear(self, sender: KeyPair, *claims: Claim) -> list[moves.Effect]:
        return self.do(moves.Told(sender.public, tuple(claim.data for claim in claims)))

    def answer(self, who: KeyPair, *claims: Claim) -> None:
        """It answers the last probe of it."""
        sent = [effect for effect in self.effects if isinstance(effect, moves.SendProbe) and effect.node == who.public]
        self.do(moves.ProbeAnswered(who.public, sent[-1].number, tuple(claim.data for claim in claims)))

    def pass_time(self, seconds: float, *, answering: bool = False, silent: KeyPair | None = None) -> list[moves.Effect]:
        """Its timers run as they are due. `answering`: the others answer its probes at once, but for the silent one, and help in vain."""
        ends_s, came = self.now_s + seconds, self._played(self._open, silent) if answering else []
        while self.machine.next_s <= ends_s:
            self.now_s = max(self.now_s, self.machine.next_s)
            came += self.do(moves.TimePassed())
            if answering:
                came += self._played(self._open, silent)
        self.now_s = ends_s
        return came

    def _played(self, effects: list[moves.Effect], silent: KeyPair | None) -> list[moves.Effect]:
        came: list[moves.Effect] = []
        self._open = []
        for effect in effects:
            if isinstance(effect, moves.SendProbe) and (silent is None or effect.node != silent.public):
                came += self.do(moves.ProbeAnswered(effect.node, effect.number, ()))
            elif isinstance(effect, moves.AskToProbe) and silent is not None and effect.node == silent.public:
                came += self.do(moves.HelperAnswered(effect.number, False))
        return came

    # --- looking --------------------------------------------------------------------------------------------------------------

    def state(self, who: KeyPair) -> State | None:
        return self.machine.state_of(who.public)

    def said(self, kind: type[moves.Tell] | type[moves.SendProbe], to: KeyPair) -> set[bytes]:
        """All claims that it sent to somebody in such messages."""
        return {data for effect in self.effects if isinstance(effect, kind) and effect.node == to.public for data in effect.claims}

    def probes_of(self, who: KeyPair) -> int:
        """How often it was probed."""
        return sum(isinstance(effect, moves.SendProbe) and effect.node == who.public for effect in self.effects)
