"""The root key on its own: written to a file for a safe place, brought back into a home.

The backup also holds addresses of nodes, so that a home restored from it alone finds the others.

The rule: a backup is 0600, says what it is, and is checked before anything of it is used.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from skerry.errors import Code, Refused, StorageError, UsageError
from skerry.identity.codec import encode
from skerry.identity.grants import Role, Roster, issue
from skerry.identity.keys import KeyPair, parse_id
from skerry.identity.statement import parse_unverified
from skerry.node.home import FileKeyring, Home, node_key, read_secret, write_secret
from skerry.node.membership import FACTS, FORMATION, SEEDS, has_formation, leave
from skerry.node.trust import ROOT_KEY
from skerry.records.replica import Replica
from skerry.records.store import SqliteStore

KIND = "skerry formation backup"


@dataclass(frozen=True, slots=True)
class Backup:
    """A formation's root key, and where its nodes were."""

    formation: bytes
    seed: bytes = field(repr=False)
    nodes: dict[str, list[str]] = field(default_factory=dict)


def write_backup(home: Path, file: Path, *, nodes: dict[str, list[str]]) -> str:
    """Write the home's root key to `file`; returns the formation's id. Raises where there is none, or `file` exists.

    nodes: id -> addresses, for a home that is restored from the backup alone
    """
    seed = FileKeyring(home).load(ROOT_KEY)
    if seed is None:
        raise Refused(f"the home {home} does not hold a root key", code=Code.NOT_FOUND, hint="do it at the founding home")
    if file.exists():
        raise UsageError(f"{file} exists already, and is not overwritten", hint="choose another file")
    formation = KeyPair.from_seed(seed).public
    body = {"kind": KIND, "version": 1, "formation": formation.hex(), "root_key": seed.hex(), "nodes": nodes}
    write_secret(file, json.dumps(body, indent=2))
    return formation.hex()


def read_backup(file: Path) -> Backup:
    """Raises UsageError that says what is wrong with the file."""
    if not file.is_file():
        raise UsageError(f"{file} does not exist", code=Code.NOT_FOUND, hint="give the file that `skerry formation backup` wrote")
    try:
        body = json.loads(read_secret(file))
        seed = bytes.fromhex(body["root_key"])
        formation = parse_id(body["formation"])
        nodes = {str(node): [str(address) for address in addresses] for node, addresses in body.get("nodes", {}).items()}
        right = body["kind"] == KIND and KeyPair.from_seed(seed).public == formation
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, StorageError) as error:
        if isinstance(error, StorageError) and error.code != Code.BAD_HOME:
            raise  # others could read it
        raise UsageError(f"{file} is no formation backup ({error})", hint="give the file that `skerry formation backup` wrote") from None
    if not right:
        raise UsageError(f"{file} is damaged: its key is not its formation's", hint="use another copy of the backup")
    return Backup(formation, seed, nodes)


def restore_offline(path: Path, backup: Backup) -> None:
    """Into a home on which no node runs: the root key, an operator's grant for its node, and where to find the others."""
    home = Home(path)
    home.make()
    home.lock()
    try:
        store = SqliteStore(home.database)
        try:
            held = store.fact(FACTS, FORMATION)
            if held is not None and held != backup.formation:
                raise has_formation(held)
            keyring = FileKeyring(home.path)
            key = node_key(keyring)
            root = KeyPair.from_seed(backup.seed)
            keyring.save(ROOT_KEY, backup.seed)
            replica = Replica(store, formation=backup.formation, roster=Roster(backup.formation), ours=key.public)
            stamp = replica.next_stamp(now_ms=time.time_ns() // 1_000_000)
            replica.publish(issue(root, formation=root.public, subject=key.public, role=Role.OPERATOR, stamp=stamp))
            seeds = [[parse_id(node), addresses] for node, addresses in backup.nodes.items() if node != key.public.hex()]
            store.set_fact(FACTS, SEEDS, encode(seeds))
            store.set_fact(FACTS, FORMATION, backup.formation, durable=True)
        finally:
            store.close()
    finally:
        home.unlock()


def leave_offline(path: Path) -> str:
    """Free a home on which no node runs, without a word to the others; returns the formation that it belonged to."""
    home = Home(path)
    if not home.database.exists():
        raise UsageError(f"the home {path} belongs to no formation", code=Code.NOT_FOUND)
    home.lock()
    try:
        store = SqliteStore(home.database)
        try:
            held = store.fact(FACTS, FORMATION)
            if held is None:
                raise UsageError(f"the home {path} belongs to no formation", code=Code.NOT_FOUND)
            leave(store, FileKeyring(home.path))
            return held.hex()
        finally:
            store.close()
    finally:
        home.unlock()


def nodes_known_offline(home: Path) -> dict[str, list[str]]:
    """The nodes, and their addresses, that a home knows on which no node runs."""
    database = Home(home).database
    if not database.exists():
        return {}
    store = SqliteStore(database)
    try:
        statements = [parse_unverified(row.signed)[0] for row in store.of_kind("node")]
        return {s.author.hex(): list(s.body.get("addresses", [])) for s in statements}
    finally:
        store.close()
