"""Where a public listener is: `NODEID@host:port`, or an `https://` URL with or without `NODEID@`; `http://` on loopback alone.

The id is what a node is told by: with it TLS is pinned and requests are signed; without it a place can only give records, which are signed
by others.

The rule: a place is checked where it enters (setting, peer list, contact), and a refusal names the part that is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.channel.address import PORT_DIGITS_MAX, PORT_MAX, parse_host_port
from skerry.channel.reachable import is_loopback
from skerry.errors import SkerryError, UsageError
from skerry.identity.hostnames import can_be_resolved, is_ipv6
from skerry.identity.keys import parse_id

TEXT_CHARACTERS_MAX = 400  # a contact's longest address, and the node's id before it
HTTPS_PORT = 443
PUBLIC_PORT = 7422  # of a public listener where nobody says another
HTTP_PORT = 80
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")
_PATH_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/")
_PUBLIC_FORMS = "write HOST:PORT or https://HOST:PORT; http:// is for loopback alone"
_FORMS = "write NODEID@HOST:PORT or https://HOST[:PORT][/PATH]; http:// is for loopback alone"


@dataclass(frozen=True, slots=True)
class Place:
    """A public listener. `node`: the id expected there, empty where nobody said; `path` has no slash at its end.

    either   no scheme was written, and the host is this machine: TLS or none, whichever it speaks
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    node: bytes = b""
    either: bool = False

    @property
    def authority(self) -> str:
        """As the `Host` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = HTTPS_PORT if self.scheme == "https" else HTTP_PORT
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def __str__(self) -> str:
        if self.node and self.scheme == "https" and not self.path:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"{self.node.hex()}@{host}:{self.port}"
        return f"{self.scheme}://{self.node.hex()}@{self.authority}{self.path}" if self.node else self.url


def read_place(text: str) -> Place:
    """The place in a text. Raises UsageError that names the part that is wrong."""
    if not isinstance(text, str):
        raise UsageError(f"seeds: {text!r:.80} is no text", hint=_FORMS)
    if len(text) > TEXT_CHARACTERS_MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise _wrong(text, f"up to {TEXT_CHARACTERS_MAX} plain characters are wanted")
    before, at, after = text.partition("@")
    node, rest = ("", text) if not at else (before, after)
    if "://" in node:  # https://NODEID@HOST
        scheme, _, node = node.partition("://")
        rest = f"{scheme}://{rest}"
    identity = b""
    if at:
        try:
            identity = parse_id(node)
        except SkerryError as error:
            raise _wrong(text, f"its id: {error.message}") from None
    scheme, separator, authority = rest.partition("://")
    if not separator:
        if not identity:
            raise _wrong(text, "it has no scheme and no id")
        scheme, authority = "https", rest
    if scheme not in ("https", "http"):
        raise _wrong(text, f"its scheme {scheme[:20]!r} is unknown")
    authority, slash, path = authority.partition("/")
    host, port = _host_port(text, authority, scheme if separator else "")
    if scheme == "http" and not (is_loopback(host) or host == "localhost"):
        raise _wrong(text, "http:// crosses the network in clear")
    path = f"/{path}".rstrip("/") if slash else ""
    if not set(path) <= _PATH_CHARACTERS or "//" in path or "/../" in f"{path}/" or "/./" in f"{path}/":
        raise _wrong(text, "its path: plain letters and digits are wanted, and no query")
    either = not separator and (is_loopback(host) or host == "localhost")
    return Place(scheme, host, port, path, identity, either)


def read_public(text: str) -> str:
    """`HOST:PORT`, or a URL of it, as a URL: https, or http where the host is this machine and nobody said otherwise. "" for none."""
    if not text:
        return ""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    if scheme not in ("", "http", "https"):
        raise UsageError(f"{text[:80]!r} has an unknown scheme", hint=_PUBLIC_FORMS)
    address = parse_host_port(rest.rstrip("/"), default_port=PUBLIC_PORT)
    here = is_loopback(address.host) or address.host == "localhost"
    if scheme == "http" and not here:
        raise UsageError(f"{text[:80]!r} would cross the network in clear", hint=_PUBLIC_FORMS)
    return f"{scheme or ('http' if here else 'https')}://{address.host_port}"


def _host_port(text: str, authority: str, scheme: str) -> tuple[str, int]:
    if authority.startswith("["):
        host, bracket, tail = authority[1:].partition("]")
        if not bracket or not is_ipv6(host) or (tail and not tail.startswith(":")):
            raise _wrong(text, "its host: an IPv6 address in brackets is wanted")
        port_text = tail[1:]
    else:
        host, _, port_text = authority.partition(":")
        host = host.lower()
        if not set(host) <= _HOST_CHARACTERS or not can_be_resolved(host) or host[0] in ".-":
            raise _wrong(text, "its host: a name or an address is wanted")
    if not port_text and scheme:
        return host, HTTPS_PORT if scheme == "https" else HTTP_PORT
    if not port_text.isdigit() or len(port_text) > PORT_DIGITS_MAX or not 0 < int(port_text) <= PORT_MAX:
        raise _wrong(text, f"its port: 1 to {PORT_MAX} is wanted")
    return host, int(port_text)


def _wrong(text: str, what: str) -> UsageError:
    return UsageError(f"{text[:100]!r} is no place of a public listener: {what}", hint=_FORMS)
