"""What a worker does whose work its node did not keep: it says so to whoever waits, begins nothing more, and ends."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from skerry.agents.runtimes.contract import Checkpointing
from skerry.agents.unkept import LOOK_S, LOOKS, Unkept
from skerry.errors import Code, StorageError
from skerry.identity.pieces import Pieces
from tests.support.links import simulated


class Counted:
    """A state that every look finds changed."""

    stateful = True
    count = 0

    def checkpoint(self) -> bytes:
        self.count += 1
        return b"%d" % self.count


async def full(_: bytes | Pieces) -> None:
    raise StorageError("the disk is full", code=Code.DISK_FULL)


@simulated
async def test_whoever_waits_hears_why_before_the_process_ends() -> None:
    ends, busy = asyncio.Event(), [True]
    unkept = Unkept(full, lost=ends.set, is_busy=lambda: busy[0])
    unkept.began()
    with pytest.raises(StorageError, match="the disk is full"):
        await unkept.ended(cast("Checkpointing", Counted()), [])
    assert unkept.is_lost
    await asyncio.sleep(10 * LOOK_S)
    assert not ends.is_set(), "the answer has not left yet"
    busy.clear()
    busy.append(False)
    await asyncio.sleep(2 * LOOK_S)
    assert ends.is_set()


@simulated
async def test_who_is_always_busy_ends_all_the_same_and_once() -> None:
    ends: list[float] = []
    loop = asyncio.get_running_loop()
    unkept = Unkept(full, lost=lambda: ends.append(loop.time()), is_busy=lambda: True)
    began, runtime = loop.time(), cast("Checkpointing", Counted())
    for _ in range(2):
        unkept.began()
        with pytest.raises(StorageError):
            await unkept.ended(runtime, [])
    await asyncio.sleep(3 * LOOKS * LOOK_S)
    assert len(ends) == 1
    assert ends[0] - began == pytest.approx(LOOKS * LOOK_S)
