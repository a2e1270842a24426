"""Hosts as network namespaces: some on a public network, some behind a NAT of their own. Nothing of it is joined to this machine's network.

    public, 10.77.0.0/24:   alpha .1    beta .2    ...     nat of gamma .3        nat of delta .4
                                                                 |                      |
    inside, 192.168.7.0/24:                                 gamma .2               delta .2

Both insides have the same addresses, as homes do. A NAT masquerades what goes out and lets in nothing that nobody inside asked for. All
of a world is one namespace per host, per NAT, and one that is the public network; they end with it, and with them all that is in them.
"""

from __future__ import annotations

import os
import shutil
import subprocess

TIMEOUT_S = 10.0
INSIDE = "192.168.7.2"
_NAT = """
table ip nat {
    chain out { type nat hook postrouting priority 100; oifname "public" masquerade; }
    chain forward { type filter hook forward priority 0; policy drop;
        iifname "inside" accept; ct state established,related accept; }
    chain in { type filter hook input priority 0; policy drop;
        iifname "lo" accept; iifname "inside" accept; ct state established,related accept; }
}
"""
_FIREWALL = """
table inet door
delete table inet door
table inet door {{
    chain in {{ type filter hook input priority 0; policy drop;
        iifname "lo" accept; ct state established,related accept; {also} }}
}}
"""


def why_not() -> str:
    """Why this machine can't have them; "" where it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nft"):
        if shutil.which(tool) is None:
            return f"the command {tool} is missing (Debian: iproute2, nftables)"
    name = f"sk{os.getpid()}-try"
    try:
        _run("ip", "netns", "add", name)
        try:
            _run("ip", "netns", "exec", name, "nft", "-f", "-", given=_NAT)
            _run("ip", "-n", name, "link", "add", "bridge", "type", "bridge")
        finally:
            _run("ip", "netns", "del", name)
    except (subprocess.SubprocessError, OSError) as error:
        return f"network namespaces don't work here: {error}"
    return ""


class Sea:
    """One world of namespaces."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._public = self._space("public")
        self._addresses: dict[str, str] = {}
        _run("ip", "-n", self._public, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self._public, "link", "set", "bridge", "up")

    def host(self, name: str) -> tuple[str, ...]:
        """A host on the public network; returns what runs a program there."""
        self._join(self._space(name), name)
        return self.inside(name)

    def host_behind_nat(self, name: str) -> tuple[str, ...]:
        """A host at `INSIDE`, behind a NAT that has the public address."""
        nat, space = self._space(f"nat-{name}"), self._space(name)
        self._join(nat, name)
        _run("ip", "link", "add", "inside", "netns", nat, "type", "veth", "peer", "name", "lan", "netns", space)
        for where, device, given in ((nat, "inside", "192.168.7.1/24"), (space, "lan", f"{INSIDE}/24")):
            _run("ip", "-n", where, "addr", "add", given, "dev", device)
            _run("ip", "-n", where, "link", "set", device, "up")
        _run("ip", "-n", space, "route", "add", "default", "via", "192.168.7.1")
        _run("ip", "netns", "exec", nat, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        _run("ip", "netns", "exec", nat, "nft", "-f", "-", given=_NAT)
        return self.inside(name)

    def shut(self, name: str, *, but: tuple[str, ...] = ()) -> None:
        """A firewall on a host, which lets in nothing that it did not ask for; `but` what comes from those hosts."""
        also = " ".join(f"ip saddr {self._addresses[other]} accept;" for other in but)
        _run("ip", "netns", "exec", self._full(name), "nft", "-f", "-", given=_FIREWALL.format(also=also))

    def inside(self, name: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self._full(name))

    def address(self, name: str) -> str:
        """The public one: the host's, or its NAT's."""
        return self._addresses[name]

    def reaches(self, here: str, address: str, port: int) -> bool:
        """Whether a connection from a host to an address comes about within a second."""
        probe = f"import socket; socket.create_connection(({address!r}, {port}), 1).close()"
        done = subprocess.run([*self.inside(here), "python3", "-c", probe], capture_output=True, timeout=TIMEOUT_S, check=False)
        return done.returncode == 0

    def close(self) -> None:
        for name in reversed(self._names):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=TIMEOUT_S, check=False)

    def _full(self, name: str) -> str:
        return f"sk{os.getpid()}-{name}"

    def _space(self, name: str) -> str:
        full = self._full(name)
        _run("ip", "netns", "add", full)
        self._names.append(full)
        _run("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def _join(self, space: str, name: str) -> None:
        """Plug it into the public network."""
        number = len(self._addresses) + 1
        plug, address = f"plug{number}", f"10.77.0.{number}"
        self._addresses[name] = address
        _run("ip", "link", "add", "public", "netns", space, "type", "veth", "peer", "name", plug, "netns", self._public)
        _run("ip", "-n", self._public, "link", "set", plug, "master", "bridge")
        _run("ip", "-n", self._public, "link", "set", plug, "up")
        _run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "public")
        _run("ip", "-n", space, "link", "set", "public", "up")


def _run(*command: str, given: str = "") -> None:
    done = subprocess.run(command, input=given.encode(), capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()[:300]}")
