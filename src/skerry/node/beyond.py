"""All that lies beyond our formation, as routing sees it: what contacts share with us, and circles that anybody may call.

Every node that speaks for a circle is somebody to ask, in a catalogue of their own, so that what was measured of them outlives a renewed
announcement. Where the caller names no strategy, the circle with the best name and the most available members is used up before the next.

The rule: what contacts share comes before what anybody may call, and of a circle nobody is asked whose announcement is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.channel.link import Link
from skerry.node.foreign_agents import ForeignAgents
from skerry.routing.announcement import CircleAnnouncement, PublishedCircle, Speaker
from skerry.routing.catalogue import Catalogue, Where
from skerry.routing.circle import CallableBy
from skerry.routing.mesh import preference
from skerry.routing.pool import Candidate, Option, Pool
from skerry.routing.reputation import CIRCLE, NEUTRAL
from skerry.routing.task import REACH_PUBLIC

if TYPE_CHECKING:
    from skerry.node.node import Node

TRIED_MAX = 16  # circles that one task may go to, one after the other


class Beyond:
    """What one node knows beyond its formation (`routing.elsewhere.Elsewhere`)."""

    def __init__(self, node: Node, shared: ForeignAgents) -> None:
        self._node = node
        self._shared = shared
        self._speakers = Catalogue()
        node.circles.router.watch(self._noted)

    @property
    def can_look(self) -> bool:
        return self._node.explorer.can_look

    def pools(self, query: str, where: Where = (), *, agent: str = "", reach: str, by_merit: bool = True) -> list[Pool]:
        shared = self._shared.pool(query, where, agent=agent)
        pools = [shared] if shared is not None else []
        if reach != REACH_PUBLIC:
            return pools
        speakers = self._speakers.pool_of(agent, query) if agent else self._speakers.pool(query)  # attributes are known to its members
        if speakers is None:
            return pools
        return pools + (self._by_circle(speakers) if by_merit else [speakers])

    def contact_of(self, candidate: Candidate) -> str:
        if not candidate.is_circle:
            return self._shared.contact_of(candidate)
        known = self._node.circles.router.discovered(_circle_of(candidate), now_ms=self._node.ports.clock.now_ms())
        return known.announcement.name if known is not None else ""

    async def look(self, query: str, *, timeout_s: float) -> None:
        await self._node.explorer.search(query=query, timeout_s=timeout_s)

    async def link_to(self, candidate: Candidate, timeout_s: float) -> Link:
        of = self._node.explorer if candidate.is_circle else self._shared
        return await of.link_to(candidate, timeout_s)

    def _by_circle(self, speakers: Pool) -> list[Pool]:
        """One pool for each circle, the preferred one first."""
        reputation, router, now_ms = self._node.dispatcher.reputation, self._node.circles.router, self._node.ports.clock.now_ms()
        found: dict[bytes, list[Option]] = {}
        for option in speakers.options:
            found.setdefault(_circle_of(option.candidate), []).append(option)
        ranked = []
        for circle in found:
            known, score = router.discovered(circle, now_ms=now_ms), reputation.get_circle_reputation(circle, now_ms=now_ms)
            if known is not None:
                ranked.append(preference(known.announcement, NEUTRAL if score is None else score))
        return [Pool(b"").take_in(found[circle]) for *_, circle in sorted(ranked, reverse=True)[:TRIED_MAX]]

    def _noted(self, before: PublishedCircle | None, after: PublishedCircle | None) -> None:
        """A circle was discovered, told anew, or forgotten."""
        said = after.announcement if after is not None and after.announcement.callable_by is CallableBy.ANYONE else None
        speaks = {speaker.node: _candidates(said, speaker) for speaker in said.speakers} if said is not None else {}
        for known in filter(None, (before, after)):
            for speaker in known.announcement.speakers:
                self._speakers.set(speaker.node, CIRCLE + known.circle_id.hex(), speaks.get(speaker.node, []))


def _circle_of(candidate: Candidate) -> bytes:
    return bytes.fromhex(candidate.agent.removeprefix(CIRCLE))


def _candidates(said: CircleAnnouncement, speaker: Speaker) -> list[Candidate]:
    """What can be asked of a node that speaks for a circle. Where nobody is available there it is asked last: somebody may be by then."""
    return [
        Candidate(
            agent=CIRCLE + said.circle_id.hex(),
            name=said.name,
            node=speaker.node,
            capability=capability,
            idempotent=capability in said.idempotent,
            expires=said.expires,
            description=said.description,
            streams=True,
            restarting=not said.available_count,
            formation=said.formation,
            places=max(said.available_count, 1),
        )
        for capability in said.capabilities
    ]
