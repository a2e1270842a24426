"""The catalogue of those who are there: what a node that is gone or away offers is kept aside, and is back at once when it is.

The rule: nothing is asked of a node that is known to be absent, and nobody has to read its records again when it returns.
"""

from __future__ import annotations

from collections.abc import Sequence

from skerry.routing.catalogue import Catalogue
from skerry.routing.pool import Candidate


class PresentCatalogue(Catalogue):
    """See the module. What is set while a node is absent counts from its return on."""

    def __init__(self, ours: bytes = b"") -> None:
        super().__init__(ours)
        self._known: dict[bytes, dict[str, Sequence[Candidate]]] = {}  # of each node's agents, there or not
        self._absent: set[bytes] = set()

    def set(self, node: bytes, agent: str, candidates: Sequence[Candidate]) -> None:
        if candidates:
            self._known.setdefault(node, {})[agent] = candidates
        elif node in self._known:
            self._known[node].pop(agent, None)
            if not self._known[node]:
                del self._known[node]
        super().set(node, agent, [] if node in self._absent else candidates)

    def set_absent(self, node: bytes, *, absent: bool) -> None:
        """A node went, or came back."""
        if absent is (node in self._absent):
            return
        (self._absent.add if absent else self._absent.discard)(node)
        for agent, candidates in self._known.get(node, {}).items():
            super().set(node, agent, [] if absent else candidates)
