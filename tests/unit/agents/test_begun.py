"""What a worker has begun is known after its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from skerry.agents.begun import Begun, shared_file

BEGINS = """
import os, signal, sys
from skerry.agents.begun import Begun
begun = Begun(int(sys.argv[1]))
begun.reach(7)
begun.reach(3)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_highest_turn_stands_after_a_kill() -> None:
    descriptor = shared_file()
    begun = Begun(descriptor)
    assert begun.turn == 0
    died = subprocess.run([sys.executable, "-c", BEGINS, str(descriptor)], pass_fds=[descriptor], timeout=20, check=False)
    os.close(descriptor)
    assert died.returncode == -signal.SIGKILL
    assert begun.turn == 7


def test_within_one_process_it_needs_no_file() -> None:
    begun, other = Begun(), Begun()
    begun.reach(2**40)
    assert (begun.turn, other.turn) == (2**40, 0)
