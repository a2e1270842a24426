"""What the library is told before its session begins; what a DHT does then is in tests/contract/test_dht.py."""

from __future__ import annotations

import pytest

from skerry.channel.address import parse_host_port
from skerry.discovery.dht import settings_of

ELSEWHERE = ("enable_lsd", "enable_upnp", "enable_natpmp")
CONNECTIONS = ("enable_incoming_tcp", "enable_outgoing_tcp", "enable_incoming_utp", "enable_outgoing_utp")
LOOPBACK_ALONE = ("dht_restrict_routing_ips", "dht_restrict_search_ips", "dht_enforce_node_id", "dht_ignore_dark_internet")


@pytest.mark.parametrize(
    ("bootstrap", "said"), [((), ""), (("127.0.0.1:1",), "127.0.0.1:1"), (("127.0.0.1:1", "a.example:2"), "127.0.0.1:1,a.example:2")]
)
@pytest.mark.parametrize("place", ["127.0.0.1:0", "0.0.0.0:7422"])
def test_it_enters_where_it_was_told_and_nowhere_else(place: str, bootstrap: tuple[str, ...], said: str) -> None:
    settings = settings_of(parse_host_port(place), bootstrap=bootstrap, rate_bytes=1000)
    assert settings["dht_bootstrap_nodes"] == said, "always named: the default is the public one"
    assert all(settings[name] is False for name in (*ELSEWHERE, *CONNECTIONS))
    assert settings["listen_interfaces"] == place
    assert settings["dht_upload_rate_limit"] == 1000


def test_what_protects_against_one_networks_many_nodes_is_off_on_loopback_alone() -> None:
    here, abroad = (settings_of(parse_host_port(place), bootstrap=(), rate_bytes=1) for place in ("127.0.0.1:0", "0.0.0.0:7422"))
    assert all(here[name] is False for name in LOOPBACK_ALONE)
    assert not set(LOOPBACK_ALONE) & set(abroad)
