"""What a contact may make us dial."""

from __future__ import annotations

from skerry.identity.contacts import ADDRESSES_MAX
from skerry.node.meetings import _checked


def test_of_the_addresses_that_a_contact_gives_only_other_machines_ports_are_kept() -> None:
    good = f"tcp://{'ab' * 32}@127.0.0.1:7420"
    given = [good, "uds:///run/other.sock", "https://127.0.0.1:8443/admin", "http://127.0.0.1/", "nonsense", good]
    assert _checked(given) == (good,)
    assert len(_checked([f"tcp://127.0.0.1:{port}" for port in range(1, 100)])) == ADDRESSES_MAX
