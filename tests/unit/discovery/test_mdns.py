"""What is said on the local network, and what is heard of it. Nothing is sent here."""

from __future__ import annotations

import ipaddress

import pytest

from skerry.discovery.mdns import ADDRESSES_MAX, dht_entry, properties_of, read_service
from skerry.surroundings import LanPeer

HERE = str(ipaddress.IPv4Address(0x0A5D0009))
PEER = LanPeer(b"n" * 32, b"f" * 32, (("127.0.0.1", 7420),), 7422)


def said(**changed: str | None) -> dict[bytes, bytes | None]:
    fields = {key.encode(): value.encode() for key, value in properties_of(PEER).items()}
    return {**fields, **{key.encode(): value.encode() if value is not None else None for key, value in changed.items()}}


def test_the_fields_are_these_and_no_others() -> None:
    assert properties_of(PEER) == {"v": "1", "node": PEER.node.hex(), "formation": PEER.formation.hex(), "dht": "7422"}


def test_what_one_says_the_other_hears() -> None:
    assert read_service(said(), ["127.0.0.1"], 7420) == PEER


@pytest.mark.parametrize(
    "changed",
    [{"v": "2"}, {"node": "x"}, {"node": "00" * 32}, {"node": None}, {"formation": "ab"}, {"dht": "70000"}, {"dht": "many"}, {"dht": "-1"}],
)
def test_anything_else_is_not_heard(changed: dict[str, str | None]) -> None:
    assert read_service(said(**changed), ["127.0.0.1"], 7420) is None


def test_addresses_are_numbers_and_few() -> None:
    assert read_service(said(), ["example.org"], 7420) is None
    assert read_service(said(), [], 7420) is None
    assert read_service(said(), ["127.0.0.1"], None) is None
    many = read_service(said(), [f"127.0.0.{n}" for n in range(1, 20)], 7420)
    assert many is not None
    assert len(many.addresses) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("host", "entered"),
    [
        (0x0A5D0007, True),  # 10/8
        (0xC0A80007, True),  # 192.168/16
        (0xA9FE0107, True),  # link-local
        (0x7F000001, False),  # this machine's own
        (0xC6290004, False),  # somewhere in the world
        (0xE0000001, False),  # to many
        (0x00000000, False),
    ],
)
def test_the_dht_is_entered_at_addresses_of_the_local_network_alone(host: int, entered: bool) -> None:
    number = str(ipaddress.IPv4Address(host))
    peer = LanPeer(bytes(32), bytes(32), ((number, 7420),), 7422)
    assert dht_entry(peer) == (f"{number}:7422" if entered else "")
    assert dht_entry(LanPeer(bytes(32), bytes(32), ((number, 7420),))) == "", "it says that it has none"
    beside = LanPeer(bytes(32), bytes(32), ((number, 7420), (HERE, 7420)), 7422)
    assert dht_entry(beside) == f"{number if entered else HERE}:7422"
