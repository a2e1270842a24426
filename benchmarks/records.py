"""What records cost: to compare, to take in, to look up; and how they spread through a simulated formation."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from blake3 import blake3
from nacl.bindings import crypto_sign_open

from benchmarks.figures import Asked, Figure, beside, figure, percentile
from benchmarks.plan import Plan
from skerry.agents.collector import settle
from skerry.channel.messages import pack_message
from skerry.identity.grants import Role, Roster, issue
from skerry.identity.keys import KeyPair
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import Statement, state
from skerry.node.upkeep import EVERY_S
from skerry.ports import Row
from skerry.records.holdings import Holdings
from skerry.records.items import Items, item_of
from skerry.records.offers import Offers
from skerry.records.reconcile import Reconciliation, View, answer
from skerry.records.replica import Replica
from skerry.records.store import SqliteStore
from skerry.records.verbs import ExchangeReply, ExchangeRequest, ReconcileReply, ReconcileRequest
from skerry.sim.loop import run
from skerry.sim.spreading import LOSSY, Traffic, after_partition_s, late_joiner_s, spread
from skerry.sim.world import World

NOW_MS = 1_750_000_000_000
DAY_MS = 86_400_000
RECORD_BYTES = 620  # an agent's record with one offer, as a node signs it
LOOK_UPS = 3000
AUTHOR_AGENTS = 256
OFFERED_BY = 10  # agents have a capability in common
ROOT_SEED = bytes(31) + b"\x01"
# New objects: 200 nodes are millions, and were looked through for a seventh of the time.
GARBAGE_AFTER = 50_000
SYNC_PERIOD_S = EVERY_S * 1.2  # the longest that a node waits between two comparisons


async def measure_comparing(plan: Plan) -> list[Figure]:
    small = [_compared(10_000, 10, seed=number) for number in range(plan.rounds)]
    large = [_compared(100_000, 100, seed=number) for number in range(plan.rounds if plan.rounds > 2 else 1)]
    return [
        figure("10,000 records, 10 differ: round trips", "", [trips for trips, _, _ in small], asked=Asked(at_most=3)),
        figure(
            "the same: bytes, of a full copy", "%", [100 * size / (10_000 * RECORD_BYTES) for _, size, _ in small], asked=Asked(at_most=2)
        ),
        figure("100,000 records, 100 differ: one core, both sides", "s", [took_s for _, _, took_s in large], asked=Asked(at_most=1)),
    ]


def _compared(count: int, differing: int, *, seed: int) -> tuple[int, int, float]:
    """Round trips, bytes of all messages with the records, seconds."""
    chance = random.Random(seed)
    items = [item_of(chance.getrandbits(44), chance.randbytes(32)) for _ in range(count + differing)]
    half = differing // 2
    ours, theirs = Items(), Items()
    for number, item in enumerate(items):
        if number >= half:
            ours.add(item)
        if number < count + half:
            theirs.add(item)
    began = time.process_time()
    driver, size = Reconciliation(View([ours])), 0
    while ranges := driver.asks():
        size += len(pack_message(ReconcileRequest(NOW_MS, ranges)))
        answers, answered = answer(View([theirs]), ranges)
        size += len(pack_message(ReconcileReply(answers, answered, len(theirs), "0123456789abcdef.12345", NOW_MS)))
        driver.hears(answers, answered)
    took_s = time.process_time() - began
    if len(driver.lacking) != half or len(driver.extra) != differing - half:
        raise RuntimeError("a comparison did not find what differs")
    record = bytes(RECORD_BYTES)
    size += len(pack_message(ExchangeRequest([record] * len(driver.extra), b"".join(driver.lacking), NOW_MS, NOW_MS)))
    size += len(pack_message(ExchangeReply([record] * half, half, half, {}, NOW_MS)))
    return driver.rounds + 1, size, took_s


async def measure_ingest(plan: Plan) -> list[Figure]:
    """Records of agents into a store on the disk, as a pull brings them, beside libsodium's verification of the same signatures."""
    count = 2000 if plan.rounds > 2 else 500
    ours, theirs = [], []
    settle()  # as a node does
    for number in range(plan.rounds):
        root, authors = _key(), [_key() for _ in range(-(-count // AUTHOR_AGENTS))]
        said = [_agent(authors[n // AUTHOR_AGENTS], root.public, n) for n in range(count)]
        alike = [(author.sign(one.signed) + one.signed, author.public) for author in authors[:1] for one in said]
        theirs.append(count / _took(_verify_all, alike))
        store = SqliteStore(plan.folder / f"ingest-{number}.db")
        replica = Replica(store, formation=root.public, roster=Roster(root.public), ours=root.public)
        for author in authors:
            replica.ingest(_grant(root, author.public).signed, now_ms=NOW_MS)
        store.commit()
        ours.append(count / _took(_ingest_all, replica, store, [one.signed for one in said]))
        store.close()
    return [
        beside("records taken in", "/s", ours, peer="libsodium verifies", peer_rounds=theirs),
        figure("the same, as a share", "%", [100 * a / b for a, b in zip(ours, theirs, strict=True)], asked=Asked(at_least=70)),
    ]


def _key() -> KeyPair:
    return KeyPair.from_seed(os.urandom(32))


def _agent(author: KeyPair, formation: bytes, number: int) -> Statement:
    return state(
        author,
        kind="agent",
        name=f"{number:032x}",
        formation=formation,
        audience="formation",
        stamp=stamp_at(NOW_MS - 1000) + number,
        expires=NOW_MS + DAY_MS,
        body={"card": os.urandom(420), "status": "running"},
    )


def _grant(root: KeyPair, subject: bytes) -> Statement:
    return issue(root, formation=root.public, subject=subject, role=Role.OPERATOR, stamp=stamp_at(NOW_MS - 10_000))


def _verify_all(signed: list[tuple[bytes, bytes]]) -> None:
    for message, public in signed:
        crypto_sign_open(message, public)


def _ingest_all(replica: Replica, store: SqliteStore, records: list[bytes]) -> None:
    for signed in records:
        if not isinstance(replica.ingest(signed, now_ms=NOW_MS), Statement):
            raise RuntimeError("a record of the benchmark was refused")
    store.commit()


def _took(work: Callable[..., None], *arguments: object) -> float:
    gc.collect()
    began = time.process_time()
    work(*arguments)
    return time.process_time() - began


async def measure_store(plan: Plan) -> list[Figure]:
    """A process that opens a store of a million records (20,000 in short), makes the sets that it compares, and looks records up."""
    count = 1_000_000 if plan.rounds > 2 else 20_000
    path = plan.folder / "large.db"
    _fill(path, count)
    program = "import sys; from pathlib import Path; from benchmarks.records import look_up; look_up(Path(sys.argv[1]), int(sys.argv[2]))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path), str(count), stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    by_key_us, by_capability_us, rss_mib, opened_s = json.loads(out)
    return [
        figure(f"look-up by key among {count:,} records, p99", "us", [by_key_us], asked=Asked(at_most=1000)),
        figure(f"the same by capability, {OFFERED_BY} agents each, p99", "us", [by_capability_us], asked=Asked(at_most=1000)),
        figure(f"memory with a store of {count:,} records", "MiB", [rss_mib], asked=Asked(at_most=400)),
        figure("until they can be compared", "s", [opened_s]),
    ]


def _author(number: int) -> bytes:
    return blake3(number.to_bytes(8, "big")).digest()


def _fill(path: Path, count: int) -> None:
    """Records like those of agents, with signatures that nobody checks: what lies in a store was checked before."""
    store = SqliteStore(path)
    root = KeyPair.from_seed(ROOT_SEED)
    template = _agent(_key(), root.public, 0).signed
    for number in range(count):
        author, name = _author(number // AUTHOR_AGENTS), f"{number:032x}"
        if number % AUTHOR_AGENTS == 0:
            store.put(Row(author, "grant", author.hex(), stamp_at(NOW_MS), NOW_MS + DAY_MS, author, _grant(root, author).signed))
        store.set_offers(author, name, (_capability(number, count),))
        store.put(Row(author, "agent", name, stamp_at(NOW_MS) + number, NOW_MS + DAY_MS, blake3(name.encode()).digest(), template))
        if number % 10_000 == 0:
            store.commit()
    store.close()


def look_up(path: Path, count: int) -> None:
    """In a process of its own: prints p99 in us, memory in MiB, and how long it took until the sets were there."""
    began = time.perf_counter()
    store = SqliteStore(path)
    formation = KeyPair.from_seed(ROOT_SEED).public
    replica = Replica(store, formation=formation, roster=Roster(formation), ours=formation)
    holdings = Holdings(store, ours=formation, now_ms=NOW_MS)
    while not holdings.build():
        pass
    opened_s = time.perf_counter() - began
    chance, samples = random.Random(1), []
    for _ in range(LOOK_UPS):
        number = chance.randrange(count)
        began = time.perf_counter()
        found = replica.get(_author(number // AUTHOR_AGENTS), "agent", f"{number:032x}", now_ms=NOW_MS)
        samples.append((time.perf_counter() - began) * 1e6)
        if found is None:
            raise RuntimeError("a record of the benchmark was not found")
    offers, by_capability = Offers(store), []
    for _ in range(LOOK_UPS):
        capability = _capability(chance.randrange(count), count)
        began = time.perf_counter()
        agents = list(offers.find(capability, now_ms=NOW_MS))
        by_capability.append((time.perf_counter() - began) * 1e6)
        if len(agents) != OFFERED_BY:
            raise RuntimeError("a capability of the benchmark was not found")
    print(json.dumps([percentile(samples, 99), percentile(by_capability, 99), _rss_mib(), opened_s]))


def _capability(number: int, count: int) -> str:
    return f"custom:capability-{number % (count // OFFERED_BY)}"


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure_spreading(plan: Plan) -> list[Figure]:
    """In virtual time, over links of 20 ms that lose 2 % of all segments."""
    return await _simulated(_spreading, 200 if plan.rounds > 2 else 20)


async def measure_mending(plan: Plan) -> list[Figure]:
    """The same links, and a partition."""
    return await _simulated(_mending, 100 if plan.rounds > 2 else 12)


async def _simulated(play: Callable[[int], Coroutine[Any, Any, list[Figure]]], nodes: int) -> list[Figure]:
    """In a thread: this one's loop has real time."""

    def in_virtual_time() -> list[Figure]:
        before = gc.get_threshold()
        gc.set_threshold(GARBAGE_AFTER)
        logging.disable(logging.CRITICAL)
        try:
            return run(play(nodes))
        finally:
            logging.disable(logging.NOTSET)
            gc.set_threshold(*before)

    return await asyncio.get_running_loop().run_in_executor(None, in_virtual_time)


async def _spreading(nodes: int) -> list[Figure]:
    world = World("bench", link=LOSSY)
    machines = await world.formation(nodes)
    idle = await Traffic(world).bytes_s(seconds=60.0) / nodes
    times = [await spread(world, machines, machines[(37 * n) % nodes], f"agent-{n}") for n in range(5)]
    late_s = await late_joiner_s(world, machines, agents=1000)
    return [
        figure(f"{nodes} nodes, 20 ms, 2 % lost: a record is everywhere", "s", [one.took_s for one in times], asked=Asked(at_most=1.5)),
        figure("the same: heard too often, a node on average", "x", [one.duplicates for one in times], asked=Asked(at_most=3)),
        figure("the same: heard too often, a node at most", "x", [float(one.duplicates_most) for one in times]),
        figure("the same: idle, frames of a node", "B/s", [idle], asked=Asked(at_most=600)),
        figure("a late joiner holds 1,000 agents", "s", [late_s], asked=Asked(at_most=5)),
    ]


async def _mending(nodes: int) -> list[Figure]:
    world = World("bench", link=LOSSY)
    machines = await world.formation(nodes)
    took_s = await after_partition_s(world, machines, seconds=60.0, writes=nodes)
    return [figure(f"{nodes} nodes, apart for 60 s with {2 * nodes} writes: equal", "s", [took_s], asked=Asked(at_most=SYNC_PERIOD_S))]
