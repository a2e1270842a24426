"""Names and addresses of machines, as a resolver takes them.

Python's resolver does not answer where a part of a name is empty or too long: it raises what nobody who dials expects. So what can't be a
name is refused where it enters: a flag, a setting, a contact's entry, a peer list.

The rule: nothing gets to the resolver that it would choke on. Decided here, without asking one.
"""

from __future__ import annotations

import ipaddress

NAME_CHARACTERS_MAX = 253  # RFC 1035
PART_CHARACTERS_MAX = 63


def can_be_resolved(host: str) -> bool:
    """Whether a resolver may be asked for it: a name, or an address without brackets."""
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return False
    name = host.removesuffix(".")
    return len(name) <= NAME_CHARACTERS_MAX and all(0 < len(part) <= PART_CHARACTERS_MAX for part in name.split("."))


def is_ipv6(text: str) -> bool:
    """Whether it is an address of IPv6 that means the same everywhere: without a link's name."""
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False
