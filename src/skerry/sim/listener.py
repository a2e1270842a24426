"""A bound address of a simulated host.

The rule: it is reached for as long as its host's books have it.
"""

from __future__ import annotations

import contextvars

from skerry.channel.address import Address
from skerry.ports import ProtocolFactory


class SimListener:
    """`ports.Listener`, in the books (`registry`) of its host."""

    def __init__(self, registry: dict[int | str, SimListener], address: Address, factory: ProtocolFactory) -> None:
        self.factory = factory
        self.context = contextvars.copy_context()
        self.is_local = address.scheme == "tcp" and is_loopback(address.host)
        self._registry = registry
        self._address = address

    @property
    def address(self) -> str:
        return str(self._address)

    async def close(self) -> None:
        place = self._address.path or self._address.port
        if self._registry.get(place) is self:
            del self._registry[place]


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
