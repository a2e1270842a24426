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
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry import __version__
from skerry.agents.collector import settle
from skerry.agents.environments import Environments
from skerry.agents.processes import ProcessExecutor
from skerry.channel.address import parse_address, parse_host_port
from skerry.channel.https import RealHttp
from skerry.channel.transports import RealNetwork
from skerry.cli.around import advertised, dht_place, lan_hosts, met_dial, tcp_places
from skerry.cli.files import raise_limit
from skerry.cli.notify import ServiceManager
from skerry.cli.options import Output, ticket_text
from skerry.cli.outside import Outside
from skerry.client.here import SystemClock, SystemRandom
from skerry.discovery.dht import LibtorrentDht
from skerry.discovery.mdns import ZeroconfLan
from skerry.discovery.profiles import profile_of
from skerry.errors import SkerryError
from skerry.identity.contacts import FILE_NAME, parse_contacts
from skerry.identity.keys import KeyPair
from skerry.identity.ticket import Ticket, parse_ticket
from skerry.node import membership
from skerry.node.config import Config, Origin, choose, config_of
from skerry.node.home import FileBlobs, FileKeyring, Home, node_key
from skerry.node.logs import Logs
from skerry.node.node import Node
from skerry.node.owners_file import TextFile
from skerry.node.settings import Settings, check_name
from skerry.node.verbs import InviteRequest
from skerry.ports import Ports
from skerry.records.store import SqliteStore
from skerry.routing.strategies import Strategy

JOINED_S = 3.0  # how long a node that joins waits for the others' records before it says that it is ready
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """What `up` and `join` were told. `flags`: settings by name (`node/config.py`), None where a flag was not given."""

    home: Path
    flags: Mapping[str, Any] = field(default_factory=dict)
    ticket: str | None = None
    leave: bool = False
    output: Output = Output.TABLE


def run(start: Start) -> None:
    """Run a node until it is told to end. Raises SkerryError where it can't start."""
    chosen = choose(start.home, flags=start.flags, environment=os.environ)
    config = config_of(chosen)
    ticket = parse_ticket(ticket_text(start.ticket)) if start.ticket else None
    manager = ServiceManager(os.environ)
    parse_contacts(TextFile(start.home / FILE_NAME).read() or "", where=str(start.home / FILE_NAME))  # what is wrong in it is said first
    home = Home(start.home)
    home.make()
    home.lock()
    raise_limit()
    level_asked = any(one.setting.name == "log.level" and one.origin is not Origin.DEFAULT for one in chosen)
    logs = Logs(config, folder=home.logs, level_asked=level_asked)
    try:
        asyncio.run(_serve(start, home, config, ticket, logs, manager))
    except Exception as error:
        if not isinstance(error, SkerryError):  # a bug: the log keeps its traceback, whoever watches stderr
            log.critical("the node ends by a fault of its own", exc_info=error)
        raise
    finally:
        logs.close()
        home.unlock()


async def _serve(start: Start, home: Home, config: Config, ticket: Ticket | None, logs: Logs, manager: ServiceManager) -> None:
    keyring = FileKeyring(home.path)
    key = node_key(keyring)
    logs.never_show(key.seed.hex(), home.token())
    store = SqliteStore(home.database)
    network = RealNetwork(key)
    ports = Ports(
        clock=SystemClock(),
        random=SystemRandom(),
        network=network,
        store=store,
        keyring=keyring,
        blobs=FileBlobs(home.blobs),
        executor=ProcessExecutor(home=Path.home(), private=home.path, log_bytes_max=config.agents_log_size_max),
        environments=Environments(home.environments),
        http=RealHttp(),
        contacts=TextFile(home.path / FILE_NAME),
        dht=_dht(config),
        lan=_lan(config),
    )
    try:
        name = _name(ports, config.name)
        formation = await _formation(ports, key, ticket, name=name, leave=start.leave)
        settings = Settings(
            name=name,
            listen=tuple(str(parse_address(place)) for place in config.listen.split(",")),
            socket=str(home.socket),
            advertised=advertised,
            inventory=inventory(),
            logs=home.logs,
            work=home.work,
            version=__version__,
            strategy=Strategy(config.routing_strategy),
            profile=profile_of(config.membership_profile),
            relays=config.relay_forward,
            seeds=config.seeds,
            also_dial=config.federation_also_dial,
            met_dial=met_dial(config),
            bootstrap=config.bootstrap,
        )
        node = Node(ports, settings, key=key, formation=formation, seeds=membership.seeds_of(ports))
        outside = Outside(node, config, tls=network.listening_context)
        await _live(node, outside, home, config, start.output, manager, joins=ticket is not None)
        if node.leaves:
            _leave(ports)
    finally:
        store.close()


async def _formation(ports: Ports, key: KeyPair, ticket: Ticket | None, *, name: str, leave: bool) -> bytes:
    if membership.has_left(ports, key):  # and was cut before its home was free
        _leave(ports)
    held = membership.formation_of(ports)
    if leave and held is not None and (ticket is None or held != ticket.formation):
        _leave(ports)
        held = None
    if ticket is not None:
        return await membership.join(ports, key, ticket, name=name)
    return held if held is not None else membership.found(ports, key)


def _leave(ports: Ports) -> None:
    """Free the home. The contacts were the formation's: whatever this home founds or joins next does not begin with them."""
    membership.leave(ports.store, ports.keyring)
    if ports.contacts is not None:
        ports.contacts.remove()


async def _live(node: Node, outside: Outside, home: Home, config: Config, output: Output, manager: ServiceManager, *, joins: bool) -> None:
    from skerry.gateway.door import HttpDoor

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stopping.set)
    token = home.token()
    http = parse_host_port(config.http)
    door = HttpDoor(node, host=http.host, port=http.port, token=token, open_without_token=config.http_open)
    try:
        await node.start()
        node.http = await door.open()
        await outside.open()
        if joins:  # so that who reads the ready line can call at once
            await _either(node.in_touch(timeout_s=JOINED_S), node.stopping.wait())
        ready = _ready(node, token, secrets=output is not Output.TABLE or sys.stdout.isatty()) | outside.ready
        if node.explorer.dht_address:
            ready["dht"] = node.explorer.dht_address
        home.write_ready(ready)
        _announce(ready, output, may_invite=node.trust.may_invite())
        log.info("ready: %s, mesh %s, http %s, version %s", ready["name"], ready["listen"], ready["http"], node.settings.version)
        manager.ready(f"{ready['name']} serves at {ready['listen']}")
        settle()
        await node.stopping.wait()
    finally:
        manager.stopping()
        log.info("ends")
        await outside.close()
        await door.close()
        await node.close()


async def _either(*works: Coroutine[Any, Any, Any]) -> None:
    """Wait for whichever ends first."""
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _ready(node: Node, token: str, *, secrets: bool) -> dict[str, Any]:
    """The ready line. Without `secrets`, as for a service, no ticket is made that nobody would see."""
    ticket = node.invitations.invite(InviteRequest()).ticket if secrets and node.trust.may_invite() else None
    return {
        "event": "ready",
        "node_id": node.key.public.hex(),
        "name": node.settings.name,
        "listen": _shown(node.listening),
        "http": node.http,
        "socket": node.settings.socket,
        "token": token if secrets else None,
        "ticket": ticket,
    }


def _dht(config: Config) -> LibtorrentDht | None:
    place = dht_place(config)
    return LibtorrentDht(place, bootstrap=config.bootstrap, random=SystemRandom()) if place else None


def _lan(config: Config) -> ZeroconfLan | None:
    hosts = lan_hosts(config, [text for place in tcp_places(config) for text in advertised(str(place))])
    return ZeroconfLan(hosts) if hosts else None


def _shown(listening: list[str]) -> str:
    """HOST:PORT of the first that is one; a node that listens on Unix sockets alone shows the first of these."""
    return next((address.removeprefix("tcp://") for address in listening if address.startswith("tcp://")), listening[0])


def _announce(ready: dict[str, Any], output: Output, *, may_invite: bool) -> None:
    if output is not Output.TABLE:
        print(json.dumps(ready), flush=True)
        return
    print(f"{ready['name']} is up: node {ready['node_id'][:10]}, mesh {ready['listen']}, http http://{ready['http']}/v1")
    if ready.get("public"):
        print(f"Other formations and strangers may ask it at {ready['public']}")
    if ready["token"]:
        print(f"The HTTP door's key (a secret): {ready['token']}")
    if ready["ticket"]:
        print("Another node joins with this ticket (a secret: one use, within an hour):")
        print(f"  skerry join {ready['ticket']}")
    elif may_invite:
        print("Invite another node with: skerry node invite")
    print("Ctrl-C ends it.", flush=True)


def _name(ports: Ports, given: str) -> str:
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


def inventory() -> dict[str, Any]:
    """What this machine has, for the node record."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else 0
    return {"os": platform.system().lower(), "arch": platform.machine(), "cpus": os.cpu_count() or 1, "memory_bytes": memory}
