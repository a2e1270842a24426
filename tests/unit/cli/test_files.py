"""A node takes what the system allows."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import resource
from skerry.cli.files import raise_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def limits(soft: int, hard: str) -> list[int]:
    code = CODE.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    assert limits(256, "1500") == [1500, 1500]


def test_what_is_high_enough_stays() -> None:
    assert limits(300, "300") == [300, 300]
