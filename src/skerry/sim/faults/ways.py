"""Faults of the ways between hosts: cuts, partitions, broken connections, slow and lossy links.

The rule: a stream never loses bytes and lives on; what the network does to it is a wait, or its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.sim.link import Link
from skerry.sim.network import LAN

if TYPE_CHECKING:
    from skerry.sim.faults import Faults

SLOW = Link(delay_s=0.4, jitter_s=0.4, loss=0.2, split=0.5)
LOSSY = Link(delay_s=0.01, jitter_s=0.01, loss=0.4, split=0.3)  # every segment waits 0.2 s, or 0.6, or 1.4, ...


async def cut(faults: Faults, *, is_one_way: bool = False) -> None:
    """Nothing passes between two hosts."""
    pair = faults.two()
    if pair is not None:
        faults.world.network.cut(*pair, one_way=is_one_way)
        await faults.lasts()
        faults.world.heal(*pair)


async def one_way(faults: Faults) -> None:
    """Of two hosts one hears the other, which does not hear it."""
    await cut(faults, is_one_way=True)


async def partition(faults: Faults, *, is_deaf: bool = False) -> None:
    """Two groups that do not reach each other."""
    names = list(faults.world.machines)
    faults.random.shuffle(names)
    if len(names) < 2:
        return
    at = faults.random.randrange(1, len(names))
    some, others = names[:at], names[at:]
    if is_deaf:
        for a in some:
            for b in others:
                faults.world.network.cut(a, b, one_way=True)
    else:
        faults.world.network.partition(some, others)
    await faults.lasts()
    for a in some:
        for b in others:
            faults.world.heal(a, b)


async def deaf_partition(faults: Faults) -> None:
    """Two groups, of which one hears the other and is not heard."""
    await partition(faults, is_deaf=True)


async def reset(faults: Faults, *, is_half_open: bool = False) -> None:
    """The connections between two hosts break, for both."""
    pair = faults.two()
    if pair is not None:
        faults.world.note(pair[0], f"reset {pair[1]}{' half-open' if is_half_open else ''}")
        faults.world.network.reset(*pair, half_open=is_half_open)


async def half_open(faults: Faults) -> None:
    """The connections between two hosts break, and one of them does not know."""
    await reset(faults, is_half_open=True)


async def slow_link(faults: Faults) -> None:
    """What two hosts say to each other takes its time."""
    await _bad_link(faults, SLOW)


async def lossy_link(faults: Faults) -> None:
    """Of what two hosts say to each other a large part is lost, and sent again."""
    await _bad_link(faults, LOSSY)


async def _bad_link(faults: Faults, link: Link) -> None:
    pair = faults.two()
    if pair is not None:
        faults.world.network.set_link(*pair, link)
        await faults.lasts()
        faults.world.network.set_link(*pair, faults.weather.link if not faults.mended.is_set() else LAN)
