"""Whole worlds from seeds: the fixed ones, those that once failed, and fresh ones, each printed; and the same seed is the same world."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.sim.__main__ import FIXED, known_plans, main
from skerry.sim.campaign import Plan, play

FOUND = known_plans(Path(__file__).with_name("seeds.txt"))
FRESH = 20
PLANS = [
    *(Plan(seed, faults=faults) for seed in FIXED for faults in ("none", "light", "heavy")),
    *FOUND,
    *(Plan(secrets.randbits(32), seconds=30) for _ in range(FRESH)),
]


def _name(plan: Plan) -> str:
    return "fresh" if plan.seconds == 30 else f"{plan.seed}-{plan.faults}"


@pytest.mark.parametrize("number", range(len(PLANS)), ids=[f"{number}-{_name(plan)}" for number, plan in enumerate(PLANS)])
def test_a_seed_ends_well(number: int) -> None:
    plan = PLANS[number]
    print(f"make sim SEED={plan.seed} NODES={plan.nodes} FAULTS={plan.faults} ARGS='--seconds {plan.seconds:g}'")
    report = play(plan)
    assert not report.failure, "\n".join([*report.tail, report.failure])
    assert report.outcomes.get("done"), "a world in which nothing is done shows nothing"


def test_the_found_seeds_are_read() -> None:
    assert len(FOUND) >= 9
    assert FOUND[0] == Plan(111, 5, "heavy", 60.0)


@pytest.mark.parametrize("faults", ["none", "heavy"])
def test_the_same_seed_is_the_same_world_under_any_hash_seed(faults: str, tmp_path: Path) -> None:
    traces = []
    for hash_seed in ("1", "2"):
        file = tmp_path / hash_seed
        command = [sys.executable, "-m", "skerry.sim", "--seed", "12", "--faults", faults, "--seconds", "30", "--trace", str(file)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True)
        traces.append(file.read_bytes())
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) > 500


def test_another_seed_is_another_world() -> None:
    assert play(Plan(1, nodes=3, seconds=10)).digest != play(Plan(2, nodes=3, seconds=10)).digest


def test_a_failure_says_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("skerry.sim.checkers.bounds.LINKS_EACH", 0)  # bounds that nobody keeps
    monkeypatch.setattr("skerry.sim.checkers.bounds.LINKS_HOSTILE", 0)
    assert main(["--seed", "5", "--nodes", "3", "--seconds", "20"]) == 1
    said = capsys.readouterr().out
    assert "FAIL seed 5" in said
    assert "links in a world of 3 nodes" in said
    assert "make sim SEED=5 NODES=3 FAULTS=heavy ARGS='--seconds 20'" in said
