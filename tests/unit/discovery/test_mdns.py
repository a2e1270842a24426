"""What is said on the local network, and what is heard of it. Nothing is sent here."""

from __future__ import annotations

import pytest

from skerry.discovery.mdns import ADDRESSES_MAX, properties_of, read_service
from skerry.surroundings import LanPeer

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
