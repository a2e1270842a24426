"""Keeps tests on this machine: a packet that would leave loopback is refused, and its test fails.

An audit hook sees every connect, send, bind and name lookup of this process, whichever library asks. It can't be taken out again, so it
is put in once and the fixture in conftest.py reads what it found. Processes that a test starts are not watched.
"""

from __future__ import annotations

import ipaddress
import socket
import sys

WATCHED = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"})
LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})

_escapes: list[str] = []
_installed = False


class LeftLoopback(OSError):
    """Refused by the tests, not by the network."""


def install() -> None:
    """Watch this process from now on. Safe to call twice."""
    global _installed  # noqa: PLW0603 - one process, one hook
    if not _installed:
        _installed = True
        sys.addaudithook(_audit)


def take_escapes() -> list[str]:
    """What tried to leave since this was last asked."""
    found = _escapes.copy()
    _escapes.clear()
    return found


def _audit(event: str, args: tuple[object, ...]) -> None:
    if event in WATCHED:
        sock, address = args[0], args[1]
        # A tuple is an internet address; paths (UNIX) are str or bytes, and a connected socket's sendmsg has None.
        if isinstance(address, tuple) and getattr(sock, "family", None) in (socket.AF_INET, socket.AF_INET6):
            _check(event, address[0])
    elif event in LOOKUPS:
        _check(event, args[0])


def _check(event: str, host: object) -> None:
    if event == "socket.bind" and host in ("", "0.0.0.0", "::"):
        return
    if is_local(host) or (event in LOOKUPS and (host in (None, "", b"") or _is_literal(host))):
        return
    _escapes.append(f"{event} {host!r}")
    raise LeftLoopback(f"{event} to {host!r}: tests stay on loopback")


def is_local(host: object) -> bool:
    """Whether `host`, as a socket call takes it, is this machine's loopback."""
    text = _text(host)
    if text == "localhost":
        return True
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _is_literal(host: object) -> bool:
    """A literal address is parsed, not looked up: nothing is sent."""
    try:
        ipaddress.ip_address(_text(host))
    except ValueError:
        return False
    return True


def _text(host: object) -> str:
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    return text.partition("%")[0]  # fe80::1%eth0
