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
    _check(_talk())


def test_two_desks_go_on_where_one_is_killed_in_between() -> None:
    said = _talk("--kill")
    (killed,) = [number for number, line in enumerate(said) if line.startswith("(the node light is killed")]
    assert killed >= 3, "the second question was asked"
    _check([*said[:killed], *said[killed + 1 :]])


def _talk(*args: str) -> list[str]:
    done = subprocess.run([sys.executable, str(DESKS / "talk.py"), *args], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def _check(lines: list[str]) -> None:
    said = [line.partition(": ") for line in lines]
    assert [who for who, _, _ in said] == ["visitor", "light/light/keeper"] * 2
    assert all(len(what) > 20 for _, _, what in said)
