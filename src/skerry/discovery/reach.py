"""Whether others can dial this node: asked of some of them, and judged here.

A node can't see its own NAT or firewall from inside. So it asks members to dial it (`reach.dial_back`), if it can one of each network
that it has links to: a neighbour behind the same NAT says yes where nobody else could.

    found by all that could say  ->  dialable
    not found by one of them     ->  outbound; where it was dialable before, only when it is so three times running

Who is outbound keeps links to two that relay, and still says where it listens: who can dial it does.

The rule: a node is dialled on somebody's word only where that somebody is: at the addresses of its own record, or where it comes from.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from skerry.channel.address import Address, parse_address
from skerry.errors import ProtocolError, UsageError
from skerry.identity.codec import decode
from skerry.identity.hostnames import can_be_resolved
from skerry.identity.keys import KEY_BYTES

ASKED_MAX = 3  # members in a round: each one dials, which costs both sides 2 ms
NETWORKS_MAX = 3  # that were asked; until then somebody of another one is asked as soon as it is there
ADDRESSES_MAX = 8  # dialled for one who asks: a machine with many interfaces has fewer
REASON_CHARACTERS_MAX = 200
DOUBTS_MAX = 3  # rounds running in which somebody did not find a dialable node, before it is outbound: on a busy machine dials are late
AGAIN_S = 600.0  # between two rounds where nothing changed: routers are set up anew now and then
DOUBT_S = 10.0  # after a round that raised a doubt
OUTBOUND_S = 20.0  # after the first round that found us outbound, then twice as long each time: it may have been a cut, and we could relay
V4_NETWORK_BITS = 16  # two addresses that agree so far stand behind one provider, as a rule
V6_NETWORK_BITS = 32


class Reach(StrEnum):
    """How others come to a node. "" of one that does not know yet, or is of an older release."""

    UNKNOWN = ""
    DIALABLE = "dialable"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`missed`: rounds running in which somebody did not find us, since we are held for what we are held for."""

    reach: Reach = Reach.UNKNOWN
    missed: int = 0

    @property
    def again_s(self) -> float:
        """Until it is asked again."""
        if self.reach is Reach.OUTBOUND:
            return float(min(OUTBOUND_S * 2 ** min(self.missed - 1, 10), AGAIN_S))
        return DOUBT_S if self.missed else AGAIN_S


def judged(before: Verdict, found: Sequence[bool]) -> Verdict:
    """What follows when some members dialled us; `found`: of each that could say whether it came through."""
    if not found:
        return before
    if all(found):
        return Verdict(Reach.DIALABLE)
    missed = before.missed + 1
    if before.reach is Reach.DIALABLE and missed >= DOUBTS_MAX:
        return Verdict(Reach.OUTBOUND, 1)
    return Verdict(before.reach or Reach.OUTBOUND, missed)


def read_kept(data: bytes) -> tuple[Verdict, tuple[bytes, ...], tuple[str, ...]]:
    """What a node kept of how it is reached: its relays, and the places where others found it. What can't be read is as if it had never
    been: it is found out again."""
    try:
        match decode(data):
            case [str(reach), [*relays], [*found]] if reach in tuple(Reach):
                ids = tuple(one for one in relays if isinstance(one, bytes) and len(one) == KEY_BYTES)
                texts = tuple(one for one in found if isinstance(one, str))
                return Verdict(Reach(reach), int(reach == Reach.OUTBOUND)), ids, texts
    except ProtocolError:
        pass
    return Verdict(), (), ()


def whom_to_ask(members: Sequence[tuple[bytes, str]], *, fraction: float, asked: Collection[str] = ()) -> list[bytes]:
    """Which of those that we have links to, given with the host that each comes from (or answers at): one of each network first, and those
    of networks that were `asked` before after the others."""
    start = int(fraction * len(members))
    turned = [*members[start:], *members[:start]]
    seen: set[str] = set()
    first: list[bytes] = []
    rest: list[bytes] = []
    for node, host in turned:
        network = network_of(host)
        (rest if network in seen else first).append(node)
        seen.add(network)
    hosts = dict(members)
    first.sort(key=lambda node: network_of(hosts[node]) in asked)
    return [*first, *rest][:ASKED_MAX]


def may_be_dialled(asked: Sequence[str], *, announced: Collection[str], host: str) -> list[str]:
    """Of the addresses that a node wants to be dialled at, those that it may name: its record's, and those of the host it comes from."""
    allowed = []
    for address in dict.fromkeys(asked):
        try:
            parsed = parse_address(address)
        except UsageError:
            continue
        if parsed.scheme == "tcp" and (address in announced or (host and parsed.host == host)):
            allowed.append(address)
    return allowed[:ADDRESSES_MAX]


def newly_found(answered: Collection[str], *, known: Collection[str], host: str, ports: Sequence[int]) -> list[str]:
    """Of the places where somebody says that it found us, those that we did not know: our ports, at the host that we seem to come from.
    It is that one's word, and goes into our record: what can be no place of ours for others is passed over."""
    if not _may_be_seen_at(host):
        return []
    places = (str(Address("tcp", host, port)) for port in ports)
    return [place for place in places if place in answered and place not in known]


def _may_be_seen_at(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and all(c.isalnum() or c in "-." for c in host) and can_be_resolved(host)
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local)


def why_missed(failed: Sequence[Sequence[str]]) -> str:
    """[address, reason] of those that somebody tried in vain, as text. Within bounds: it may say anything."""
    pairs = [pair for pair in failed[:ADDRESSES_MAX] if len(pair) == 2]
    said = "; ".join(": ".join(text[:REASON_CHARACTERS_MAX] for text in pair) for pair in pairs)
    return "".join(c for c in said if c.isprintable()) or "it has no address of this node"


def network_of(host: str) -> str:
    """The network that a host stands in, roughly; a name stands for itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = V4_NETWORK_BITS if address.version == 4 else V6_NETWORK_BITS
    return str(ipaddress.ip_network((int(address), bits), strict=False))
