"""The contact directory: other formations (or single nodes) that ours was told of, and what each may do here.

    [contacts]
    here = "inproc"
    bob = "tcp://NODEID@192.0.2.7:7420"
    next_door = "uds://NODEID@/run/skerry/theirs.sock"

    [contacts.carol]
    addresses = ["tcp://198.51.100.4:7420", "https://carol.example"]
    formation = "64 hex characters, or base64 with or without ed25519:"
    allow = ["federate", "call:inference:*", "rate:10", "concurrency:4"]

A contact is a formation or one node, never both. An address may say which node answers there (`NODEID@`): then the dialler checks that
before it says who it is. What a contact may do is its `allow` and nothing else: `federate` (have the records that are shared with it),
`relay` (have bytes forwarded between its own nodes, where nobody can dial them),
`call:PATTERN` (have tasks done by agents that are shared with it), `wire:AGENT`, `inject:AGENT`; `rate` is tasks a second, `concurrency`
tasks at once, at each node.

The rule: an entry that is wrong in any part is an error that names it, and gives nobody any right.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry.errors import UsageError
from skerry.identity.hostnames import can_be_resolved, is_ipv6
from skerry.identity.keys import KEY_BYTES, parse_public_key

FILE_NAME = "contacts.toml"
INPROC = "inproc"
CONTACTS_MAX = 256  # every node of a formation holds them all, and links to them
NAME_CHARACTERS_MAX = 64
ADDRESSES_MAX = 16
ADDRESS_CHARACTERS_MAX = 300
RIGHTS_MAX = 64
RIGHT_CHARACTERS_MAX = 200
FILE_BYTES_MAX = 1024 * 1024  # 256 contacts with all that they may have take less
FEDERATE = "federate"
RELAY = "relay"
NAMED_RIGHTS = ("call", "wire", "inject")  # those that say for what: `call:PATTERN`
AGENT_RIGHTS = ("wire", "inject")  # ... of which these name agents
RATE_PER_S = 20.0  # where an entry does not say: a person, or a program that is not in a hurry
RATE_PER_S_MAX = 100_000.0
CONCURRENCY = 8
CONCURRENCY_MAX = 2048  # what one peer may have under way at all
_FIELDS = {"addresses", "formation", "node", "allow", "rate", "concurrency"}
_TCP = re.compile(r"tcp://(?:(?P<node>[^@\s/]+)@)?(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s/:@\[\]]+):(?P<port>\d{1,5})", re.ASCII)
_UDS = re.compile(r"uds://(?:(?P<node>[^@\s/]+)@)?(?P<path>/[^\0\n]+)")
_HTTPS = re.compile(
    r"https://(?:(?P<node>[^@\s/]+)@)?(?P<place>(?P<host>\[[0-9A-Fa-f:.]+\]|\w[\w.-]*)(?::(?P<port>\d{1,5}))?(?:/(?!\.\.?(?:/|$))[\w.~-]+)*)/?",
    re.ASCII,
)
_SCHEMES = ("tcp", "uds", "https")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a contact may do here. `rights` in their text form, sorted; the two limits hold at each node of ours."""

    rights: tuple[str, ...] = ()
    rate_per_s: float = RATE_PER_S
    concurrency: int = CONCURRENCY

    def may(self, right: str, name: str = "") -> bool:
        """Whether `right` (`federate`, or with a name `call`, `wire`, `inject`) is given."""
        if not name:
            return right in self.rights
        return any(matches(given.partition(":")[2], name) for given in self.rights if given.startswith(f"{right}:"))

    def texts(self) -> list[str]:
        """As `allow` has it."""
        limits = [f"rate:{self.rate_per_s:g}"] if self.rate_per_s != RATE_PER_S else []
        limits += [f"concurrency:{self.concurrency}"] if self.concurrency != CONCURRENCY else []
        return [*self.rights, *limits]


@dataclass(frozen=True, slots=True)
class Contact:
    """One entry. `id`: the formation's, or the one node's where `is_node`; empty for what lives in this very formation (`inproc`)."""

    name: str
    id: bytes = b""
    is_node: bool = False
    addresses: tuple[str, ...] = ()
    allow: Allowance = field(default_factory=Allowance)

    @property
    def inproc(self) -> bool:
        return not self.id

    def dialled(self) -> list[tuple[bytes | None, str]]:
        """Where to dial: the node that has to answer (None: any of that formation), and the address without it."""
        found = []
        for address in self.addresses:
            match = _TCP.fullmatch(address) or _UDS.fullmatch(address)
            if match is not None:
                pinned = parse_public_key(match["node"]) if match["node"] else None
                place = f"uds://{match['path']}" if match.re is _UDS else f"tcp://{match['host']}:{match['port']}"
                found.append((self.id if self.is_node else pinned, place))
        return found

    def urls(self) -> list[str]:
        """Where its records are served by HTTPS, with the id of the node that has to answer where one is known."""
        found = []
        for address in self.addresses:
            match = _HTTPS.fullmatch(address)
            if match is not None:
                pinned = self.id if self.is_node else parse_public_key(match["node"]) if match["node"] else b""
                found.append(f"https://{pinned.hex()}@{match['place']}" if pinned else f"https://{match['place']}")
        return found


class ContactDirectory:
    """All contacts of one formation, by name. Raises UsageError where two of them can't stand beside each other."""

    def __init__(self, contacts: Iterable[Contact] = ()) -> None:
        self.contacts: dict[str, Contact] = {}
        self._by_id: dict[tuple[bool, bytes], Contact] = {}
        for contact in sorted(contacts, key=lambda one: one.name):
            twin = None if contact.inproc else self._by_id.get((contact.is_node, contact.id))
            if twin is not None or contact.name in self.contacts:
                other = twin.name if twin is not None else contact.name
                raise UsageError(f"the contacts {other!r} and {contact.name!r} are one and the same", hint="keep one of the two entries")
            self.contacts[contact.name] = contact
            if not contact.inproc:
                self._by_id[contact.is_node, contact.id] = contact
        if len(self.contacts) > CONTACTS_MAX:
            raise UsageError(f"{len(self.contacts)} contacts, where {CONTACTS_MAX} are possible", hint="remove some")

    def named(self, name: str) -> Contact | None:
        return self.contacts.get(name)

    def with_id(self, identity: bytes) -> Contact | None:
        """The contact whose id that is, a formation's or a node's."""
        return self._by_id.get((False, identity)) or self._by_id.get((True, identity))

    def of(self, *, node: bytes, formation: bytes) -> Contact | None:
        """Whose node that is: an entry for that very node counts before one for its formation."""
        return self._by_id.get((True, node)) or self._by_id.get((False, formation))

    def to_toml(self) -> str:
        """The file, in an order of its own."""
        plain = [contact for contact in self.contacts.values() if contact.inproc]
        tables = [contact for contact in self.contacts.values() if not contact.inproc]
        lines = [_HEADER, "[contacts]", *(f'{_key(contact.name)} = "{INPROC}"' for contact in plain)]
        for contact in tables:
            lines += ["", f"[contacts.{_key(contact.name)}]", f"addresses = {_array(contact.addresses)}"]
            lines += [f'{"node" if contact.is_node else "formation"} = "{contact.id.hex()}"', f"allow = {_array(contact.allow.texts())}"]
        return "\n".join(lines) + "\n"


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern, which may end in `*`, is for that capability or agent."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


# --- reading ----------------------------------------------------------------------------------------------------------------------


def parse_contacts(text: str, *, where: str = FILE_NAME) -> ContactDirectory:
    """The directory in a TOML file. Raises UsageError that names the entry, and what is wrong with it."""
    if len(text.encode()) > FILE_BYTES_MAX:
        raise UsageError(f"{where} is larger than {FILE_BYTES_MAX // 1024} KiB", hint="it holds a few lines for each contact, nothing else")
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number with too many digits
        raise UsageError(f"{where} is no TOML: {error}", hint=_EXAMPLE) from None
    strange = [key for key in tree if key != "contacts"]
    entries = tree.get("contacts", {})
    if strange or not isinstance(entries, dict):
        raise UsageError(f"{where} holds {(strange or ['contacts'])[0]!r}, where only the table [contacts] is wanted", hint=_EXAMPLE)
    try:
        return ContactDirectory([parse_contact(name, entry, where=where) for name, entry in entries.items()])
    except UsageError as error:
        raise UsageError(error.message if error.message.startswith(where) else f"{where}: {error.message}", hint=error.hint) from None


def parse_contact(name: str, entry: Any, *, where: str = "") -> Contact:
    """One entry: an address, or a table. Raises UsageError that names it."""
    try:
        check_name(name)
        if isinstance(entry, str):
            return _from_address(name, entry)
        if isinstance(entry, Mapping):
            return _from_table(name, entry)
        raise UsageError("an address or a table is wanted", hint=_EXAMPLE)
    except UsageError as error:
        place = f"{where}: " if where else ""
        raise UsageError(f"{place}the contact {name[:NAME_CHARACTERS_MAX]!r}: {error.message}", hint=error.hint or _EXAMPLE) from None


def make_contact(name: str, *, addresses: Iterable[str], formation: str = "", node: str = "", allow: Iterable[str] = ()) -> Contact:
    """An entry from what the command line has. Raises UsageError that names it."""
    table: dict[str, Any] = {"addresses": list(addresses), "allow": list(allow)}
    table |= {"formation": formation} if formation else {}
    table |= {"node": node} if node else {}
    return parse_contact(name, table)


def parse_allowance(texts: Iterable[str], *, rate: Any = None, concurrency: Any = None) -> Allowance:
    """What a contact may do, from its text form. Raises UsageError that names what is no right."""
    rights: set[str] = set()
    for text in texts:
        kind, colon, name = text.partition(":") if isinstance(text, str) else ("", "", "")
        if kind == "rate" and colon:
            rate = name
        elif kind == "concurrency" and colon:
            concurrency = name
        elif kind in AGENT_RIGHTS and "/" in name:  # it would match nobody, and nobody would know why
            raise UsageError(f"{text!r:.120} is no right: it names an agent by its own name, without its node", hint=_RIGHTS)
        elif text in (FEDERATE, RELAY) or (kind in NAMED_RIGHTS and _is_pattern(name)):
            rights.add(text)
        else:
            raise UsageError(f"{text!r:.120} is no right", hint=_RIGHTS)
    if len(rights) > RIGHTS_MAX:
        raise UsageError(f"{len(rights)} rights, where {RIGHTS_MAX} are possible", hint="use patterns that end in '*'")
    return Allowance(tuple(sorted(rights)), _rate(rate), _concurrency(concurrency))


def check_name(name: str) -> str:
    """A contact's name. Raises UsageError that says what one looks like."""
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not all(c.isalnum() or c in "-_.~" for c in name) or name[0] in "-.~":
        raise UsageError(
            f"{name[:80]!r} is no name for a contact: 1 to {NAME_CHARACTERS_MAX} letters, digits, '-', '_' or '.' are wanted",
            hint="choose another name",
        )
    if name in _RESERVED:
        raise UsageError(f"{name!r} can't be a contact's name: with --share it means something else", hint="choose another name")
    return name


_RESERVED = frozenset({"public", "none"})


def _from_address(name: str, text: str) -> Contact:
    if text == INPROC:
        return Contact(name)
    check_address(text)
    match = _TCP.fullmatch(text) or _HTTPS.fullmatch(text) or _UDS.fullmatch(text)
    if match is None or not match["node"]:
        raise UsageError("it has no id, so nobody could be told from an impostor", hint=_NEEDS_ID)
    return Contact(name, parse_public_key(match["node"]), True, (text,))


def _from_table(name: str, table: Mapping[str, Any]) -> Contact:
    strange = sorted(set(table) - _FIELDS)
    if strange:
        raise UsageError(f"there is no field {strange[0]!r}", hint=f"the fields are {', '.join(sorted(_FIELDS))}")
    addresses = table.get("addresses", [])
    if not isinstance(addresses, list) or len(addresses) > ADDRESSES_MAX or not all(isinstance(a, str) for a in addresses):
        raise UsageError(f"addresses: a list of up to {ADDRESSES_MAX} texts is wanted")
    allow = table.get("allow", [])
    if not isinstance(allow, list):
        raise UsageError("allow: a list of rights is wanted", hint=_RIGHTS)
    allowance = parse_allowance(allow, rate=table.get("rate"), concurrency=table.get("concurrency"))
    if addresses == [INPROC]:
        return Contact(name, allow=allowance)
    for address in addresses:
        check_address(address)
    formation, node = table.get("formation", ""), table.get("node", "")
    if not isinstance(formation, str) or not isinstance(node, str):
        raise UsageError("formation, node: a key in text form is wanted", hint=_NEEDS_ID)
    if formation and node:
        raise UsageError("it has both a formation and a node", hint="keep one: `node` trusts that one node, `formation` all of its nodes")
    if not formation and not node:
        raise UsageError("it has no id, so nobody could be told from an impostor", hint=_NEEDS_ID)
    return Contact(name, _key_in("node" if node else "formation", formation or node), bool(node), tuple(addresses), allowance)


def check_address(text: str) -> None:
    """Raises UsageError where an entry can't have that address."""
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise UsageError(
            f"the address {text[:80]!r} has an unknown scheme", hint="use tcp://HOST:PORT, uds:///PATH, https://HOST, or inproc"
        )
    match = {"tcp": _TCP, "uds": _UDS, "https": _HTTPS}[scheme].fullmatch(text)
    if match is None or len(text) > ADDRESS_CHARACTERS_MAX or not text.isprintable():
        raise UsageError(f"{text[:80]!r} is no address", hint="use tcp://HOST:PORT, uds:///PATH or https://HOST")
    if match["node"]:
        _key_in(f"the address {text[:80]!r}", match["node"])
    if scheme != "uds":
        _check_host(scheme, match["host"])
        if match["port"] and not 0 < int(match["port"]) <= 65535:
            raise UsageError(f"the address {text[:80]!r} needs a port from 1 to 65535", hint="write tcp://HOST:PORT")


def _key_in(place: str, text: str) -> bytes:
    try:
        return parse_public_key(text)
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from None


def _check_host(scheme: str, host: str) -> None:
    inside = host.removeprefix("[").removesuffix("]")
    can_be = can_be_resolved(host) if inside == host else scheme == "tcp" or is_ipv6(inside)
    if not can_be:
        raise UsageError(f"{host[:80]!r} is no name of a host, and no address", hint="write tcp://HOST:PORT or https://HOST")


def at_node(node: bytes, address: str) -> str:
    """An address with the node that answers there; as it is, where it can't say that."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{node.hex()}@{rest}" if scheme in ("tcp", "uds") and len(node) == KEY_BYTES else address


def _is_pattern(name: str) -> bool:
    """A capability, or an agent's name; `*` only at its end."""
    return 0 < len(name) <= RIGHT_CHARACTERS_MAX and name.isprintable() and " " not in name and "*" not in name[:-1]


def _rate(given: Any) -> float:
    if given is None:
        return RATE_PER_S
    try:
        rate = float(given) if not isinstance(given, bool) else 0.0
    except (TypeError, ValueError, OverflowError):
        rate = 0.0
    if not 0 < rate <= RATE_PER_S_MAX:
        raise UsageError(f"the rate {_shown(given)} is none", hint=f"give tasks a second, up to {RATE_PER_S_MAX:g}: rate:10")
    return rate


def _concurrency(given: Any) -> int:
    if given is None:
        return CONCURRENCY
    text = _shown(given).strip("'")
    count = int(text) if not isinstance(given, bool) and text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= count <= CONCURRENCY_MAX:
        raise UsageError(f"the concurrency {_shown(given)} is none", hint=f"give tasks at once, 1 to {CONCURRENCY_MAX}: concurrency:4")
    return count


def _shown(given: Any) -> str:
    """What was written, for an error."""
    try:
        return f"{given!r:.40}"
    except ValueError:  # in hexadecimal a number may have more digits than Python says in decimal
        return "of too many digits"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # of printable text, which is all that gets here: TOML's form is the same


def _array(texts: Iterable[str]) -> str:
    return f"[{', '.join(_quoted(text) for text in texts)}]"


_HEADER = "# The contacts of this formation. Edit it by hand, or use `skerry contact`; a node that runs reads it again when it changes."
_EXAMPLE = 'write [contacts] and below it lines like bob = "tcp://NODEID@HOST:PORT", or tables with addresses, formation or node, allow'
_RIGHTS = "the rights are federate, relay, call:PATTERN, wire:AGENT, inject:AGENT; and rate:N a second, concurrency:N at once"
_NEEDS_ID = 'give formation = "ID" or node = "ID"; in one line: tcp://NODEID@HOST:PORT, uds://NODEID@/PATH'
