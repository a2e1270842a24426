"""What a node takes part in around it: nothing beyond loopback where it keeps to loopback, and nothing that its settings stop."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from skerry.cli.around import advertised, dht_place, lan_hosts, met_dial
from skerry.node.config import Config, choose, config_of

HERE = str(ipaddress.IPv4Address((10 << 24) | (93 << 16) | 7))


def config(folder: Path, **flags: object) -> Config:
    return config_of(choose(folder, flags=flags, environment={}))


@pytest.mark.parametrize(
    ("addresses", "hosts"),
    [
        ([f"tcp://{HERE}:7420"], [HERE]),
        (["tcp://127.0.0.1:7420"], []),
        (["tcp://127.9.9.9:7420"], []),
        (["tcp://[::1]:7420"], []),
        (["tcp://localhost:7420"], []),
        ([f"tcp://{HERE}:7420", "tcp://127.0.0.1:7420"], [HERE]),
    ],
)
def test_mdns_is_spoken_unless_the_listener_is_on_loopback(tmp_path: Path, addresses: list[str], hosts: list[str]) -> None:
    assert lan_hosts(config(tmp_path), addresses) == hosts


def test_the_setting_stops_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[discovery]\nmdns = false\n")
    assert lan_hosts(config(tmp_path), [f"tcp://{HERE}:7420"]) == []
    environment = {"SKERRY_DISCOVERY_MDNS": "false"}
    assert lan_hosts(config_of(choose(tmp_path / "other", flags={}, environment=environment)), [f"tcp://{HERE}:7420"]) == []


@pytest.mark.parametrize(
    ("listen", "dht", "place"),
    [
        ("0.0.0.0:7420", None, "0.0.0.0:7422"),
        ("127.0.0.1:7420", None, "127.0.0.1:7422"),
        ("127.0.0.1:0", None, "127.0.0.1:0"),
        ("127.0.0.1:0", "127.0.0.1:9000", "127.0.0.1:9000"),
        ("127.0.0.1:0", "off", ""),
        ("uds:///run/skerry.sock", None, "127.0.0.1:0"),
        ("127.0.0.1:0,0.0.0.0:7420,uds:///run/skerry.sock", None, "0.0.0.0:7422"),
    ],
)
def test_the_dht_keeps_to_loopback_with_its_node(tmp_path: Path, listen: str, dht: str | None, place: str) -> None:
    assert dht_place(config(tmp_path, listen=listen, dht=dht)) == place


@pytest.mark.parametrize(
    ("flags", "may"),
    [
        ({"listen": "127.0.0.1:0"}, True),
        ({"listen": "uds:///run/skerry.sock"}, True),
        ({"listen": "0.0.0.0:7420"}, False),
        ({"listen": "127.0.0.1:0,0.0.0.0:7420"}, False),
        ({"listen": "127.0.0.1:0", "dht": "0.0.0.0:7422"}, True),  # it goes with the listener
        ({"listen": "127.0.0.1:0", "dht": f"{HERE}:7422"}, False),
    ],
)
def test_only_who_keeps_to_loopback_is_sent_there_by_those_whom_it_meets(tmp_path: Path, flags: dict[str, str], may: bool) -> None:
    assert bool(met_dial(config(tmp_path, **flags))) is may


def test_who_pulls_from_elsewhere_is_not_sent_to_loopback(tmp_path: Path) -> None:
    environment = {"SKERRY_SEEDS": "https://skerry.example", "SKERRY_LISTEN": "127.0.0.1:0"}
    assert met_dial(config_of(choose(tmp_path, flags={}, environment=environment))) == ()


def test_a_node_says_the_address_that_it_was_given() -> None:
    assert advertised("tcp://127.0.0.1:7420") == ["tcp://127.0.0.1:7420"]
