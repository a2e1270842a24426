"""The process that answers over NATS."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import cbor2


async def _answer(url: str) -> None:
    import nats  # only where it was asked for

    client = await nats.connect(url)

    async def echo(message: Any) -> None:
        await message.respond(cbor2.dumps(cbor2.loads(message.data)))

    await client.subscribe("echo", cb=echo)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_answer(sys.argv[1]))
