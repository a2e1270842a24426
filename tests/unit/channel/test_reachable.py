"""Which addresses are dialled because a stranger named them. Nothing is dialled here."""

from __future__ import annotations

import ipaddress

import pytest

from skerry.channel.reachable import _NAMED, check_port, is_loopback, read_networks, to_dial, why_not
from skerry.errors import Refused, UsageError

# Written as numbers: no test names an address beyond loopback.
PUBLIC = str(ipaddress.IPv4Address(0x08080404))
PUBLIC_6 = str(ipaddress.IPv6Address(0x2A00 << 112 | 1))
PRIVATE = str(ipaddress.IPv4Address(0x0A000001))
SHARED = str(ipaddress.IPv4Address(0x64400001))
METADATA = str(ipaddress.IPv4Address(0xA9FEA9FE))  # where clouds keep secrets
LINK_LOCAL_6 = str(ipaddress.IPv6Address(0xFE80 << 112 | 1))
UNIQUE_LOCAL = str(ipaddress.IPv6Address(0xFD00 << 112 | 1))


def mapped(address: str) -> str:
    return f"::ffff:{address}"


@pytest.mark.parametrize("address", [PUBLIC, PUBLIC_6, mapped(PUBLIC)])
def test_public_addresses_are_dialled(address: str) -> None:
    assert why_not(address) == ""
    assert to_dial("somewhere", [address]) == [address]


@pytest.mark.parametrize(
    ("address", "because"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "this network"),
        ("::", "not public"),
        (PRIVATE, "private"),
        (SHARED, "CGNAT"),
        (METADATA, "link-local"),
        (LINK_LOCAL_6, "link-local"),
        (f"{LINK_LOCAL_6}%eth0", "one link"),
        (UNIQUE_LOCAL, "unique-local"),
        ("localhost", "no address"),
        ("0x7f.1", "no address"),
        ("2130706433", "no address"),
        ("127.1", "no address"),
    ],
)
def test_others_are_not(address: str, because: str) -> None:
    assert because in why_not(address)
    with pytest.raises(Refused, match="not dialled for a stranger"):
        to_dial("somewhere", [address])


@pytest.mark.parametrize("address", ["127.0.0.1", PRIVATE, SHARED, METADATA])
def test_an_address_inside_an_ipv6_one_is_judged_as_what_it_is(address: str) -> None:
    number = int(ipaddress.IPv4Address(address))
    assert why_not(mapped(address)) == why_not(address) != ""
    for form in (0x2002 << 112 | number << 80, 0x64FF9B << 96 | number, 0x2001 << 112 | number ^ 0xFFFFFFFF, number):
        assert why_not(str(ipaddress.IPv6Address(form))), "6to4, NAT64, Teredo, v4-compatible"


def test_the_ends_of_every_special_network_are_in_it() -> None:
    for network, _ in _NAMED:
        assert why_not(str(network[0])), network
        assert why_not(str(network[-1])), network


def test_a_name_that_also_points_inside_is_refused_as_a_whole() -> None:
    with pytest.raises(Refused, match=PRIVATE):
        to_dial("two-faced", [PUBLIC, PRIVATE])
    with pytest.raises(Refused, match="no address"):
        to_dial("nowhere", [])


def test_settings_add_networks() -> None:
    also = read_networks("127.0.0.0/8, ::1/128")
    assert to_dial("here", ["127.0.0.1", "::1", "::ffff:127.0.0.9"], also=also) == ["127.0.0.1", "::1", "::ffff:127.0.0.9"]
    assert why_not(PRIVATE, also=also)
    assert read_networks("") == ()
    for text in ("127.0.0.1/8", "home", "127.0.0.0/8," * 65):
        with pytest.raises(UsageError, match="network"):
            read_networks(text)


def test_ports_of_other_services_are_left_alone() -> None:
    for port in (443, 1024, 7421, 65535):
        check_port(port)
    for port in (0, 22, 25, 80, 1023):
        with pytest.raises(Refused, match=str(port)):
            check_port(port)


def test_loopback_is_known() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]))
    assert not any(map(is_loopback, [PUBLIC, "0.0.0.0", "localhost", ""]))
