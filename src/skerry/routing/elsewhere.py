"""Agents and circles of other formations, as routing uses them. The node knows them (`node/beyond.py`).

The rule: whether a formation is a contact, and whether a circle may still be called, is looked up whenever one is about to be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from skerry.channel.link import Link
from skerry.routing.catalogue import Where
from skerry.routing.pool import Candidate, Pool


class Elsewhere(Protocol):
    """Whom tasks may go to whose caller says that they may leave our formation."""

    @property
    def can_look(self) -> bool:
        """Whether there is anywhere to look for circles of others."""
        ...

    def pools(self, query: str, where: Where = (), *, agent: str = "", reach: str, by_merit: bool = True) -> Sequence[Pool]:
        """All that answer a question within a reach, in the order in which they are to be asked: what contacts share with us, then circles
        that anybody may call; none that is empty. agent: of one name or id alone; by_merit: the better circle is used up before the next,
        where no strategy is to choose among all of them."""
        ...

    def contact_of(self, candidate: Candidate) -> str:
        """What we call the formation whose agent it is, or the circle; empty where it may not be asked any more."""
        ...

    async def look(self, query: str, *, timeout_s: float) -> None:
        """Look for circles that anybody may call; `pools` knows them then."""
        ...

    async def link_to(self, candidate: Candidate, timeout_s: float) -> Link:
        """A link over which one can be asked. Raises Unreachable or Refused."""
        ...
