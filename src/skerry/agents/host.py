"""Hosts agents: stores what they are made of, starts their workers, brings them back after a crash and with the node.

What an agent is (its spec) is a private fact of the node, its key lies in the keyring, its code or model in the blobs; all three are
there before it is called running. How one agent lives from day to day is `resident.py`'s.

The rule: an agent that crashes, hangs or can't be loaded takes nothing along but itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from skerry.agents.capability import check_capability
from skerry.agents.resident import CallMesh, Resident
from skerry.agents.runtimes import tokenizer_beside
from skerry.agents.spec import TOKENIZER, Spec
from skerry.agents.target import Target, read_target
from skerry.agents.verbs import AgentRunRequest
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, Refused, UsageError
from skerry.identity.keys import KeyPair, agent_id
from skerry.ports import Ports

SPECS = "agent"  # the space of facts where specs are kept
AGENTS_MAX = 256  # per node: as many `agent` records as one author may have
NAME_CHARACTERS_MAX = 64
START_TIMEOUT_S = 120.0  # of the first start: a large model loads from a slow disk
log = logging.getLogger(__name__)


class Host:
    """All agents of one node. `changed` hears of every agent whose status or offers changed, `gone` of those removed."""

    def __init__(
        self,
        ports: Ports,
        *,
        logs: Path | None,
        call_mesh: CallMesh,
        changed: Callable[[Resident], None],
        gone: Callable[[Spec], None],
    ) -> None:
        self._ports = ports
        self._logs = logs
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

    def named(self, name: str) -> Resident:
        """By name or id. Raises Refused(unknown_agent) with the names there are."""
        for resident in self._residents.values():
            if name in (resident.spec.name, resident.spec.id):
                return resident
        names = ", ".join(resident.spec.name for resident in self.all()) or "none"
        raise Refused(f"no agent {name!r} on this node; there are: {names}", code=Code.UNKNOWN_AGENT, hint="`skerry agent list` shows all")

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
        if self._closed:
            raise Refused("the node shuts down", code=Code.SHUTTING_DOWN)
        target = read_target(request.target, folder=request.folder)
        name = request.name or target.default_name
        self._check_name(name)
        if len(self._residents) >= AGENTS_MAX:
            raise Refused(f"this node hosts {AGENTS_MAX} agents already", code=Code.BUSY, hint="remove one, or use another node")
        capabilities = [check_capability(capability) for capability in request.capabilities] or list(target.default_capabilities)
        key = KeyPair.from_seed(self._ports.random.token(32))
        spec = Spec(agent_id(key.public), name, target.runtime, target.entry, "", created_at=self._ports.clock.now_ms())
        spec = replace(spec, options={**request.options, "capabilities": capabilities})
        spec = await self._store_files(spec, target)
        self._check_name(name)  # another one may have come while files were copied
        self._ports.keyring.save(_key_name(spec.id), key.seed)
        self._save(spec)
        resident = self._admit(spec, key)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await resident.first_start
        except TimeoutError:
            await self.remove(resident)
            raise Refused(f"the agent {name!r} was not ready within {START_TIMEOUT_S:g} s", code=Code.AGENT_FAILED, hint=_LOGS) from None
        except BaseException:
            await self.remove(resident)
            raise
        return resident

    async def stop(self, resident: Resident) -> None:
        """Withdraw it, end its worker, keep it."""
        resident.spec = replace(resident.spec, running=False)
        self._save(resident.spec)
        await resident.stop()

    async def start(self, resident: Resident) -> None:
        """Bring a stopped or failed agent back, and wait until it is healthy."""
        resident.spec = replace(resident.spec, running=True)
        self._save(resident.spec)
        resident.start()
        await resident.first_start

    async def remove(self, resident: Resident) -> None:
        """End it and forget it: key, spec, files that nobody else uses."""
        await resident.stop()
        spec = resident.spec
        self._residents.pop(spec.id, None)
        self._ports.store.set_fact(SPECS, spec.id, None, durable=True)
        self._ports.keyring.delete(_key_name(spec.id))
        used = {digest for other in self._residents.values() for digest in other.spec.digests}
        for digest in spec.digests:
            if digest not in used:
                await self._ports.blobs.drop(digest)
        self._gone(spec)

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(resident.stop(keep_status=True) for resident in self._residents.values()))

    # --- inside ---------------------------------------------------------------------------------------------------------------

    def _admit(self, spec: Spec, key: KeyPair) -> Resident:
        resident = Resident(spec, key, ports=self._ports, log_file=self.log_file(spec), call_mesh=self._call_mesh, changed=self._changed)
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
        if any(resident.spec.name == name for resident in self._residents.values()):
            raise Refused(
                f"the name {name!r} is taken on this node", code=Code.NAME_TAKEN, hint="give another with --name, or remove that agent"
            )

    async def _store_files(self, spec: Spec, target: Target) -> Spec:
        """Copy what the agent is made of into the blobs; its options then name digests, not the user's paths."""
        if target.path is None:
            return spec
        options = dict(spec.options)
        tokenizer = options.pop(TOKENIZER, "") or (tokenizer_beside(target.path) if target.runtime == "onnx" else None)
        digest = await self._ports.blobs.put(target.path)
        files = {TOKENIZER: await self._ports.blobs.put(Path(tokenizer))} if tokenizer else {}
        return replace(spec, digest=digest, options=options, files=files)

    def _save(self, spec: Spec) -> None:
        self._ports.store.set_fact(SPECS, spec.id, pack_message(spec), durable=True)


def _key_name(identity: str) -> str:
    return f"agent-{identity}"


_LOGS = "`skerry agent logs` shows what it said"
