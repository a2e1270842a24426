"""What a node says of itself, and how it answers what others say of it.

Something as new as its own word is outbid with a higher incarnation. A suspicion of an incarnation that it never said is a lie or of an
earlier life: it is answered with what is so, and where it is of an earlier life, the node's own word from there comes back and is outbid.
Where another process has our key (a copied home), each would outbid the other for ever; so that is done seldom, and in between nothing is
said.

The rule: a node's incarnation only rises, and nobody else can make it rise faster than this.
"""

from __future__ import annotations

from skerry.discovery.allowance import Allowance
from skerry.discovery.claims import INCARNATION_MAX, Claim, Word, say
from skerry.identity.keys import KeyPair

REFUTATIONS_AT_ONCE, REFUTATIONS_PER_S = 20.0, 2.0  # each one travels to everybody; one liar alone can't use them up
RETURNS_AT_ONCE, RETURNS_PER_S = 5.0, 0.1  # from an earlier life of ours, or from another process with our key


class Ourselves:
    """`claim` is our last word."""

    def __init__(self, key: KeyPair, formation: bytes, *, incarnation: int) -> None:
        self.id = key.public
        self.is_away = False
        self.claim = say(key, formation, Word.ALIVE, subject=key.public, incarnation=incarnation)
        self._key = key
        self._formation = formation
        self._refutations = Allowance(REFUTATIONS_AT_ONCE, REFUTATIONS_PER_S)
        self._returns = Allowance(RETURNS_AT_ONCE, RETURNS_PER_S)

    @property
    def incarnation(self) -> int:
        return self.claim.incarnation

    def suspect(self, subject: bytes, incarnation: int) -> Claim:
        """We could not reach it."""
        return say(self._key, self._formation, Word.SUSPECT, subject=subject, incarnation=incarnation)

    def go(self, *, away: bool) -> bool:
        """Away, or here again. Whether that is new."""
        if self.is_away is away:
            return False
        self.is_away = away
        self._outbid(self.incarnation)
        return True

    def answers(self, claim: Claim, *, now_s: float) -> bool:
        """Somebody says that of us, signed, and it is no older than our own word. Whether to answer with `claim`, which may be new then."""
        is_doubt = claim.word is Word.SUSPECT
        if not (self._refutations if is_doubt else self._returns).take(now_s):
            return False
        if claim.incarnation == self.incarnation or not is_doubt:
            self._outbid(claim.incarnation)
        return True

    def _outbid(self, incarnation: int) -> None:
        word = Word.AWAY if self.is_away else Word.ALIVE
        higher = min(max(incarnation, self.incarnation) + 1, INCARNATION_MAX)
        self.claim = say(self._key, self._formation, word, subject=self.id, incarnation=higher)
