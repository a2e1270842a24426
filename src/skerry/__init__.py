"""Skerry: a mesh of nodes that run, find and call AI agents, with no server in charge.

    async with skerry.connect() as mesh:                     # the node of this machine
        await mesh.call("custom:greet", {"name": "Ada"})

    class Greeter(skerry.Agent):                             # an agent: skerry agent run greeter.py:Greeter
        @skerry.handles("custom:greet")
        def greet(self, who: dict) -> str: ...

A facade: names load when they are used, so that `import skerry` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skerry.agents.sdk import Agent, Message, Session, handles
    from skerry.client.mesh import Mesh, Restarted, connect
    from skerry.errors import ProtocolError, Refused, SkerryError, StorageError, Unreachable, UsageError
    from skerry.records.card import AgentCard
    from skerry.records.pages import FederationUpdate
    from skerry.records.pulling import FederationManager
    from skerry.records.registry import AgentRegistry
    from skerry.wiring.proxy import (
        ControlChannelUnavailable,
        Decode,
        Encode,
        LocalOrRemote,
        Rejected,
        RemoteEndpoint,
        RemoteError,
        RemoteProxy,
        UnsupportedTransport,
    )

_HOMES = {
    "Agent": "skerry.agents.sdk",
    "AgentCard": "skerry.records.card",
    "AgentRegistry": "skerry.records.registry",
    "ControlChannelUnavailable": "skerry.wiring.proxy",
    "Decode": "skerry.wiring.proxy",
    "Encode": "skerry.wiring.proxy",
    "FederationManager": "skerry.records.pulling",
    "FederationUpdate": "skerry.records.pages",
    "LocalOrRemote": "skerry.wiring.proxy",
    "Mesh": "skerry.client.mesh",
    "Message": "skerry.agents.sdk",
    "ProtocolError": "skerry.errors",
    "Refused": "skerry.errors",
    "Rejected": "skerry.wiring.proxy",
    "RemoteEndpoint": "skerry.wiring.proxy",
    "RemoteError": "skerry.wiring.proxy",
    "RemoteProxy": "skerry.wiring.proxy",
    "Restarted": "skerry.client.mesh",
    "Session": "skerry.agents.sdk",
    "SkerryError": "skerry.errors",
    "StorageError": "skerry.errors",
    "Unreachable": "skerry.errors",
    "UnsupportedTransport": "skerry.wiring.proxy",
    "UsageError": "skerry.errors",
    "connect": "skerry.client.mesh",
    "handles": "skerry.agents.sdk",
}
__version__ = "0.1.0"
__all__ = [
    "Agent",
    "AgentCard",
    "AgentRegistry",
    "ControlChannelUnavailable",
    "Decode",
    "Encode",
    "FederationManager",
    "FederationUpdate",
    "LocalOrRemote",
    "Mesh",
    "Message",
    "ProtocolError",
    "Refused",
    "Rejected",
    "RemoteEndpoint",
    "RemoteError",
    "RemoteProxy",
    "Restarted",
    "Session",
    "SkerryError",
    "StorageError",
    "Unreachable",
    "UnsupportedTransport",
    "UsageError",
    "__version__",
    "connect",
    "handles",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skerry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
