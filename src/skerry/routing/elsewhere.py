"""Agents of other formations, as routing uses them. The node knows them (`node/foreign_agents.py`).

The rule: who is a contact is looked up whenever one of its agents is about to be asked.
"""

from __future__ import annotations

from typing import Protocol

from skerry.channel.link import Link
from skerry.routing.catalogue import Where
from skerry.routing.pool import Candidate, Pool


class Elsewhere(Protocol):
    """Agents of other formations, for tasks whose caller says that they may leave ours."""

    def pool(self, query: str, where: Where = (), *, agent: str = "") -> Pool | None:
        """All that are shared with us and answer a question; of one name or id alone, where it is given. None where nobody does."""
        ...

    def contact_of(self, candidate: Candidate) -> str:
        """What we call the formation whose agent it is; empty where that is no contact any more, or its node is not believed."""
        ...

    async def link_to(self, candidate: Candidate, timeout_s: float) -> Link:
        """A link over which such an agent can be asked. Raises Unreachable or Refused."""
        ...
