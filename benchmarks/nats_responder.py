"""The process that answers over NATS: `echo`, and `ping` as a node does it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import cbor2

from benchmarks.nats_peer import connected
from skerry.channel.messages import pack_message, unpack_message
from skerry.node.verbs import Nothing, PingReply


async def _answer(url: str) -> None:
    client = await connected(url)

    async def echo(message: Any) -> None:
        await message.respond(cbor2.dumps(cbor2.loads(message.data)))

    async def ping(message: Any) -> None:
        unpack_message(Nothing, message.data)
        await message.respond(pack_message(PingReply("alone", time.time_ns() // 1_000_000)))

    await client.subscribe("echo", cb=echo)
    await client.subscribe("ping", cb=ping)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_answer(sys.argv[1]))
