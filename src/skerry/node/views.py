"""What lists and pages show: read from records, links and hosts at the moment of asking; nothing of it is kept.

The rule: what may be incomplete says so, and names are the same on every node.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.agents.capability import check_query
from skerry.agents.logfile import end_of, last_lines, lines_after
from skerry.agents.profile import Status
from skerry.agents.resident import Resident
from skerry.agents.runtimes.contract import Offer
from skerry.agents.verbs import AgentInfo, AgentQuery
from skerry.channel.address import relay_of
from skerry.channel.link import Link
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.grants import Role, Standing, State
from skerry.identity.keys import SHORT_CHARACTERS
from skerry.identity.statement import Statement
from skerry.node.advertise import read_agent
from skerry.node.names import display_names
from skerry.node.routing_stats import router_stats
from skerry.node.verbs import FormationInfo, NodeInfo, StatusReply
from skerry.node.whereabouts import said_addresses
from skerry.records.card import AgentCard
from skerry.records.search import Wanted
from skerry.routing.catalogue import Where
from skerry.routing.pool import Candidate
from skerry.routing.verbs import CapabilityInfo

if TYPE_CHECKING:
    from skerry.node.node import Node

_EVERYTHING = AgentQuery()
ID_PREFIX_MIN = 4  # characters of an id that are taken as its start


def node_records(node: Node) -> dict[bytes, Statement]:
    """What those that belong last said of themselves, by author: a node that is away keeps its name and its last addresses."""
    return {s.author: s for s in node.replica.held("node") if node.trust.standing(s.author).belongs}


def node_names(node: Node) -> dict[bytes, str]:
    claims = [
        (author, name, claimed)
        for author, s in node_records(node).items()
        if isinstance(name := s.body.get("name"), str) and isinstance(claimed := s.body.get("named_at"), int)
    ]
    return display_names(claims)


def nodes(node: Node, *, everybody: bool = False) -> list[NodeInfo]:
    """Every node of the formation and what was revoked, ourselves first, then by name. `everybody`: clients and those who left too."""
    names, records = node_names(node), node_records(node)
    agents_of: dict[bytes, int] = {}
    for statement in node.replica.living("agent", now_ms=node.ports.clock.now_ms()):
        agents_of[statement.author] = agents_of.get(statement.author, 0) + 1
    infos = [
        _node_info(node, subject, node.trust.standing(subject), names, records.get(subject), agents_of.get(subject, 0))
        for subject in node.roster.subjects()
        if everybody or subject == node.key.public or _is_listed(node, subject)
    ]
    return sorted(infos, key=lambda info: (info.link != "self", info.name or "~", info.id))


def _is_listed(node: Node, subject: bytes) -> bool:
    standing = node.trust.standing(subject)
    return standing.state is not State.DEPARTED and node.roster.last_role(subject) is not Role.CLIENT


def path_of(link: Link, names: dict[bytes, str]) -> str:
    """How a link goes."""
    relay = relay_of(link.connection.path)
    if relay is not None:
        return f"via {names.get(relay, relay.hex()[:SHORT_CHARACTERS])}"
    return f"direct {link.connection.path}" if link.dialled else f"direct, from {link.connection.address}"


def _node_info(node: Node, subject: bytes, standing: Standing, names: dict[bytes, str], record: Statement | None, agents: int) -> NodeInfo:
    body = record.body if record is not None else {}
    runtimes, inventory = body.get("runtimes"), body.get("inventory")
    link = node.links.get(subject)
    error = node.keeper.last_error.get(subject)
    ours = subject == node.key.public
    down = error.message if error is not None and standing.belongs else "down"
    granted_by = "" if standing.grant is None else ("root" if standing.grant.issuer == node.formation else standing.grant.issuer.hex())
    role = standing.role or node.roster.last_role(subject)
    return NodeInfo(
        id=subject.hex(),
        name=names.get(subject, ""),
        role=role.value if role else "",
        state=standing.state.value,
        link="self" if ours else ("up" if link is not None else down),
        reachable=ours or link is not None,
        addresses=list(said_addresses(body)),
        version=str(body.get("version", "")),
        runtimes=[r for r in runtimes if isinstance(r, str)] if isinstance(runtimes, list) else [],
        inventory=inventory if isinstance(inventory, dict) else {},
        agents=agents,
        grant_expires_at=standing.expires_ms,
        granted_by=granted_by,
        clock_ahead_ms=link.peer.clock_ahead_ms if link is not None and link.peer is not None else 0,
        reason=standing.reason,
        path=path_of(link, names) if link is not None else "",
        reach=str(body.get("reach", "")),
        presence=state.value if (state := node.presence.state_of(subject)) is not None and standing.belongs else "",
    )


def node_named(node: Node, name: str) -> NodeInfo:
    """By shown name, id, or the start of an id. Raises Refused where there is none, or more than one."""
    infos = nodes(node, everybody=True)
    found = [info for info in infos if name in (info.name, info.id)]
    if not found and len(name) >= ID_PREFIX_MIN:
        found = [info for info in infos if info.id.startswith(name.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{name!r} is the start of {len(found)} ids", code=Code.CONFLICT, hint="give more characters of the id")
    known = ", ".join(info.name or info.id[:SHORT_CHARACTERS] for info in nodes(node))
    raise Refused(f"no node {name!r} is known; there are: {known}", code=Code.NOT_FOUND, hint="`skerry node list` shows them")


def directory(node: Node) -> list[bytes]:
    """What a client goes by, signed by those who said it: revocations, departures, and the grants and node records of our nodes."""
    now_ms = node.ports.clock.now_ms()
    records = [s.signed for kind in ("revocation", "departure") for s in node.replica.living(kind, now_ms=now_ms)]
    for subject, statement in node_records(node).items():
        grant = node.trust.standing(subject).grant
        if grant is not None and grant.role is not Role.CLIENT:
            records += [grant.statement.signed, statement.signed]
    return records


def status(node: Node) -> StatusReply:
    own = node.trust.own()
    listed = nodes(node)
    return StatusReply(
        id=node.key.public.hex(),
        name=node.settings.name,
        formation=node.formation.hex(),
        role=own.role.value if own.role else "",
        state=own.state.value,
        listen=", ".join(node.listening),
        socket=node.settings.socket or "",
        http=node.http,
        version=node.settings.version,
        pid=os.getpid(),
        started_at=node.started_ms,
        grant_expires_at=own.expires_ms,
        nodes=listed,
        agents_local=len(node.host.all()),
        agents_known=sum(info.agents for info in listed),
        capabilities=list(dict.fromkeys(info.capability for info in capabilities(node, "*"))),
        connections=len(node.links.all()),
        dht=node.explorer.dht_address,
        circles=node.circles.router.stats(now_ms=node.ports.clock.now_ms()),
        routing=router_stats(node),
        warnings=[*node.warnings.values(), *_peers_say(node)],
    )


def _peers_say(node: Node) -> list[str]:
    """What those who refuse us give as their reason, where it is about us."""
    names = node_names(node)
    said = []
    for peer, error in sorted(node.keeper.last_error.items()):
        if error.code in (Code.TWIN, Code.REVOKED) and node.links.get(peer) is None:
            said.append(f"{names.get(peer, peer.hex()[:SHORT_CHARACTERS])} refuses this node: {error.message}; {error.hint}")
    return said


def formation(node: Node) -> FormationInfo:
    own = node.trust.own()
    everybody = node.roster.subjects()
    clients = [s for s in everybody if node.roster.last_role(s) is Role.CLIENT]
    subjects = [s for s in everybody if s not in set(clients)]
    standings = {subject: node.trust.standing(subject) for subject in subjects}
    return FormationInfo(
        id=node.formation.hex(),
        founder_home=node.trust.holds_root,
        operators=[s.hex() for s in subjects if standings[s].role is Role.OPERATOR and standings[s].belongs],
        nodes=sum(standing.belongs for standing in standings.values()),
        agents=len(agents(node)),
        revoked=[s.hex() for s in subjects if standings[s].state is State.REVOKED],
        own_role=own.role.value if own.role else "",
        own_state=own.state.value,
        own_expires_at=own.expires_ms,
        clients=sum(node.trust.standing(client).belongs for client in clients),
    )


# --- agents -----------------------------------------------------------------------------------------------------------------------


def own_agent(node: Node, resident: Resident) -> AgentInfo:
    spec = resident.spec
    card = node.advertiser.card_said(spec.id)
    return AgentInfo(
        id=spec.id,
        name=spec.name,
        node=node.key.public.hex(),
        node_name=node_names(node).get(node.key.public, node.settings.name),
        runtime=spec.runtime,
        status=resident.status.value,
        capabilities=[offer.capability for offer in resident.offers],
        offers=list(resident.offers),
        detail=resident.detail,
        local=True,
        restarts=max(resident.restarts, 0),
        pid=resident.pid,
        sandbox=resident.sandboxed,
        created_at=spec.created_at,
        share=node.sharing.names(spec),
        updated_at=card.updated_at if card is not None else spec.created_at,
        version=card.version if card is not None else "",
        description=card.description if card is not None else "",
        skills=list(card.skills) if card is not None else [],
        tags=list(card.tags) if card is not None else [spec.runtime],
        endpoint=card.endpoint if card is not None else "",
        hears=resident.hears,
    )


def agents(node: Node, query: AgentQuery = _EVERYTHING) -> list[AgentInfo]:
    """Our own as they are, those of others as their records say; by node, then name. Raises UsageError for a query that is none."""
    wanted = wanted_of(query)
    names = node_names(node)
    infos = [own_agent(node, resident) for resident in node.host.all()]
    now_ms = node.ports.clock.now_ms()
    offering = node.advertiser.offers.find(query.capability, now_ms=now_ms) if query.capability else None
    for statement in offering if offering is not None else node.replica.living("agent", now_ms=now_ms):
        if statement.author == node.key.public or not node.trust.standing(statement.author).belongs:
            continue
        try:
            card, stands = read_agent(statement)
        except SkerryError:
            continue
        if card is None:
            continue
        name = names.get(statement.author, statement.author.hex()[:SHORT_CHARACTERS])
        infos.append(carded(statement, card, stands, node_name=name, reachable=node.links.get(statement.author) is not None))
    found = [info for info in infos if wanted.found_in(info)]
    return sorted(found, key=lambda info: (info.node_name, info.name, info.id))


def elsewhere(node: Node, name: str) -> str:
    """What to do about an agent of that name that other nodes of ours host; "" where none does."""
    found = sorted({i.node_name for i in agents(node) if not i.local and name in (i.name, i.id, f"{i.node_name}/{i.name}")})
    return f"there is one on {' and on '.join(found)}: --node {found[0]}" if found else ""


def carded(
    statement: Statement, card: AgentCard, stands: Status, *, node_name: str, reachable: bool, contact: str = "", is_foreign: bool = False
) -> AgentInfo:
    """An agent as its record says it is. `is_foreign`: it is another formation's; `contact`: of which contact, where it is one's."""
    return AgentInfo(
        id=card.id,
        name=card.name,
        node=statement.author.hex(),
        node_name=node_name,
        runtime=card.tags[0] if card.tags else "",
        status=stands.value,
        capabilities=list(card.capabilities),
        offers=[
            Offer(o.capability, o.idempotent, o.streams, o.description, o.payload, o.result, o.example, o.attributes) for o in card.offers
        ],
        reachable=reachable,
        created_at=card.created_at,
        updated_at=card.updated_at,
        version=card.version,
        description=card.description,
        skills=list(card.skills),
        tags=list(card.tags),
        endpoint=card.endpoint,
        contact=contact,
        formation=statement.formation.hex() if is_foreign else "",
        hears=hears if isinstance(hears := statement.body.get("hears"), bool) else None,
    )


def with_letters(node: Node, infos: list[AgentInfo]) -> list[AgentInfo]:
    """With the letters for them that this node knows of."""
    waiting, aside = node.mail.counts()
    return [
        replace(i, letters_waiting=waiting.get(i.id, 0), letters_aside=aside.get(i.id, 0)) if i.id in waiting or i.id in aside else i
        for i in infos
    ]


def wanted_of(query: AgentQuery) -> Wanted:
    """Raises UsageError for a query that is none."""
    wanted = Wanted(check_query(query.capability) if query.capability else "", query.skill, query.tag, query.words)
    wanted.check()
    return wanted


def agent_named(node: Node, name: str) -> AgentInfo:
    """By `[node/]name` or id. Raises Refused where there is none, or more than one."""
    infos = agents(node)
    found = [info for info in infos if name in (info.id, info.name, f"{info.node_name}/{info.name}")]
    if not found:
        found = [info for info in node.foreign_agents.infos() if name in (info.id, f"{info.contact}/{info.name}")]
    if not found:
        found = [
            info for info in node.foreign_agents.public_infos() if name in (info.id, f"{info.formation[:SHORT_CHARACTERS]}/{info.name}")
        ]
    local = [info for info in found if info.local]
    if len(found) == 1 or len(local) == 1:
        return (local or found)[0]
    if found:
        places = ", ".join(f"{info.node_name}/{info.name}" for info in found)
        raise Refused(f"{name!r} is the name of several agents: {places}", code=Code.CONFLICT, hint="name the node too: NODE/AGENT")
    known = ", ".join(f"{info.node_name}/{info.name}" for info in infos) or "none"
    raise Refused(f"no agent {name!r} is known; there are: {known}", code=Code.UNKNOWN_AGENT, hint="`skerry agent list` shows them")


def capabilities(node: Node, query: str, where: Where = ()) -> list[CapabilityInfo]:
    """Who offers what answers a query. Raises Refused(unknown_capability) where a name that is no pattern is offered by nobody."""
    names = node_names(node)
    infos = []
    now_s, now_ms = asyncio.get_running_loop().time(), node.ports.clock.now_ms()
    scores = node.dispatcher.reputation
    for option in node.catalogue.options(check_query(query), where):
        candidate, latency_s = option.candidate, option.latency.value_s
        if not node.trust.standing(candidate.node).belongs:
            continue
        infos.append(
            CapabilityInfo(
                capability=candidate.capability,
                agent=candidate.name,
                agent_id=candidate.agent,
                node=candidate.node.hex(),
                node_name=names.get(candidate.node, candidate.node.hex()[:SHORT_CHARACTERS]),
                reachable=candidate.node == node.key.public or node.links.get(candidate.node) is not None,
                idempotent=candidate.idempotent,
                streams=candidate.streams,
                description=candidate.description,
                latency_ms=round(latency_s * 1000, 3) if latency_s is not None else None,
                payload=candidate.payload,
                result=candidate.result,
                example=candidate.example,
                attributes=candidate.attributes,
                load=resident.load if (resident := _here(node, candidate)) is not None else option.provider.load(now_s),
                reputation=round(scores.score(option.provider.subject, now_ms=now_ms), 4),
                blacklisted=scores.is_blacklisted(option.provider.subject, now_ms=now_ms),
            )
        )
    if not infos and not query.endswith("*") and not where:
        raise node.dispatcher.nobody.unknown(query)
    return infos


def _here(node: Node, candidate: Candidate) -> Resident | None:
    return node.host.get(candidate.agent) if candidate.node == node.key.public else None


def log_tail(path: Path | None, *, lines: int, most: int, cursor: str = "") -> tuple[str, str]:
    """The last lines of a log, or the whole lines that came after a cursor; and the next cursor. `most`: bytes at most."""
    if path is None:
        return "", ""
    if cursor:
        return lines_after(path, cursor, size_bytes_max=most)
    end = end_of(path)  # first: what is written meanwhile is shown twice rather than not at all
    return last_lines(path, lines=lines, size_bytes_max=most), end
