"""Content by its hash: the same content may be put by several at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from skerry.node.home import FileBlobs

AT_ONCE = 16
ROUNDS = 10


async def test_the_same_content_put_by_several_at_once_is_kept_once(tmp_path: Path) -> None:
    source = tmp_path / "agent.py"
    for number in range(ROUNDS):
        source.write_text(f"number = {number}\n")
        folder = tmp_path / f"blobs-{number}"
        folder.mkdir()
        blobs = FileBlobs(folder)
        digests = await asyncio.gather(*(blobs.put(source) for _ in range(AT_ONCE)))
        assert len(set(digests)) == 1
        place = blobs.path(digests[0])
        assert place is not None
        assert place.read_text() == source.read_text()
        assert [path.name for path in folder.iterdir()] == [digests[0]], "and nothing half-way stays"
