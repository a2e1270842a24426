"""`python -m skerry.sim`: plays seeds, prints a line for each, ends with 1 where one failed.

Without `--seed` it plays the fixed ones, those that once failed (`tests/sim/seeds.txt`, where it is there), and some fresh ones, which it
prints so that they can be played again.

The rule: what a failure needs to be seen again stands in its output: the seed, the options, the last lines of the trace.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time
from pathlib import Path

from skerry.sim.campaign import Plan, play
from skerry.sim.faults import SORTS
from skerry.sim.faults.weather import WEATHERS

FIXED = (1, 2, 3)
FRESH = 10
FRESH_BITS = 32
SEEDS_FILE = Path("tests/sim/seeds.txt")


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    options = _parser().parse_args(arguments)
    logging.disable(logging.CRITICAL)  # the trace says it, in order and with the virtual time
    failed = 0
    try:
        for plan in _plans(options):
            failed += not _play(plan, options.trace)
    finally:
        logging.disable(logging.NOTSET)
    if failed:
        print(f"{failed} failed")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skerry.sim", description="Whole nodes in virtual time, from a seed.")
    parser.add_argument("--seed", type=int, action="append", help="play this one; may be given more than once")
    parser.add_argument("--nodes", type=int, help="how many (default 5)")
    mixes = ", ".join(WEATHERS)
    parser.add_argument("--faults", help=f"what goes wrong: {mixes} (default wild), or faults with commas: {', '.join(SORTS)}")
    parser.add_argument("--seconds", type=float, help="how long it goes wrong, in virtual time (default 60)")
    parser.add_argument("--fresh", type=int, default=FRESH, help=f"how many fresh seeds without --seed (default {FRESH})")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write every event there")
    return parser


def _plans(options: argparse.Namespace) -> list[Plan]:
    chosen = {key: value for key in ("nodes", "faults", "seconds") if (value := getattr(options, key)) is not None}
    if options.seed:
        found = [plan for plan in known_plans(SEEDS_FILE) if plan.seed in options.seed] if not chosen else []
        left = [seed for seed in options.seed if seed not in {plan.seed for plan in found}]
        return [*found, *(Plan(seed, **chosen) for seed in left)]
    fresh = [secrets.randbits(FRESH_BITS) for _ in range(options.fresh)]
    return [*(Plan(seed, **chosen) for seed in FIXED), *known_plans(SEEDS_FILE), *(Plan(seed, **chosen) for seed in fresh)]


def known_plans(file: Path) -> list[Plan]:
    """The seeds that once failed: `seed nodes faults seconds`, a line each, `#` begins a comment."""
    if not file.is_file():
        return []
    lines = (line.partition("#")[0].split() for line in file.read_text(encoding="utf-8").splitlines())
    return [Plan(int(seed), int(nodes), faults, float(seconds)) for seed, nodes, faults, seconds in filter(None, lines)]


def _play(plan: Plan, trace_file: Path | None) -> bool:
    began = time.perf_counter()
    report = play(plan, trace_file=trace_file)
    took_s = time.perf_counter() - began
    how = f"seed {plan.seed:<10} {plan.nodes} nodes, {plan.faults:5} faults"
    pace = f"{report.virtual_s:6.1f} s in {took_s:5.2f} s ({report.virtual_s / took_s:4.0f} x)"
    pace += f", {report.trace_lines} events {report.digest[:8]}"
    if not report.failure:
        print(f"ok   {how}: {pace}", flush=True)
        return True
    print(f"FAIL {how}: {pace}")
    print("\n".join(f"     | {line}" for line in report.tail))
    print(f"     {report.failure}")
    print(f"     again: make sim SEED={plan.seed} NODES={plan.nodes} FAULTS={plan.faults} ARGS='--seconds {plan.seconds:g}'", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
