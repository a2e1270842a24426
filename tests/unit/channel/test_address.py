"""Addresses as text."""

from __future__ import annotations

import pytest

from skerry.channel.address import Address, parse_address, parse_host_port
from skerry.errors import Code, UsageError


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("tcp://127.0.0.1:7420", Address("tcp", "127.0.0.1", 7420), "tcp://127.0.0.1:7420"),
        ("localhost:0", Address("tcp", "localhost", 0), "tcp://localhost:0"),
        ("büro.example.:1", Address("tcp", "büro.example.", 1), "tcp://büro.example.:1"),
        ("tcp://[::1]:65535", Address("tcp", "::1", 65535), "tcp://[::1]:65535"),
        ("[::1%eth0]:1", Address("tcp", "::1%eth0", 1), "tcp://[::1%eth0]:1"),
        ("uds:///run/a b.sock", Address("uds", path="/run/a b.sock"), "uds:///run/a b.sock"),
    ],
)
def test_what_is_an_address(text: str, address: Address, written: str) -> None:
    assert parse_address(text) == address
    assert str(address) == written
    assert parse_address(written) == address


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "a", "a:", ":1", "a:b", "a:-1", "a:65536", "a:1:2", ":" + ":1:7420", "[::1]", "[::1", "[::1]7420", "[]:1", "a b:1",
        "a/b:1",
        "a:1 ", "a:\u0661", "a:" + "9" * 5000, "a\0b:1", "a\nb:1", "a]:1", "[[::1]:1", "tcp://", "uds://", "uds://rel", "uds:///a\0b",
        "a..b:1", ".:1", "a" * 64 + ":1", "a." * 127 + "a:1", "ä..b:1", "ä" * 64 + ":1",
        "http://a:1", "tcp:a:1", "://a:1", "via:" + "a" * 64,
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.code == Code.BAD_INPUT
    assert caught.value.hint


def test_a_default_port_is_for_hosts_alone() -> None:
    assert parse_host_port("a", default_port=7420).port == 7420
    assert parse_host_port("[::1]", default_port=7420) == Address("tcp", "::1", 7420)
    assert parse_host_port("a:1", default_port=7420).port == 1
    with pytest.raises(UsageError):
        parse_host_port("", default_port=7420)
