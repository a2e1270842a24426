"""What a node takes part in around it, by its settings: where its DHT is bound, on which networks it speaks mDNS, where others reach it.

The rule: a node that keeps to loopback sends no packet anywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

from skerry.channel.address import DHT_PORT, Address, parse_address, parse_host_port
from skerry.channel.reachable import IPNetwork, is_loopback, read_networks
from skerry.node.config import Config


def dht_place(config: Config) -> str:
    """Where the DHT is bound: with a node that keeps to loopback, or to Unix sockets, it does so too; "" where there is none."""
    if not config.dht:
        return ""
    place, here = parse_host_port(config.dht), Address("tcp", "127.0.0.1", 0)
    listen = next((one for one in sorted(tcp_places(config), key=lambda one: is_loopback(one.host))), here)
    if place.host != "0.0.0.0":
        return place.host_port
    return Address("tcp", listen.host, place.port if listen.port or place.port != DHT_PORT else 0).host_port


def met_dial(config: Config) -> tuple[IPNetwork, ...]:
    """Where those whom a node meets may send it, beside what the settings say: to loopback, where it keeps to loopback itself, its DHT too,
    and pulls from nobody. Then it meets this machine's programs alone, which can go there without it."""
    place = dht_place(config)
    bound = [one.host for one in (*tcp_places(config), *([parse_host_port(place)] if place else []))]
    return read_networks(_LOOPBACK) if all(map(is_loopback, bound)) and not config.seeds else ()


_LOOPBACK = "127.0.0.0/8, ::1/128"


def tcp_places(config: Config) -> list[Address]:
    """Where the node listens, its Unix sockets left out."""
    return [address for text in config.listen.split(",") if (address := parse_address(text)).scheme == "tcp"]


def lan_hosts(config: Config, addresses: Sequence[str]) -> list[str]:
    """On which of a node's addresses mDNS is spoken: none where its listener is on loopback, or where `discovery.mdns` says so."""
    hosts = [parse_address(text).host for text in addresses]
    return [host for host in hosts if config.discovery_mdns and ":" not in host and not is_loopback(host) and host[:1].isdigit()]


def advertised(address: str) -> list[str]:
    """The addresses under which others reach a bound one: the machine's own where it is bound to all of them."""
    bound = parse_address(address)
    if bound.host not in ("0.0.0.0", "::"):
        return [address]
    import ifaddr  # only here: it opens the system's list of interfaces

    found = [str(ip.ip if ip.is_IPv4 else ip.ip[0]) for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    usable = [ip for ip in found if not ip.startswith(("127.", "fe80:")) and ip != "::1" and (bound.host == "::" or ":" not in ip)]
    return [str(Address("tcp", ip, bound.port)) for ip in usable or ["127.0.0.1"]]
