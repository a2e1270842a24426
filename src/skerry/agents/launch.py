"""What an agent's process is started with, and what is said to it first.

The rule: a process sees the files that its agent is made of, a folder of its own, and no other variables than its agent's.
"""

from __future__ import annotations

from pathlib import Path

from skerry.agents.spec import Spec
from skerry.agents.verbs import ActivateRequest
from skerry.channel.messages import pack_message
from skerry.errors import StorageError
from skerry.identity.codec import unpack
from skerry.ports import Fact, Ports, WorkerStart

STATES = "state"  # the space of facts with what agents declare as their state
VARIABLES = "environment"  # the space of facts with agents' environment variables, which may be secrets
_EMPTY_MAP = b"\xa0"


def state_facts(agent: str, state: bytes | None) -> list[Fact]:
    """What there is to write of a state that a worker brought; None: it did not change."""
    return [(STATES, agent, state)] if state is not None else []


class Launch:
    """For one agent, however often it starts."""

    def __init__(self, ports: Ports, *, log_file: Path | None, work: Path | None) -> None:
        """`work`: the folder in which agents have theirs."""
        self._ports = ports
        self._log_file = log_file
        self._work = work

    def activation(self, spec: Spec) -> bytes:
        """The request that makes a worker this agent, with the state that was kept. Raises StorageError where a file is gone."""
        options = dict(spec.options)
        for option, digest in spec.files.items():
            options[option] = str(self._stored(spec, digest))
        state = self._ports.store.fact(STATES, spec.id) or b""
        path = str(self._stored(spec, spec.digest)) if spec.digest else ""
        return pack_message(ActivateRequest(spec.runtime, spec.name, path, spec.entry, options, spec.concurrency, spec.settings, state))

    async def start(self, spec: Spec) -> WorkerStart:
        """What the process needs: environment, interpreter, the files that a sandbox must show, a folder of its own."""
        ports = self._ports
        python = ""
        if spec.requirements and ports.environments is not None:
            python = await ports.environments.ensure(spec.requirements)
        environment = {key: str(value) for key, value in unpack(ports.store.fact(VARIABLES, spec.id) or _EMPTY_MAP).items()}
        readable = [self._stored(spec, digest) for digest in spec.digests]
        if spec.options.get("api_key_file"):
            readable.append(Path(spec.options["api_key_file"]))
        if python:
            readable.append(Path(python).parents[1])
        work = None
        if self._work is not None:
            work = self._work / spec.id
            try:
                work.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StorageError(f"{work} can't be made: {error.strerror}") from error
        return WorkerStart(spec.name, self._log_file, environment, python, tuple(readable), work, spec.memory_bytes)

    def _stored(self, spec: Spec, digest: str) -> Path:
        path = self._ports.blobs.path(digest)
        if path is None:
            raise StorageError(
                f"what the agent {spec.name!r} is made of ({digest[:10]}) is gone from the home",
                hint=f"`skerry agent remove {spec.name}`, then run it again",
            )
        return path
