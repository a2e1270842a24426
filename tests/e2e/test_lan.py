"""The local network, in namespaces that the test makes: two nodes whose addresses both changed find each other again."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import skerry
from tests.support import poll_until

LINK_S = 30.0
COMMAND = (sys.executable, "-m", "skerry.cli.main")


def number(last: int) -> str:
    return str(ipaddress.IPv4Address((10 << 24) | (93 << 16) | last))


def possible() -> str:
    if importlib.util.find_spec("zeroconf") is None:
        return "zeroconf is not installed"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "namespaces need root and the command ip"
    tried = subprocess.run(["ip", "netns", "add", f"skl{os.getpid()}"], capture_output=True, check=False)
    if tried.returncode:
        return f"no namespaces here: {tried.stderr.decode()[:80]}"
    subprocess.run(["ip", "netns", "del", f"skl{os.getpid()}"], check=True)
    return ""


WHY_NOT = possible()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


@contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    names = (f"skl{os.getpid()}a", f"skl{os.getpid()}b")
    for name in names:
        ip("netns", "add", name)
    try:
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for last, name in enumerate(names, 1):
            ip("-n", name, "link", "set", "lo", "up")
            move(name, last)
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "route", "replace", f"{ipaddress.IPv4Address(0xE0000000)}/4", "dev", "eth0")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


def move(name: str, last: int) -> None:
    ip("-n", name, "addr", "flush", "dev", "eth0")
    ip("-n", name, "addr", "add", f"{number(last)}/24", "dev", "eth0")
    ip("-n", name, "link", "set", "eth0", "up")
    subprocess.run(
        ["ip", "-n", name, "route", "replace", f"{ipaddress.IPv4Address(0xE0000000)}/4", "dev", "eth0"], check=False, capture_output=True
    )


class Host:
    """One node in one namespace."""

    def __init__(self, namespace: str, home: Path) -> None:
        self.namespace, self.home = namespace, home
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("SKERRY_")}
        paths = [str(Path(skerry.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self.environment |= {"SKERRY_HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *args: str) -> None:
        log = (self.home.parent / f"{self.home.name}.log").open("ab")
        command = ["ip", "netns", "exec", self.namespace, *COMMAND, *args, "--http", "127.0.0.1:0", "-o", "json"]
        with log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=log)
        poll_until((self.home / "run" / "ready.json").exists, LINK_S, what=f"{self.home.name} is ready")

    def ask(self, *args: str) -> Any:
        ran = subprocess.run([*COMMAND, *args, "-o", "json"], env=self.environment, capture_output=True, check=False, timeout=30)
        return json.loads(ran.stdout) if ran.returncode == 0 else {}

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def linked(self) -> bool:
        return any(one["link"] == "up" for one in self.ask("node", "list").get("nodes", []))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mdns", [True, False])
def test_nodes_whose_addresses_both_changed_find_each_other_on_the_local_network(tmp_path: Path, mdns: bool) -> None:
    with two_hosts() as (first, second):
        alpha, beta = Host(first, tmp_path / "a"), Host(second, tmp_path / "b")
        try:
            alpha.start("up", "--name", "alpha")
            ticket = alpha.ask("node", "invite")["ticket"]
            beta.start("join", ticket, "--name", "beta")
            poll_until(beta.linked, LINK_S, what="they are linked")
            for host, last in ((alpha, 11), (beta, 12)):
                host.stop()
                move(host.namespace, last)
            for host in (alpha, beta):
                host.environment["SKERRY_DISCOVERY_MDNS"] = str(mdns).lower()
                host.start("up")
            if mdns:
                poll_until(beta.linked, LINK_S, what="they found each other again")
                poll_until(alpha.linked, LINK_S, what="both know it")
            else:
                assert not beta.linked(), "nothing else tells one where the other is"
                assert b"local network" not in (tmp_path / "b.log").read_bytes().split(b"ready: beta")[-1]
        finally:
            alpha.stop()
            beta.stop()
