"""NATS, where it is installed: a server, a process that answers, and a client in this one; over TLS 1.3, as all that is measured here.

The server hands messages on between the two clients, both in Python (`nats-py`). No account, no file: nothing but request and reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import cbor2

from benchmarks.ports import accepts, free_port
from benchmarks.self_signed import dialling_context, pem
from skerry.channel.messages import pack_message, unpack_message
from skerry.node.verbs import Nothing, PingReply

Request = Callable[[str, bytes], Awaitable[bytes]]  # subject, body -> the reply's body
START_S = 15.0


def missing() -> str:
    """What to install; "" where all is there."""
    if shutil.which("nats-server") is None:
        return "there is no nats-server on the path"
    return "" if importlib.util.find_spec("nats") else "pip install nats-py"


@contextlib.asynccontextmanager
async def requests() -> AsyncIterator[Request]:
    """Requests to the process that answers."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        certificate = Path(folder) / "echo.pem"
        certificate.write_bytes(pem())
        options = ("-a", "127.0.0.1", "-p", str(port), "--tls", "--tlscert", str(certificate), "--tlskey", str(certificate))
        async with _process("nats-server", *options, stderr=asyncio.subprocess.DEVNULL):
            await accepts(port, within_s=START_S)
            url = f"tls://127.0.0.1:{port}"
            async with _process(sys.executable, "-m", "benchmarks.nats_responder", url, stdout=asyncio.subprocess.PIPE) as responder:
                assert responder.stdout is not None
                async with asyncio.timeout(START_S):
                    if not await responder.stdout.readline():
                        raise RuntimeError("what answers over NATS did not start; its error stands above")
                client = await connected(url)

                async def request(subject: str, body: bytes) -> bytes:
                    reply: bytes = (await client.request(subject, body, timeout=START_S)).data
                    return reply

                yield request
                await client.close()


@contextlib.asynccontextmanager
async def calls() -> AsyncIterator[Callable[[Any], Awaitable[object]]]:
    """An echo of whatever it is given."""
    async with requests() as request:

        async def call(payload: Any) -> object:
            return cbor2.loads(await request("echo", cbor2.dumps(payload)))

        yield call


@contextlib.asynccontextmanager
async def pings() -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """The verb `ping`, with the same bytes in its body and in its reply."""
    async with requests() as request:

        async def ping() -> object:
            return unpack_message(PingReply, await request("ping", pack_message(Nothing())))

        yield ping


async def connected(url: str) -> Any:
    """A client. It ends its process where the server goes, and says nothing of that."""
    import nats  # only where it was asked for

    return await nats.connect(url, tls=dialling_context(), tls_hostname="127.0.0.1", allow_reconnect=False)


@contextlib.asynccontextmanager
async def _process(*command: str, **how: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, **how)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
