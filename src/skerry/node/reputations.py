"""What this node thinks of those whom it asked, as people see it: listed, and forgiven.

The rule: scores are shown to those who may look into this node, and are this node's own opinion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.errors import Code, Refused
from skerry.node import views
from skerry.routing.reputation import AGENT, CONTACT, NODE
from skerry.routing.verbs import ForgiveRequest, Score, ScoreList, ScoreQuery

if TYPE_CHECKING:
    from skerry.node.node import Node

_LIST = "`skerry reputation list` shows of whom it has one"


async def listed(node: Node, _: ScoreQuery, __: bytes) -> ScoreList:
    return ScoreList(scores(node))


async def forgiven(node: Node, request: ForgiveRequest, _: bytes) -> Score:
    return forgive(node, request.name)


def scores(node: Node) -> list[Score]:
    """All that this node has an opinion of, the best first."""
    reputation, now_ms = node.dispatcher.reputation, node.ports.clock.now_ms()
    names = _names(node)
    found = []
    for subject, score in reputation.top(len(reputation), now_ms=now_ms):
        kind, _, identity = subject.partition(":")
        low = reputation.is_blacklisted(subject, now_ms=now_ms)
        found.append(Score(kind, identity, names.get(subject, ""), round(score, 4), reputation.observations(subject), low))
    return found


def forgive(node: Node, name: str) -> Score:
    """Forget what a subject did. Raises Refused where there is none of that name, or more than one."""
    known = scores(node)
    found = [one for one in known if name in (one.id, one.name) and name]
    if not found and len(name) >= views.ID_PREFIX_MIN:
        found = [one for one in known if one.id.startswith(name.lower())]
    if not found:
        raise Refused(
            f"this node has no opinion of {name[:80]!r}", code=Code.NOT_FOUND, hint="`skerry reputation list` shows of whom it has"
        )
    if len(found) > 1:
        ids = ", ".join(one.id[:10] for one in found)
        raise Refused(f"{name!r} may be any of {ids}", code=Code.CONFLICT, hint="give the start of its id")
    node.dispatcher.reputation.forgive(f"{found[0].kind}:{found[0].id}")
    return found[0]


def _names(node: Node) -> dict[str, str]:
    names = {AGENT + option.provider.agent: option.candidate.name for option in node.catalogue.options("*")}
    contacts = {CONTACT + contact.id.hex(): contact.name for contact in node.contacts.directory.contacts.values()}
    return {**names, **contacts, **{NODE + identity.hex(): name for identity, name in views.node_names(node).items()}}
