"""The examples, run as their READMEs say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DESKS = Path(__file__).parents[2] / "examples" / "two-desks"


def test_two_desks_hold_a_conversation() -> None:
    readme = (DESKS / "README.md").read_text().splitlines()
    assert len(readme) == 10
    assert "    .venv/bin/python examples/two-desks/talk.py" in readme
    done = subprocess.run([sys.executable, str(DESKS / "talk.py")], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.partition(": ") for line in done.stdout.splitlines()]
    assert [who for who, _, _ in said] == ["visitor", "light/light/keeper"] * 2
    assert all(len(what) > 20 for _, _, what in said)
