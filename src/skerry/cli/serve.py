"""`skerry up` and `skerry join`: builds the real ports, runs a node in the foreground, ends it in order.

The rule: the ready line is printed when every door serves, and secrets are printed only to a terminal or with `-o json`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry import __version__
from skerry.agents.processes import ProcessExecutor
from skerry.channel.address import HTTP_PORT, MESH_PORT, Address, parse_address, parse_host_port
from skerry.channel.transports import RealNetwork
from skerry.cli.options import Output
from skerry.client.here import SystemClock, SystemRandom
from skerry.identity.keys import KeyPair
from skerry.identity.ticket import Ticket, parse_ticket
from skerry.node import membership
from skerry.node.home import FileBlobs, FileKeyring, Home, node_key
from skerry.node.node import Node
from skerry.node.settings import Settings, check_name
from skerry.node.verbs import InviteRequest
from skerry.ports import Ports
from skerry.records.store import SqliteStore

JOINED_S = 3.0  # how long a node that joins waits for the others' records before it says that it is ready


@dataclass(frozen=True, slots=True)
class Start:
    """What `up` and `join` were told."""

    home: Path
    name: str | None = None
    listen: str | None = None
    http: str | None = None
    ticket: str | None = None
    leave: bool = False
    output: Output = Output.TABLE


def run(start: Start) -> None:
    """Run a node until it is told to end. Raises SkerryError where it can't start."""
    listen = str(parse_host_port(start.listen or f"0.0.0.0:{MESH_PORT}", default_port=MESH_PORT))
    http = parse_host_port(start.http or f"127.0.0.1:{HTTP_PORT}", default_port=HTTP_PORT)
    ticket = parse_ticket(start.ticket) if start.ticket else None
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    home = Home(start.home)
    home.make()
    home.lock()
    try:
        asyncio.run(_serve(start, home, listen, http, ticket))
    finally:
        home.unlock()


async def _serve(start: Start, home: Home, listen: str, http: Address, ticket: Ticket | None) -> None:
    keyring = FileKeyring(home.path)
    key = node_key(keyring)
    store = SqliteStore(home.database)
    ports = Ports(
        clock=SystemClock(),
        random=SystemRandom(),
        network=RealNetwork(key),
        store=store,
        keyring=keyring,
        blobs=FileBlobs(home.blobs),
        executor=ProcessExecutor(),
    )
    try:
        name = _name(ports, start.name)
        formation = await _formation(ports, key, ticket, name=name, leave=start.leave)
        settings = Settings(
            name=name,
            listen=(listen,),
            socket=str(home.socket),
            advertised=advertised,
            inventory=inventory(),
            logs=home.logs,
            version=__version__,
        )
        node = Node(ports, settings, key=key, formation=formation, seeds=membership.seeds_of(ports))
        await _live(node, home, http, start.output, joins=ticket is not None)
    finally:
        store.close()


async def _formation(ports: Ports, key: KeyPair, ticket: Ticket | None, *, name: str, leave: bool) -> bytes:
    held = membership.formation_of(ports)
    if leave and held is not None and (ticket is None or held != ticket.formation):
        membership.leave(ports)
        held = None
    if ticket is not None:
        return await membership.join(ports, key, ticket, name=name)
    return held if held is not None else membership.found(ports, key)


async def _live(node: Node, home: Home, http: Address, output: Output, *, joins: bool) -> None:
    from skerry.gateway.door import HttpDoor

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stopping.set)
    token = home.token()
    door = HttpDoor(node, host=http.host, port=http.port, token=token)
    try:
        await node.start()
        node.http = await door.open()
        if joins:  # so that who reads the ready line can call at once
            await node.in_touch(timeout_s=JOINED_S)
        ready = _ready(node, token)
        home.write_ready(ready)
        _announce(ready, output)
        await node.stopping.wait()
    finally:
        await door.close()
        await node.close()


def _ready(node: Node, token: str) -> dict[str, Any]:
    ticket = node.invitations.invite(InviteRequest()).ticket if node.trust.may_invite() else None
    return {
        "event": "ready",
        "node_id": node.key.public.hex(),
        "name": node.settings.name,
        "listen": parse_address(node.listening[0]).host_port,
        "http": node.http,
        "socket": node.settings.socket,
        "token": token,
        "ticket": ticket,
    }


def _announce(ready: dict[str, Any], output: Output) -> None:
    if output is not Output.TABLE:
        print(json.dumps(ready), flush=True)
        return
    secret = sys.stdout.isatty()
    print(f"{ready['name']} is up: node {ready['node_id'][:10]}, mesh {ready['listen']}, http http://{ready['http']}/v1")
    if secret:
        print(f"The HTTP door's key (a secret): {ready['token']}")
    if ready["ticket"] and secret:
        print("Another node joins with this ticket (a secret: one use, within an hour):")
        print(f"  skerry join {ready['ticket']}")
    elif ready["ticket"]:
        print("Invite another node with: skerry node invite")
    print("Ctrl-C ends it.", flush=True)


def _name(ports: Ports, given: str | None) -> str:
    """The name given, the one kept, or the machine's."""
    kept = ports.store.fact(membership.FACTS, "name")
    name = given or (kept.decode() if kept else "") or _machine_name()
    check_name(name)
    if kept is None or kept.decode() != name:
        ports.store.set_fact(membership.FACTS, "name", name.encode())
    return name


def _machine_name() -> str:
    host = socket.gethostname().split(".")[0].lower()
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in host).strip("-_")[:64] or "node"


def advertised(address: str) -> list[str]:
    """The addresses under which others reach a bound one: the machine's own where it is bound to all of them."""
    bound = parse_address(address)
    if bound.host not in ("0.0.0.0", "::"):
        return [address]
    import ifaddr  # only here: it opens the system's list of interfaces

    found = [str(ip.ip if ip.is_IPv4 else ip.ip[0]) for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    usable = [ip for ip in found if not ip.startswith(("127.", "fe80:")) and ip != "::1" and (bound.host == "::" or ":" not in ip)]
    return [str(Address("tcp", ip, bound.port)) for ip in usable or ["127.0.0.1"]]


def inventory() -> dict[str, Any]:
    """What this machine has, for the node record."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else 0
    return {"os": platform.system().lower(), "arch": platform.machine(), "cpus": os.cpu_count() or 1, "memory_bytes": memory}
