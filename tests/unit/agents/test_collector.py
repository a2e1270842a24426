"""Memory stays bounded although garbage is looked for less often. In a process of its own: the collector is the whole process's."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from skerry.agents.collector import settle

class Knot:
    def __init__(self):
        self.itself = self

settle()
alive = weakref.WeakSet()
most = 0
for _ in range(200_000):
    alive.add(Knot())
    most = max(most, len(alive))
print(most, gc.get_freeze_count())
"""


def test_cycles_are_found_also_later() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    most, frozen = (int(word) for word in said.stdout.split())
    assert 700 < most <= 10_100
    assert frozen > 1000
