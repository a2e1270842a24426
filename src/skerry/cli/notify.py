"""Tells the service manager how the node stands: systemd's notification protocol, a datagram of lines to `NOTIFY_SOCKET`.

The rule: without a service manager nothing happens; one that does not listen any more is not worth failing for.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import MutableMapping


class ServiceManager:
    """Whoever started this process and waits to hear that it is ready. Its address leaves the environment: agents are not asked."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self, status: str) -> None:
        self._say(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(1.0)  # a manager that hangs must not hang the node
            sender.sendto(text.encode(), self._address)
