"""The verbs about circles.

The rule: what is announced to everybody may be asked by everybody; all else is the formation's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.agents.capability import check_query
from skerry.errors import Code, Refused, Unreachable, UsageError
from skerry.identity.keys import SHORT_CHARACTERS
from skerry.node import views
from skerry.node.operation import Operation
from skerry.node.policy import Right
from skerry.routing.announcement import CircleAnnouncement
from skerry.routing.circle import AgentCircle
from skerry.routing.reputation import AGENT, CIRCLE, NODE
from skerry.routing.verbs import (
    AnnouncementsReply,
    AnnouncementsRequest,
    CircleCreateRequest,
    CircleInfo,
    CircleList,
    CircleMember,
    CircleMemberInfo,
    CircleName,
    CircleQuery,
)

if TYPE_CHECKING:
    from skerry.node.node import Node

SHOWN_MAX = 16  # announcements given at once
SHOWN_BYTES_MAX = 40 * 1024  # ... which is one frame: a stranger gets nothing that is sent in pieces. The largest one fits
SEARCH_TIMEOUT_S = 8.0
NAMED_MAX = 5  # circles of one name, in an error


def info_of(node: Node, circle: AgentCircle) -> CircleInfo:
    names = views.node_names(node)
    said = node.circles.router.announced(circle.id)
    return CircleInfo(
        id=circle.id.hex(),
        name=circle.name,
        description=circle.charter.description,
        formation=circle.formation.hex(),
        founder=circle.founder.hex(),
        open=circle.charter.open_membership,
        public=circle.charter.public,
        callable_by=circle.charter.callable_by.value,
        epoch=circle.epoch,
        capabilities=list(circle.capabilities),
        member_count=len(circle.members),
        available_count=circle.available_count,
        members=[
            CircleMemberInfo(one.id, one.name, names.get(one.node, ""), one.status.value, list(one.capabilities)) for one in circle.members
        ],
        invited=list(circle.charter.invited),
        announced_at=said.announcement.timestamp if said is not None else 0,
        expires_at=said.announcement.expires if said is not None else 0,
    )


def discovered_info(node: Node, said: CircleAnnouncement) -> CircleInfo:
    reputation, now_ms = node.dispatcher.reputation, node.ports.clock.now_ms()
    return CircleInfo(
        id=said.circle_id.hex(),
        name=said.name,
        description=said.description,
        formation=said.formation.hex(),
        founder=said.founder.hex(),
        open=said.open_membership,
        public=True,
        callable_by=said.callable_by.value,
        epoch=said.epoch,
        capabilities=list(said.capabilities),
        member_count=said.member_count,
        available_count=said.available_count,
        foreign=True,
        addresses=[address for one in said.speakers for address in one.addresses],
        announced_at=said.timestamp,
        expires_at=said.expires,
        reputation=reputation.get_circle_reputation(said.circle_id, now_ms=now_ms),
        blacklisted=said.circle_id in reputation.blacklisted_circles(now_ms=now_ms),
    )


async def _create(node: Node, request: CircleCreateRequest, _: bytes) -> CircleInfo:
    await node.may_write.wait()
    circle = node.circles.create(
        request.name,
        description=request.description,
        open_membership=request.open,
        callable_by=request.callable_by,
        public=request.public,
    )
    return info_of(node, circle)


async def _list(node: Node, request: CircleQuery, _: bytes) -> CircleList:
    if request.discover:
        _check_look(node, request.capability)
        await node.explorer.search(query=request.capability, timeout_s=SEARCH_TIMEOUT_S)
    router, now_ms = node.circles.router, node.ports.clock.now_ms()
    node.circles.refresh()
    if request.capability:
        found = router.find_capable_circles(request.capability, now_ms=now_ms)
        ours, others = list(found.local_circles), list(found.discovered_circles)
    else:
        ours, others = router.local_circles(), router.discovered_circles(now_ms=now_ms)
    circles = [*(info_of(node, one) for one in ours), *(discovered_info(node, one.announcement) for one in others)]
    return CircleList(circles, dict(sorted(router.refused.items())), _first(node, request.capability) if request.capability else "")


def _first(node: Node, query: str) -> str:
    """Which of the circles that offer something is asked first, where no strategy says otherwise."""
    reputation, now_ms = node.dispatcher.reputation, node.ports.clock.now_ms()
    target = node.circles.router.route_task(
        query,
        now_ms=now_ms,
        score=lambda circle: reputation.score(CIRCLE + circle.hex(), now_ms=now_ms),
        avoided=frozenset(reputation.blacklisted_circles(now_ms=now_ms)),
    )
    return target.circle_id.hex() if target is not None else ""


def _check_look(node: Node, query: str) -> None:
    """Raises UsageError where a query can't be looked for, and Unreachable where there is nowhere to look."""
    check_query(query)
    if node.circles.router.plan_discover_capability(query) is None:
        raise UsageError(f"{query[:80]!r} is too wide to look for elsewhere", hint="name a capability, or a kind: 'inference:*'")
    if not node.explorer.can_look:
        raise Unreachable(
            "this node knows no DHT to look in",
            hint="start it with --bootstrap HOST:PORT, which a node that takes part in one shows as `dht` in `skerry status -o json`",
        )


async def _show(node: Node, request: CircleName, _: bytes) -> CircleInfo:
    node.circles.refresh()
    foreign = _discovered(node, request.name)
    return discovered_info(node, foreign) if foreign is not None else info_of(node, node.circles.named(request.name))


def _discovered(node: Node, name: str) -> CircleAnnouncement | None:
    """A circle of others by name, id, or the start of its id, where none of ours is called so. Raises Refused where several are: anybody
    may take any name."""
    if any(name in (one.name, one.id.hex()) for one in node.circles.router.local_circles()):
        return None
    known = [one.announcement for one in node.circles.router.discovered_circles(now_ms=node.ports.clock.now_ms())]
    found = [one for one in known if name in (one.name, one.circle_id.hex())]
    found = found or [one for one in known if len(name) >= views.ID_PREFIX_MIN and one.circle_id.hex().startswith(name.lower())]
    if len(found) > 1:
        ids = ", ".join(one.circle_id.hex()[:SHORT_CHARACTERS] for one in found[:NAMED_MAX])
        raise Refused(f"{name[:80]!r} may be any of {ids}", code=Code.CONFLICT, hint="give the start of its id")
    return found[0] if found else None


async def _enter(node: Node, request: CircleMember, _: bytes) -> CircleInfo:
    await node.may_write.wait()
    return info_of(node, node.circles.enter(request.circle, request.agent))


async def _leave(node: Node, request: CircleMember, _: bytes) -> CircleInfo:
    await node.may_write.wait()
    return info_of(node, node.circles.leave(request.circle, request.agent))


async def _invite(node: Node, request: CircleMember, _: bytes) -> CircleInfo:
    await node.may_write.wait()
    return info_of(node, node.circles.invite(request.circle, request.agent))


async def _dissolve(node: Node, request: CircleName, _: bytes) -> CircleInfo:
    await node.may_write.wait()
    return info_of(node, node.circles.dissolve(request.name))


async def _forgive(node: Node, request: CircleName, _: bytes) -> CircleInfo:
    info = await _show(node, request, _)
    known = node.circles.router.discovered(bytes.fromhex(info.id), now_ms=node.ports.clock.now_ms())
    speakers = known.announcement.speakers if known is not None else ()
    subjects = [CIRCLE + info.id, *(AGENT + member.id for member in info.members), *(NODE + one.node.hex() for one in speakers)]
    for subject in subjects:  # what they did is what the circle did
        node.dispatcher.reputation.forgive(subject)
    return await _show(node, request, _)


async def _announcements(node: Node, request: AnnouncementsRequest, _: bytes) -> AnnouncementsReply:
    shown = node.circles.payloads(query=request.capability, circle=request.circle, most=SHOWN_MAX, size_bytes_max=SHOWN_BYTES_MAX)
    return AnnouncementsReply(shown)


CIRCLE_OPERATIONS = (
    Operation("circle.create", Right.OPERATE, CircleCreateRequest, CircleInfo, _create, "Found a circle."),
    Operation("circle.list", Right.OBSERVE, CircleQuery, CircleList, _list, "Circles of the formation, and those that were discovered."),
    Operation("circle.show", Right.OBSERVE, CircleName, CircleInfo, _show, "One circle, with its members."),
    Operation("circle.enter", Right.OPERATE, CircleMember, CircleInfo, _enter, "Let an agent of this node enter a circle."),
    Operation("circle.leave", Right.OPERATE, CircleMember, CircleInfo, _leave, "Take an agent of this node out of a circle."),
    Operation("circle.invite", Right.OPERATE, CircleMember, CircleInfo, _invite, "Invite an agent into a circle that this node founded."),
    Operation("circle.dissolve", Right.OPERATE, CircleName, CircleInfo, _dissolve, "End a circle that this node founded."),
    Operation("circle.forgive", Right.OPERATE, CircleName, CircleInfo, _forgive, "Forget what this node saw of a circle's faults."),
    Operation("circle.announcements", Right.PING, AnnouncementsRequest, AnnouncementsReply, _announcements, "What is announced to all."),
)
