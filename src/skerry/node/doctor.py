"""`skerry doctor`: looks at this node, or at the way to a peer, and ends with what to do.

The rule: every check says what it found; the first one that fails carries the advice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skerry.channel.address import parse_address, relay_of, via
from skerry.channel.messages import unpack_message
from skerry.channel.via import over_relay
from skerry.discovery.reach import Reach
from skerry.errors import Code, SkerryError
from skerry.identity.contacts import Contact
from skerry.identity.grants import TOLERANCE_MS, State
from skerry.identity.keys import short
from skerry.node import views
from skerry.node.verbs import Check, NodeInfo, PingReply

if TYPE_CHECKING:
    from skerry.node.node import Node

DIAL_TIMEOUT_S = 4.0


async def examine(node: Node, peer: str) -> list[Check]:
    """The checks for a peer (name, id or address), or for this node where `peer` is empty."""
    if not peer:
        return _self(node)
    if "://" in peer or ":" in peer:
        return await _address(node, str(parse_address(peer)), None)
    info = views.node_named(node, peer)
    return await _peer(node, info)


def _self(node: Node) -> list[Check]:
    own = node.trust.own()
    days = (own.expires_ms - node.ports.clock.now_ms()) / 86_400_000
    checks = [
        Check("identity", True, f"this node is {node.key.public.hex()}"),
        Check("address", bool(node.listening), f"listening at {', '.join(node.listening) or 'nothing'}", "give --listen HOST:PORT"),
        Check(
            "grant",
            own.state is State.VALID,
            f"{own.role.value if own.role else 'none'}, {own.state.value}"
            + (f", {days:.0f} days left" if own.belongs else f": {own.reason}"),
            _grant_advice(own.state),
        ),
        _reach(node),
        Check("disk", "disk" not in node.warnings, node.warnings.get("disk", "records are written"), "free some space"),
    ]
    ahead = [link.peer.clock_ahead_ms for link in node.links.nodes() if link.peer is not None]
    worst = max(ahead, key=abs, default=None)
    if worst is not None:
        checks.append(Check("clock", abs(worst) <= TOLERANCE_MS, f"at most {worst / 1000:+.1f} s from a peer's", "set the clocks (NTP)"))
    for info in views.nodes(node):
        if info.link != "self" and info.state in (State.VALID, State.LAPSED):
            name = info.name or info.id[:10]
            checks.append(Check(f"node {name}", info.reachable, info.link, f"skerry doctor {name}"))
    return checks


def _reach(node: Node) -> Check:
    """Whether others can come to us, and over whom."""
    reaching, names = node.reaching, views.node_names(node)
    said = "; ".join(f"{names.get(asked, short(asked))} says: {reason}" for asked, reason in reaching.reasons.items())
    unsaid = "no member is there that could try" if node.listening else "it listens nowhere"
    if reaching.verdict.reach is Reach.UNKNOWN:
        return Check("reach", None, "whether others can dial this node is not known: nobody could be asked yet")
    if reaching.verdict.reach is Reach.DIALABLE:
        return Check("reach", True, "others can dial this node")
    over = " or ".join(names.get(relay, short(relay)) for relay in reaching.relays)
    return Check(
        "reach",
        bool(over),
        f"nobody can dial this node ({said or unsaid}); it is reached via {over or 'nobody'}",
        "forward its port on the router, or start another node that can be dialled",
    )


async def _peer(node: Node, info: NodeInfo) -> list[Check]:
    checks = [Check("name", True, f"{info.name or 'without a name'} is {info.id}")]
    if info.link == "self":
        return checks + _self(node)
    good = info.state in (State.VALID, State.LAPSED)
    checks.append(Check("grant", good, f"{info.role}, {info.state}" + (f": {info.reason}" if info.reason else ""), "ask an operator"))
    if not info.addresses:
        return [*checks, Check("address", False, "no address of this node is known", "start it, so that it says where it is")]
    if node.links.get(bytes.fromhex(info.id)) is not None:
        checks.append(Check("link", True, f"up, {info.path}"))
    return [*checks, *await _ways(node, info)]


async def _ways(node: Node, info: NodeInfo) -> list[Check]:
    """The first way that goes, straight ones before those over a relay; and why it is not a better one."""
    expected, names = bytes.fromhex(info.id), views.node_names(node)
    straight: list[Check] = []  # what stands in the way of each
    for address in info.addresses:
        if relay_of(address) is None:
            found = await _address(node, address, expected)
            if all(check.ok for check in found):
                return [*found, Check("path", True, f"direct {address}")]
            straight += [check for check in found if not check.ok]
    why_not = "; ".join(check.detail for check in straight)
    over: dict[str, Check] = {}
    for relay in filter(None, map(relay_of, info.addresses)):
        name = names.get(relay, short(relay))
        found = await _address(node, via(relay), expected)
        if all(check.ok for check in found):
            return [*found, Check("path", True, f"via {name}, not direct: {why_not}")]
        failed = next(check for check in found if not check.ok)
        over[name] = replace(failed, detail=f"over {name}: {failed.detail.removeprefix(f'{via(relay)}: ').removeprefix(over_relay(relay))}")
    if info.path.startswith("direct"):  # it came to us; where it stands nobody can dial it
        return [Check("path", True, f"{info.path}; it can't be dialled: {why_not}")]
    if info.reach != Reach.OUTBOUND:
        return [*straight, *over.values()]
    who, relays = info.name or short(expected), " or ".join(over)
    none = f"nothing comes through over {relays}: {'; '.join(c.detail for c in over.values())}" if over else "no member relays for it"
    advice = f"start {f'{relays}, or ' if over else ''}another node that can be dialled, or forward the port of {who} on its router"
    unknown = [replace(check, ok=None) for check in straight]  # nothing that went wrong: it said that nobody can dial it
    return [*unknown, Check("path", False, f"{who} can't be dialled, and {none}", advice)]


async def examine_contact(node: Node, name: str) -> list[Check]:
    """The checks for one contact's entry: what is wrong with the file, each address of the entry, who answers there."""
    checks = [Check("contacts.toml", not node.contacts.problem, node.contacts.problem or "is taken as it is", "correct the line it names")]
    contact = node.contacts.named(name)
    if contact.inproc:
        return [*checks, Check("address", True, "inproc: this very node answers for it")]
    may = ", ".join(contact.allow.texts()) or "nothing"
    checks.append(Check("entry", True, f"{contact.name} is {contact.id.hex()}; it may here: {may}"))
    dialled = contact.dialled()
    if not dialled and not contact.urls():
        advice = f"skerry contact add {name} tcp://HOST:PORT"
        checks.append(Check("address", False, "it has no address here: it has to dial us", advice))
    checks += [Check("address", None, f"{url}: for records only; `skerry contact show` says how it stands") for url in contact.urls()]
    for expected, address in dialled:
        found = await _address(node, address, expected)
        checks += found
        if all(check.ok for check in found):
            checks.append(await _who_answers(node, contact, address))
            break
    return checks


async def _who_answers(node: Node, contact: Contact, address: str) -> Check:
    try:
        link = await node.envoy.link_to(contact, DIAL_TIMEOUT_S)
    except SkerryError as error:
        advice = error.hint or "check its formation id, and that it has us as a contact"
        return Check("contact", False, f"{address}: {error.message}", advice)
    try:
        await node.envoy.greet(link)
    except SkerryError as error:
        if error.code != Code.NOT_GRANTED:
            return Check("contact", False, f"{short(link.id)} belongs to it, but does not answer: {error.message}", error.hint)
        advice = f"ask its owner to add us: skerry contact invite, there, then here: skerry contact accept TICKET --name {contact.name}"
        return Check("contact", False, f"{short(link.id)} belongs to it, but there this formation is no contact (any more)", advice)
    return Check("contact", True, f"linked with {short(link.id)}, which belongs to it")


async def _address(node: Node, address: str, expected: bytes | None) -> list[Check]:
    """Dial it as a node would, on a connection of its own, and say how far that went."""
    try:
        link = await node.links.probe(address, expected=expected, timeout_s=DIAL_TIMEOUT_S)
    except SkerryError as error:
        said = error.message if error.message.startswith(address) else f"{address}: {error.message}"
        return [Check(_stage(error), False, said, error.hint)]
    assert link.peer is not None
    try:
        reply = unpack_message(PingReply, await link.call("ping", b"\xa0", timeout_s=DIAL_TIMEOUT_S))
        ahead_ms = link.peer.clock_ahead_ms
        return [
            Check("address", True, f"{address} answers"),
            Check("tls", True, "TLS 1.3, and the key is the one that was expected" if expected else f"the key is {short(link.peer.id)}"),
            Check("identity", reply.node == link.peer.id.hex(), f"proved: {reply.node}"),
            Check("clock", abs(ahead_ms) <= TOLERANCE_MS, f"{ahead_ms / 1000:+.1f} s from ours", "set both clocks (NTP)"),
        ]
    except SkerryError as error:
        return [Check("call", False, f"{address} is open, but a ping failed: {error.message}", error.hint)]
    finally:
        link.close(SkerryError("the examination is over", code=Code.CANCELLED))


def _grant_advice(state: State) -> str:
    if state in (State.VALID, State.LAPSED):
        return "start an operator's node, so that the grant is renewed"
    if state is State.CLOCK_OFF:
        return "set this machine's clock (NTP)"
    if state is State.REVOKED:
        return "join with a new home and a new ticket: a revocation is final for this node's key"
    return "come back with a new ticket: `skerry join TICKET`"


def _stage(error: SkerryError) -> str:
    text = error.message
    if error.code == Code.WRONG_IDENTITY:
        return "identity"
    if error.code in (Code.REVOKED, Code.NOT_GRANTED, Code.GRANT_EXPIRED):
        return "grant"
    if error.code == Code.CLOCK_OFF:
        return "clock"
    if "TLS" in text:
        return "tls"
    return "name" if "resolved" in text else "address"
