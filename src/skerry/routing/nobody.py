"""What to say where nobody can be given a task: who is meant perhaps, who is shared with us, and what can be done about it.

The rule: a caller who made a mistake is shown the closest that there is, and where a task may not go further, what would let it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skerry.agents.capability import check_query
from skerry.errors import Code, Refused, SkerryError
from skerry.routing.catalogue import Catalogue, Where
from skerry.routing.elsewhere import Elsewhere
from skerry.routing.pool import Candidate, Pool
from skerry.routing.task import REACH_CONTACTS, REACH_FORMATION, REACH_PUBLIC, Request

CONTACTS_SHOWN = 3  # in an error
ATTRIBUTES_SHOWN = 5  # to somebody who asked for others


class Nobody:
    """`unavailable`, `pools`, `belongs`: as the dispatcher has them."""

    def __init__(
        self,
        catalogue: Catalogue,
        elsewhere: Elsewhere | None,
        *,
        unavailable: Callable[[str], SkerryError | None],
        pools: Callable[[Request], Sequence[Pool]],
        belongs: Callable[[Candidate], bool],
    ) -> None:
        self._catalogue = catalogue
        self._elsewhere = elsewhere
        self._unavailable = unavailable
        self._pools = pools
        self._belongs = belongs

    def for_request(self, request: Request) -> SkerryError:
        """What to say where nobody can be asked."""
        query, leaves = request.capability, request.reach != REACH_FORMATION
        check_query(query)  # what is no query at all is refused as such
        shared = self._shared(query, where_of(request), request.agent)
        if shared and not leaves:
            return self._only_elsewhere(query, shared)
        options = [option for pool in self._pools(Request(query, b"", reach=request.reach)) for option in pool.options]
        if not options:
            return self._unavailable(query) or self.unknown(query, reach=request.reach)
        if not request.where:
            return self.unknown(query, agent=request.agent, reach=request.reach)
        asked = ", ".join(f"{key}={value}" for key, value in request.where.items())
        held = {key: str(value) for option in options for key, value in option.candidate.attributes.items()}
        hint = f"there is {', '.join(f'{key}={value}' for key, value in list(held.items())[:ATTRIBUTES_SHOWN])}" if held else _LOOK
        return Refused(f"nobody who offers {query!r} has {asked}", code=Code.UNKNOWN_CAPABILITY, hint=hint)

    def unknown(self, capability: str, *, agent: str = "", reach: str = REACH_FORMATION) -> SkerryError:
        """With the closest names that somebody does offer. `reach`: how far was looked."""
        what = f"{capability!r}" + (f" by an agent {agent!r}" if agent else "")
        closest = self._catalogue.closest(capability) if not agent else []
        hint = f"did you mean {' or '.join(closest)}?" if closest else _LOOK if reach == REACH_FORMATION else _LOOK_AT_AGENTS
        if reach == REACH_PUBLIC and (self._elsewhere is None or not self._elsewhere.can_look):
            hint = f"{hint} {_NOWHERE}" if closest else _NOWHERE
        who = _WHO[reach]
        return Refused(f"{who} offers {what}", code=Code.UNKNOWN_CAPABILITY, hint=hint)

    def _shared(self, query: str, where: Where, agent: str) -> list[str]:
        """The contacts that share such an agent with us."""
        if self._elsewhere is None:
            return []
        pools = self._elsewhere.pools(query, where, agent=agent, reach=REACH_CONTACTS)
        believed = [option.candidate for pool in pools for option in pool.options if self._belongs(option.candidate)]
        return sorted({self._elsewhere.contact_of(candidate) for candidate in believed})

    def _only_elsewhere(self, capability: str, contacts: list[str]) -> SkerryError:
        return Refused(
            f"nobody in this formation offers {capability!r}; shared with us by {' and '.join(contacts[:CONTACTS_SHOWN])}",
            code=Code.UNKNOWN_CAPABILITY,
            hint="let the task leave the formation: --reach contacts",
        )


def where_of(request: Request) -> Where:
    """The attributes that a request asks for, as the catalogue takes them."""
    return tuple(sorted(request.where.items())) if request.where else ()


_LOOK = "`skerry capability list` shows what there is"
_LOOK_AT_AGENTS = "`skerry agent list` shows what there is"
_NOWHERE = "this node knows no DHT to look for circles of others in: start it with --bootstrap HOST:PORT"
_WHO = {
    REACH_FORMATION: "nobody in this formation",
    REACH_CONTACTS: "nobody in this formation, and no contact,",
    REACH_PUBLIC: "nobody in this formation, no contact, and no public circle that was found",
}
