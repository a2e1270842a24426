"""A suspicion: somebody could not reach a node. It ends with the node's refutation, or with its time.

    time = longest - (longest - shortest) * log(confirmations + 1) / log(wanted + 1)

as in Lifeguard: the first witness alone has to wait long, each further one shortens that, `wanted` of them bring it to the shortest.

The rule: a witness counts once, and only what was signed counts as one.
"""

from __future__ import annotations

import math

from skerry.discovery.claims import Claim

WITNESSES_MAX = 8  # kept and passed on; more of them change nothing


class Suspicion:
    """Of one node in one incarnation."""

    __slots__ = ("_longest_s", "_shortest_s", "_wanted", "began_s", "witnesses")

    def __init__(self, *, began_s: float, shortest_s: float, longest_s: float, wanted: int) -> None:
        """`wanted`: confirmations after the first witness; 0 where nobody could confirm."""
        self.began_s = began_s
        self.witnesses: dict[bytes, Claim] = {}
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._wanted = wanted

    def takes(self, witness: bytes) -> bool:
        """Whether that one's word would be new here."""
        return witness not in self.witnesses and len(self.witnesses) < WITNESSES_MAX

    def confirm(self, claim: Claim) -> None:
        self.witnesses[claim.witness] = claim

    def forget(self, witnesses: list[bytes]) -> None:
        """They have no say any more."""
        for witness in witnesses:
            self.witnesses.pop(witness, None)

    @property
    def lasts_s(self) -> float:
        if self._wanted <= 0:
            return self._shortest_s
        confirmations = min(max(len(self.witnesses) - 1, 0), self._wanted)
        share = math.log(confirmations + 1) / math.log(self._wanted + 1)
        return self._longest_s - (self._longest_s - self._shortest_s) * share

    @property
    def ends_s(self) -> float:
        return self.began_s + self.lasts_s
