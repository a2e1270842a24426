"""No breach: the adversary gets no answer that it has no right to, nothing forged is taken, nothing replayed lets it in."""

from __future__ import annotations

from skerry.sim.world import World


class NoBreach:
    """Repeats what the adversary itself wrote down: nobody knows better what it got."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> list[str]:
        return list(self._world.breaches)

    def settled(self) -> list[str]:
        return self.look()
