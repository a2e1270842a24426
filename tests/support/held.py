"""What a node holds, seen from outside: memory and open files as the system says, tasks and the like from its metrics, its home on disk."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.support.nodes import Node

METRICS_TIMEOUT_S = 20.0


def rss_mib(node: Node) -> float:
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def open_files(node: Node) -> int:
    return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))


def metrics(node: Node) -> str:
    request = urllib.request.Request(f"http://{node.ready['http']}/metrics", headers={"Authorization": f"Bearer {node.ready['token']}"})
    with urllib.request.urlopen(request, timeout=METRICS_TIMEOUT_S) as answer:
        return str(answer.read().decode())


def gauge(text: str, name: str) -> int:
    """The sum over all labels."""
    return sum(int(float(value)) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def on_disk(home: Path) -> tuple[int, float]:
    """Files of a home, and MiB in them. What goes while it is looked at is not counted."""
    sizes = []
    for path in home.rglob("*"):
        try:
            if path.is_file():
                sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return len(sizes), sum(sizes) / 1024 / 1024
