"""News that is still to be passed on: each claim so many times, the least told first.

A claim is told 4 * log10(nodes + 1) times by each node that hears of it, rounded up: then everybody has heard it but with a
probability that no size of a formation makes worse. What a node said of itself in a higher incarnation drives out all that was said before.

The rule: it holds a bounded number of claims about each member, and forgets each of them after it was told.
"""

from __future__ import annotations

import math

from skerry.discovery.claims import Claim, Word

TOLD_FACTOR = 4  # times log10(nodes + 1), as in memberlist


class News:
    """What one node has to tell."""

    def __init__(self) -> None:
        self._claims: dict[tuple[bytes, bytes], Claim] = {}  # (subject, witness)
        self._told: dict[tuple[bytes, bytes], int] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def add(self, claim: Claim) -> None:
        """Something new. What a node says of itself takes the place of all older words about it."""
        if claim.word is not Word.SUSPECT:
            self.drop(claim.subject)
        key = (claim.subject, claim.witness)
        self._claims[key] = claim
        self._told[key] = 0

    def drop(self, subject: bytes) -> None:
        """Nothing of that node is news any more."""
        for key in [key for key in self._claims if key[0] == subject]:
            del self._claims[key], self._told[key]

    def pick(self, most: int, *, nodes: int) -> list[Claim]:
        """What to tell now, the least told first; it counts as told."""
        keys = sorted(self._claims, key=lambda key: self._told[key])[:most]
        picked = [self._claims[key] for key in keys]
        limit = TOLD_FACTOR * math.ceil(math.log10(nodes + 1))
        for key in keys:
            self._told[key] += 1
            if self._told[key] >= limit:
                del self._claims[key], self._told[key]
        return picked
