"""Hosts agents: stores what they are made of, starts their workers, brings them back after a crash and with the node.

What an agent is (its spec) is a private fact of the node, its key lies in the keyring, its code or model in the blobs; all three are
there before it is called running. How one agent lives from day to day is `resident.py`'s.

The rule: an agent that crashes, hangs or can't be loaded takes nothing along but itself.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from skerry.agents.about import checked_about
from skerry.agents.capability import check_capability
from skerry.agents.environments import INSTALL_TIMEOUT_S, inline_requirements
from skerry.agents.launch import STATES, VARIABLES
from skerry.agents.mailbox import CURSORS
from skerry.agents.resident import CallMesh, Keep, Resident
from skerry.agents.runtimes import tokenizer_beside
from skerry.agents.shipment import unpacked
from skerry.agents.spec import TOKENIZER, Spec
from skerry.agents.target import Target, read_target
from skerry.agents.verbs import AgentRunRequest
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, Refused, SkerryError, StorageError, UsageError
from skerry.identity.codec import encode
from skerry.identity.keys import KeyPair, agent_id
from skerry.ports import Ports

SPECS = "agent"  # the space of facts where specs are kept
AGENTS_MAX = 256  # per node: as many `agent` records as one author may have
NAME_CHARACTERS_MAX = 64
CONCURRENCY_MAX = 1000
START_TIMEOUT_S = 120.0  # of the first start: a large model loads from a slow disk
log = logging.getLogger(__name__)


class Host:
    """All agents of one node. `changed` hears of every agent whose status or offers changed, `gone` of those removed."""

    def __init__(
        self,
        ports: Ports,
        *,
        logs: Path | None,
        work: Path | None,
        call_mesh: CallMesh,
        changed: Callable[[Resident], None],
        gone: Callable[[Spec], None],
        keep: Keep,
        elsewhere: Callable[[str], str] = lambda name: "",
    ) -> None:
        """elsewhere: says to whoever asks for an agent that is not here where there is one of that name, "" where there is none."""
        self._ports = ports
        self._keep = keep
        self._elsewhere = elsewhere
        self._logs = logs
        self._work = work
        self._call_mesh = call_mesh
        self._changed = changed
        self._gone = gone
        self._residents: dict[str, Resident] = {}
        self._closed = False

    def all(self) -> list[Resident]:
        """Every agent of this node, running or not, by name."""
        return sorted(self._residents.values(), key=lambda resident: resident.spec.name)

    def get(self, identity: str) -> Resident | None:
        return self._residents.get(identity)

    def find(self, name: str) -> Resident | None:
        """By name or id."""
        return next((one for one in self._residents.values() if name in (one.spec.name, one.spec.id)), None)

    def names(self) -> str:
        """All of them, for people."""
        return ", ".join(resident.spec.name for resident in self.all()) or "none"

    def named(self, name: str) -> Resident:
        """By name or id. Raises Refused(unknown_agent) with the names there are, and where else there is one of that name."""
        resident = self.find(name)
        if resident is not None:
            return resident
        hint = self._elsewhere(name) or "`skerry agent list` shows all"
        raise Refused(f"no agent {name!r} on this node; there are: {self.names()}", code=Code.UNKNOWN_AGENT, hint=hint)

    def start_all(self) -> None:
        """Bring back what ran when the node ended."""
        for key, data in self._ports.store.facts(SPECS):
            spec = unpack_message(Spec, data)
            seed = self._ports.keyring.load(_key_name(key))
            if seed is None:
                log.error("the agent %s has lost its key and stays away: restore %s in the home", spec.name, _key_name(key))
                continue
            self._admit(spec, KeyPair.from_seed(seed))

    async def add(self, request: AgentRunRequest) -> Resident:
        """Host something new, and wait until it is healthy. Where that fails nothing of it stays. Raises SkerryError with the reason."""
        self._check_open()
        with unpacked(request) as local:
            target = read_target(local.target, folder=local.folder)
            spec = self._spec(local, target)
            held = self._holder(spec.name) if request.replace else None
            if held is None:
                self._check_name(spec.name)
                if len(self._residents) >= AGENTS_MAX:
                    raise Refused(f"this node hosts {AGENTS_MAX} agents already", code=Code.BUSY, hint="remove one, or use another node")
            spec = await self._store_files(spec, target)
        if held is not None:
            return await self._replace(held, spec, request)
        self._check_open()
        self._check_name(spec.name)  # another one may have come while files were copied
        key = KeyPair.from_seed(self._ports.random.token(32))
        spec = replace(spec, id=agent_id(key.public))
        self._ports.keyring.save(_key_name(spec.id), key.seed)
        self._save(spec, request.environment)
        resident = self._admit(spec, key)
        try:
            await self._wait_for_start(resident)
        except BaseException as error:
            await self.remove(resident)
            if isinstance(error, SkerryError) and "agent logs" in error.hint:  # of which there is none by that name now
                error.hint = f"its log stays where it was: {self.log_file(spec)}"
            raise
        return resident

    async def _replace(self, resident: Resident, spec: Spec, request: AgentRunRequest) -> Resident:
        """Put other code or another model under an agent's key and state. Where it does not start, what was there before goes on."""
        async with self._changing(resident):
            before = resident.spec
            variables = self._ports.store.fact(VARIABLES, before.id)
            await resident.stop(keep_status=True)
            self._check_open()
            share = spec.share or before.share
            resident.spec = now = replace(spec, id=before.id, created_at=before.created_at, paused=before.paused, share=share)
            self._save(resident.spec, request.environment)
            resident.start()
        try:
            await self._wait_for_start(resident)
        except BaseException:
            async with self._changing(resident):
                if resident.spec.digest != now.digest or resident.spec.entry != now.entry:
                    raise  # somebody else put another one there since
                await resident.stop(keep_status=True)
                resident.spec = replace(before, running=resident.spec.running, paused=resident.spec.paused)
                self._save(resident.spec)
                self._ports.store.set_fact(VARIABLES, before.id, variables, durable=True)
                await self._drop_unused(spec)
                if resident.spec.running and not self._closed:
                    resident.start()
            raise
        await self._drop_unused(before)
        return resident

    def _spec(self, request: AgentRunRequest, target: Target) -> Spec:
        """What is asked for, before it has a key and its files are stored. Raises UsageError for what can't be."""
        capabilities = [check_capability(capability) for capability in request.capabilities] or list(target.default_capabilities)
        if not 1 <= request.concurrency <= CONCURRENCY_MAX:
            raise UsageError(f"an agent can't work on {request.concurrency} tasks at once", hint=f"choose 1 to {CONCURRENCY_MAX}")
        requirements = request.requirements
        if target.runtime == "python" and not requirements:
            requirements = inline_requirements(Path(request.target.rpartition(":")[0]))
        if requirements and target.runtime != "python":
            raise UsageError("only a Python agent has requirements", hint="leave --requirements out")
        return Spec(
            id="",
            name=request.name or target.default_name,
            runtime=target.runtime,
            entry=target.entry,
            digest="",
            options={**request.options, "capabilities": capabilities},
            concurrency=request.concurrency,
            memory_bytes=request.memory_bytes,
            requirements=requirements,
            settings=dict(request.settings),
            share=list(request.share),
            about=checked_about(request.about),
            created_at=self._ports.clock.now_ms(),
        )

    async def _wait_for_start(self, resident: Resident) -> None:
        limit_s = START_TIMEOUT_S + (INSTALL_TIMEOUT_S if resident.spec.requirements else 0)
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.shield(resident.first_start)
        except TimeoutError:
            raise Refused(
                f"the agent {resident.spec.name!r} was not ready within {limit_s:g} s", code=Code.AGENT_FAILED, hint=_LOGS
            ) from None

    async def stop(self, resident: Resident) -> None:
        """Withdraw it, end its worker, keep it."""
        async with self._changing(resident):
            self.keep(resident, replace(resident.spec, running=False))
            await resident.stop()

    async def start(self, resident: Resident) -> None:
        """Bring a stopped or failed agent back, and wait until it is healthy."""
        async with self._changing(resident):
            self._check_open()
            self.keep(resident, replace(resident.spec, running=True))
            resident.start()
        await self._wait_for_start(resident)

    async def restart(self, resident: Resident) -> None:
        """End its process and start another, with the state that was kept."""
        self._check_open()
        async with self._changing(resident):
            await resident.stop(keep_status=True)
        await self.start(resident)

    def pause(self, resident: Resident, *, paused: bool) -> None:
        """Give it no new tasks, or give it tasks again. Outlives a restart."""
        self.keep(resident, replace(resident.spec, paused=paused))
        resident.pause(paused)

    def keep(self, resident: Resident, spec: Spec) -> None:
        """What is known of an agent changed, and not what it runs."""
        self._save(spec)
        resident.spec = spec

    async def remove(self, resident: Resident) -> None:
        """End it and forget it: key, spec, state, cursors, files that nobody else uses. Raises StorageError: then it is there as before."""
        async with self._changing(resident):
            await resident.stop()
            spec, store = resident.spec, self._ports.store
            cursors = [(CURSORS + spec.id, session, None) for session, _ in store.facts(CURSORS + spec.id)]
            try:  # in one commit: without its state it would count from one again
                store.keep_together([(SPECS, spec.id, None), (STATES, spec.id, None), (VARIABLES, spec.id, None), *cursors])
            except StorageError:
                if spec.running and not self._closed:
                    resident.start()
                raise
            with suppress(StorageError):  # a loss of power now would bring it back, whole
                store.set_fact(SPECS, spec.id, None, durable=True)
            self._residents.pop(spec.id, None)  # not before: what a full disk keeps would come back with the node
            self._ports.keyring.delete(_key_name(spec.id))
            if self._work is not None:
                await asyncio.to_thread(shutil.rmtree, self._work / spec.id, ignore_errors=True)
            await self._drop_unused(spec)
            self._gone(spec)

    async def _drop_unused(self, spec: Spec) -> None:
        """Remove the files and the environment of a spec that is no more, where no other agent uses them."""
        specs = [other.spec for other in self._residents.values()]
        used = {digest for other in specs for digest in other.digests}
        for digest in spec.digests:
            if digest not in used:
                await self._ports.blobs.drop(digest)
        if spec.requirements and self._ports.environments is not None:
            await self._ports.environments.keep_only([other.requirements for other in specs if other.requirements])

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(self._end(resident) for resident in self._residents.values()))

    async def _end(self, resident: Resident) -> None:
        async with resident.changing:  # who stops or removes it at this moment has to come to the end of it
            await resident.stop(keep_status=True)

    def open_again(self) -> None:
        """It closed, and the node goes on all the same."""
        self._closed = False
        for resident in self._residents.values():
            if resident.spec.running:
                resident.start()

    # --- inside ---------------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _changing(self, resident: Resident) -> AsyncIterator[None]:
        """Whoever starts, stops, replaces or removes an agent does so alone. Raises Refused where it was removed meanwhile."""
        async with resident.changing:
            if self._residents.get(resident.spec.id) is not resident:
                raise Refused(f"the agent {resident.spec.name!r} was removed", code=Code.UNKNOWN_AGENT)
            yield

    def _check_open(self) -> None:
        if self._closed:
            raise Refused("the node shuts down", code=Code.SHUTTING_DOWN)

    def _admit(self, spec: Spec, key: KeyPair) -> Resident:
        resident = Resident(
            spec,
            key,
            ports=self._ports,
            log_file=self.log_file(spec),
            work=self._work,
            call_mesh=self._call_mesh,
            changed=self._changed,
            keep=self._keep,
        )
        self._residents[spec.id] = resident
        if spec.running:
            resident.start()
        return resident

    def log_file(self, spec: Spec) -> Path | None:
        return self._logs / f"{spec.name}.log" if self._logs is not None else None

    def _check_name(self, name: str) -> None:
        if not 0 < len(name) <= NAME_CHARACTERS_MAX or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
            raise UsageError(
                f"{name!r} is no name for an agent: 1 to {NAME_CHARACTERS_MAX} letters, digits, '-', '_' or '.' are wanted",
                hint="give one with --name",
            )
        if self._holder(name) is not None:
            raise Refused(
                f"the name {name!r} is taken on this node", code=Code.NAME_TAKEN, hint="give another with --name, or remove that agent"
            )

    def _holder(self, name: str) -> Resident | None:
        return next((resident for resident in self._residents.values() if resident.spec.name == name), None)

    async def _store_files(self, spec: Spec, target: Target) -> Spec:
        """Copy what the agent is made of into the blobs; its options then name digests, not the user's paths."""
        if target.path is None:
            return spec
        options = dict(spec.options)
        tokenizer = options.pop(TOKENIZER, "") or (tokenizer_beside(target.path) if target.runtime == "onnx" else None)
        digest = await self._ports.blobs.put(target.path)
        files = {TOKENIZER: await self._ports.blobs.put(Path(tokenizer))} if tokenizer else {}
        return replace(spec, digest=digest, options=options, files=files)

    def _save(self, spec: Spec, environment: dict[str, str] | None = None) -> None:
        if environment is not None:
            self._ports.store.set_fact(VARIABLES, spec.id, encode(environment) if environment else None)
        self._ports.store.set_fact(SPECS, spec.id, pack_message(spec), durable=True)


def _key_name(identity: str) -> str:
    return f"agent-{identity}"


_LOGS = "`skerry agent logs` shows what it said"
