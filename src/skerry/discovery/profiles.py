"""How patient a node is with others: times that fit the network between them, by name.

`suspicion_s` is the least time between "somebody can't reach it" and "it is gone" in formations of up to 30 nodes; it grows with the
logarithm of their number, as the time does that a refutation needs to reach everybody. Without confirmations it is `PATIENCE` times that.

    lan     a silent end is known after 1 (next probe) + 1 (direct, indirect) + 2 (suspicion) + 0.6 s (its way to all); a stop of 2 s is
            refuted before its suspicion, which begins 1 s after the first unanswered probe, ends
    wan     the same over half the planet, or over a bad line
    local   all nodes on one machine, for tests and demonstrations: whoever stops for a second and a half is taken for gone

The rule: a profile changes when something is believed, never what.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from skerry.errors import UsageError

SMALL = 30  # nodes, up to which `suspicion_s` holds as it stands
PATIENCE = 3.0  # how much longer a suspicion lasts that nobody confirms


@dataclass(frozen=True, slots=True)
class Profile:
    """`probe_s` between two probes of a kind; `direct_s` until helpers are asked, `probe_limit_s` until a probe has failed; news goes to
    `fanout` others every `gossip_s`."""

    name: str
    probe_s: float
    direct_s: float
    probe_limit_s: float
    suspicion_s: float
    gossip_s: float
    fanout: int = 3
    helpers: int = 3
    confirmations: int = 3  # after the first witness, for the least time; fewer where there are not so many others

    @property
    def relay_s(self) -> float:
        """How long a helper tries: it must say in time that it failed, so that whoever asked knows that *it* is heard."""
        return (self.probe_limit_s - self.direct_s) * 0.8

    def least_suspicion_s(self, nodes: int) -> float:
        return self.suspicion_s * max(1.0, math.log(max(nodes, 2)) / math.log(SMALL))


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("lan", probe_s=1.0, direct_s=0.5, probe_limit_s=1.0, suspicion_s=2.0, gossip_s=0.2),
        Profile("wan", probe_s=2.0, direct_s=1.5, probe_limit_s=3.0, suspicion_s=6.0, gossip_s=0.5),
        Profile("local", probe_s=1.0, direct_s=0.2, probe_limit_s=0.5, suspicion_s=1.0, gossip_s=0.1),
    )
}


def profile_of(name: str) -> Profile:
    """Raises UsageError where there is none of that name."""
    try:
        return PROFILES[name]
    except KeyError:
        raise UsageError(f"there is no membership profile {name!r}", hint=f"choose one of {', '.join(PROFILES)}") from None
