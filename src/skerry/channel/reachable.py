"""Which addresses this node dials when a stranger names them: public ones, and those that the owner's settings add.

A peer list, an announcement or a card may name any address, also one inside our own network that only we can reach (a router, a cloud's
metadata service, this machine). So a name is resolved once, every address that it has is judged here, and the dial goes to the very
address that was judged; a name that also points inside is refused as a whole. What an IPv6 address hides (v4-mapped) is judged as what it
is; tunnels that carry an IPv4 address in an IPv6 one (6to4, Teredo, NAT64) are refused, since nobody serves there.

The rule: what is not known to be public is not. Decided here, without a socket; whoever dials asks first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from skerry.errors import Code, Refused, UsageError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
HTTPS_PORT = 443
PORT_MIN = 1024  # below it other services listen, which must not be talked to by somebody's order; 443 apart
NETWORKS_MAX = 64  # that settings may add

# IANA's special-purpose registries (RFC 6890 and what came after it): network -> what it is for
_V4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by carriers (CGNAT)",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "for protocols",
    "192.0.2.0/24": "for documentation",
    "192.88.99.0/24": "a relay of 6to4",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_V6_GLOBAL = ipaddress.IPv6Network("2000::/3")  # all that is given out to be reached from everywhere; what lies outside is refused
_V6 = {
    "::1/128": "loopback",
    "fe80::/10": "link-local",
    "fc00::/7": "unique-local",
    "ff00::/8": "multicast",
    "64:ff9b::/96": "a translation of IPv4 (NAT64)",
    "2001::/23": "for protocols (Teredo among them)",
    "2001:db8::/32": "for documentation",
    "2002::/16": "a tunnel of IPv4 (6to4)",
    "3fff::/20": "for documentation",
}
_NAMED: list[tuple[IPNetwork, str]] = [(ipaddress.ip_network(network), use) for network, use in {**_V4, **_V6}.items()]


def read_networks(text: str) -> tuple[IPNetwork, ...]:
    """`127.0.0.0/8, 10.1.0.0/16` as networks. Raises UsageError that names the one that is none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > NETWORKS_MAX:
        raise UsageError(f"{len(parts)} networks, where {NETWORKS_MAX} are possible", hint="name larger ones")
    networks = []
    for part in parts:
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise UsageError(f"{part[:80]!r} is no network: {error}", hint="write 10.1.0.0/16, several with commas between") from None
    return tuple(networks)


def why_not(address: str, *, also: Sequence[IPNetwork] = ()) -> str:
    """Why that address is not dialled for a stranger; "" where it is. `also`: networks that the settings add."""
    try:
        found: IPAddress = ipaddress.ip_address(address)
    except ValueError:
        return "it is no address"
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return "it is meant for one link"
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
    if any(found.version == network.version and found in network for network in also):
        return ""
    for network, use in _NAMED:
        if found.version == network.version and found in network:
            return f"it is {use}"
    if isinstance(found, ipaddress.IPv6Address) and found not in _V6_GLOBAL:
        return "it is not public"
    return ""


def is_loopback(address: str) -> bool:
    """Whether packets to that address stay on this machine."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def check_port(port: int) -> None:
    """Raises Refused for a port at which no node's public listener can be expected."""
    if port != HTTPS_PORT and port < PORT_MIN:
        raise Refused(
            f"port {port} is not dialled for a stranger", code=Code.NOT_GRANTED, hint=f"use {HTTPS_PORT}, or one from {PORT_MIN} on"
        )


def to_dial(host: str, addresses: Iterable[str], *, also: Sequence[IPNetwork] = ()) -> list[str]:
    """The addresses of a host that a stranger named, all of them judged. Raises Refused where one of them may not be dialled."""
    found = list(dict.fromkeys(addresses))
    for address in found:
        reason = why_not(address, also=also)
        if reason:
            raise Refused(
                f"{host[:100]} is {address}, which is not dialled for a stranger: {reason}",
                code=Code.NOT_GRANTED,
                hint="if it is a node of yours, name its network in the setting federation.also_dial",
            )
    if not found:
        raise Refused(f"{host[:100]} has no address", code=Code.NOT_FOUND)
    return found
