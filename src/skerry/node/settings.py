"""What a node is told when it starts.

The rule: a setting is checked before the node opens anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry.channel.reachable import IPNetwork
from skerry.discovery.profiles import PROFILES, Profile
from skerry.errors import UsageError
from skerry.routing.strategies import Strategy

NAME_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """One node's settings.

    listen       addresses to bind; the first one is what the ready line shows
    socket       the Unix socket for the owner's own programs, None in simulation
    advertised   the addresses under which others reach a bound one (0.0.0.0 becomes this machine's addresses)
    inventory    what this machine has, for the node record
    strategy     who does a task where its caller has no wish of its own
    seeds        places of public listeners (`weburl.read_place`); also_dial: networks that strangers may send us to, too
    met_dial     networks that those whom we meet in a DHT may send us to, beside these
    bootstrap    places (host:port) where the DHT is entered
    logs         folder of the agents' logs; work: folder of the folders that they may write in
    profile      how long others may be silent
    relays       whether it forwards for members that can't be dialled
    """

    name: str
    listen: tuple[str, ...]
    socket: str | None = None
    advertised: Callable[[str], list[str]] = lambda address: [address]
    inventory: dict[str, Any] = field(default_factory=dict)
    logs: Path | None = None
    work: Path | None = None
    version: str = "0"
    strategy: Strategy = Strategy.LOWEST_LATENCY
    profile: Profile = PROFILES["lan"]
    relays: bool = True
    seeds: tuple[str, ...] = ()
    also_dial: tuple[IPNetwork, ...] = ()
    met_dial: tuple[IPNetwork, ...] = ()
    bootstrap: tuple[str, ...] = ()


def check_name(name: str) -> str:
    """A node's name. Raises UsageError that says what one looks like."""
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not all(c.isalnum() or c in "-_." for c in name) or name[0] in "-.":
        raise UsageError(
            f"{name[:80]!r} is no name for a node: 1 to {NAME_CHARACTERS_MAX} letters, digits, '-', '_' or '.' are wanted",
            hint="choose another with --name",
        )
    return name
