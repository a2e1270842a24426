"""Whether a claim is believed: it is signed by its witness, and neither the witness nor whoever passes it on says too much.

A look at a signature takes 60 us, a suspicion sets a whole formation talking; so both are counted for each member.

The rule: a member that lies without end is heard no more often than this, and costs the others nothing beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from skerry.discovery.allowance import Allowance
from skerry.discovery.claims import Claim

CLAIMS_AT_ONCE, CLAIMS_PER_S = 256.0, 64.0  # whose signature is looked at, from one sender
SUSPICIONS_AT_ONCE, SUSPICIONS_PER_S = 64.0, 0.5  # of one witness: half a formation may end at once, but not again and again


@dataclass(slots=True)
class _Account:
    claims: Allowance = field(default_factory=lambda: Allowance(CLAIMS_AT_ONCE, CLAIMS_PER_S))
    suspicions: Allowance = field(default_factory=lambda: Allowance(SUSPICIONS_AT_ONCE, SUSPICIONS_PER_S))


class Scrutiny:
    """One node's. Senders, and witnesses of others, are members: whoever asks has seen to that."""

    def __init__(self, formation: bytes) -> None:
        self._formation = formation
        self._accounts: dict[bytes, _Account] = {}

    def passes(self, claim: Claim, sender: bytes, *, now_s: float) -> bool:
        """Whether a claim is looked at, and signed."""
        return self._account(sender).claims.take(now_s) and claim.is_signed(self._formation)

    def may_doubt(self, witness: bytes, *, now_s: float) -> bool:
        """Whether that one's word of another one is taken once more."""
        return self._account(witness).suspicions.take(now_s)

    def forget(self, node: bytes) -> None:
        self._accounts.pop(node, None)

    def _account(self, node: bytes) -> _Account:
        if node not in self._accounts:
            self._accounts[node] = _Account()
        return self._accounts[node]
