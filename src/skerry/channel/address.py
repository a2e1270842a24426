"""Addresses as text: `tcp://host:port`, `uds:///path`; `via:<node id>` is reserved for nodes that only a relay can reach.

The rule: an address is checked where it enters (flag, ticket, record), with an error that shows what one looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.errors import UsageError
from skerry.identity.hostnames import can_be_resolved

MESH_PORT = 7420
HTTP_PORT = 7421
PORT_MAX = 65535
PORT_DIGITS_MAX = 5
_NOT_IN_HOSTS = frozenset("/[]")
_EXAMPLE = "write HOST:PORT, for example 127.0.0.1:7420 or [::1]:7420"


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen at or to dial. `host` and `port` for tcp, `path` for uds."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"uds://{self.path}" if self.scheme == "uds" else f"{self.scheme}://{self.host_port}"

    @property
    def host_port(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Raises UsageError that names the text and shows the form."""
    scheme, separator, rest = text.partition("://")
    if text.startswith("via:"):
        raise UsageError(f"the address {text!r} leads over a relay, which this version can't use yet", hint=_EXAMPLE)
    if not separator:
        return parse_host_port(text)
    if scheme == "tcp":
        return parse_host_port(rest)
    if scheme == "uds" and rest.startswith("/") and "\0" not in rest:
        return Address("uds", path=rest)
    raise UsageError(f"the address {text!r} has an unknown scheme or no path", hint="write tcp://HOST:PORT or uds:///PATH")


def parse_host_port(text: str, *, default_port: int | None = None) -> Address:
    """`host:port`, `[v6]:port`, or just a host where there is a default port."""
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        port_text = tail[1:] if tail.startswith(":") else ""
        well_formed = bool(bracket) and (not tail or tail.startswith(":"))
    else:
        host, _, port_text = text.partition(":")
        well_formed = ":" not in port_text
    if not port_text and default_port is not None:
        port_text = str(default_port)
    if not well_formed or not host.isprintable() or any(c.isspace() or c in _NOT_IN_HOSTS for c in host) or not can_be_resolved(host):
        raise UsageError(f"{text!r} is no address", hint=_EXAMPLE)
    digits = port_text.isascii() and port_text.isdigit() and len(port_text) <= PORT_DIGITS_MAX
    if not digits or int(port_text) > PORT_MAX:
        raise UsageError(f"the address {text!r} needs a port from 0 to {PORT_MAX}", hint=_EXAMPLE)
    return Address("tcp", host=host, port=int(port_text))
