"""`python -m skerry.sim`: plays seeds, prints a line for each, ends with 1 where one failed.

Without `--seed` it plays the fixed ones, those that once failed (`tests/sim/seeds.txt`, where it is there), and 200 fresh ones in short
worlds, which it draws from the time and prints so that they can be played again. Several are played at once, in processes of their own.

The rule: what a failure needs to be seen again stands in its output: the seed, the options, the last lines of the trace.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from skerry.errors import UsageError
from skerry.sim.campaign import Plan, Report, play
from skerry.sim.faults import SORTS
from skerry.sim.faults.weather import WEATHERS, weather_of
from skerry.sim.steady import STEADY_NODES, STEADY_S, live

FIXED = (1, 2, 3)
FRESH = 200
FRESH_SECONDS = 30.0  # of faults in a fresh world
FRESH_MOST = 2**32
SEEDS_FILE = Path("tests/sim/seeds.txt")


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    options = _parser().parse_args(arguments)
    logging.disable(logging.CRITICAL)  # the trace says it, in order and with the virtual time
    try:
        if options.faults is not None:
            weather_of(options.faults, sorts=frozenset(SORTS))
        if options.steady:
            steady = live(options.nodes or STEADY_NODES, seconds=options.seconds or STEADY_S)
            print(steady, flush=True)
            return 1 if steady.grown else 0
        return _play_all(_plans(options), jobs=options.jobs, trace_file=options.trace)
    except UsageError as error:
        print(f"{error.message}; {error.hint}", file=sys.stderr)
        return 2
    finally:
        logging.disable(logging.NOTSET)


def _play_all(plans: list[Plan], *, jobs: int, trace_file: Path | None) -> int:
    failed = 0
    for report, took_s in _reports(plans, jobs=min(jobs, len(plans)) if trace_file is None else 1, trace_file=trace_file):
        _print(report, took_s)
        failed += bool(report.failure)
    if failed:
        print(f"{failed} failed")
    return 1 if failed else 0


def _reports(plans: list[Plan], *, jobs: int, trace_file: Path | None) -> Iterator[tuple[Report, float]]:
    """In the order of the plans. One after the other in this process where there is one job."""
    if jobs < 2:
        for plan in plans:
            yield _timed(plan, trace_file)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(_timed, plans)


def _timed(plan: Plan, trace_file: Path | None = None) -> tuple[Report, float]:
    began = time.perf_counter()
    report = play(plan, trace_file=trace_file)
    return report, time.perf_counter() - began


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skerry.sim", description="Whole nodes in virtual time, from a seed.")
    parser.add_argument("--seed", type=int, action="append", help="play this one; may be given more than once")
    parser.add_argument("--nodes", type=int, help="how many (default 5)")
    parser.add_argument("--hidden", type=int, help="how many of them nobody can dial (default 0)")
    mixes = ", ".join(WEATHERS)
    parser.add_argument("--faults", help=f"what goes wrong: {mixes} (default heavy), or faults with commas: {', '.join(SORTS)}")
    parser.add_argument("--seconds", type=float, help="how long it goes wrong, in virtual time (default 60, in fresh worlds 30)")
    parser.add_argument("--fresh", type=int, default=FRESH, help=f"how many fresh seeds without --seed (default {FRESH})")
    parser.add_argument("--busy", action="store_true", help="clerks that write much, and are killed, stopped and given up while they do")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once (default: one for each processor)")
    parser.add_argument(
        "--steady", action="store_true", help="a quiet hour of 20 nodes with strangers at the door: what grows, and how fast it goes"
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write every event there")
    return parser


def _plans(options: argparse.Namespace) -> list[Plan]:
    chosen = {key: value for key in ("nodes", "faults", "seconds", "hidden") if (value := getattr(options, key)) is not None}
    chosen |= {"busy": True} if options.busy else {}
    if options.seed:
        found = [plan for plan in known_plans(SEEDS_FILE) if plan.seed in options.seed] if not chosen else []
        left = [seed for seed in options.seed if seed not in {plan.seed for plan in found}]
        return [*found, *(Plan(seed, **chosen) for seed in left)]
    first = int(time.time() * 1000) % FRESH_MOST
    fresh = [Plan(first + number, **({"seconds": FRESH_SECONDS} | chosen)) for number in range(options.fresh)]
    if fresh:
        print(f"fresh seeds: {first} to {first + len(fresh) - 1}", flush=True)
    return [*(Plan(seed, **chosen) for seed in FIXED), *known_plans(SEEDS_FILE), *fresh]


def known_plans(file: Path) -> list[Plan]:
    """The seeds that once failed: `seed nodes faults seconds [busy]`, a line each, `#` begins a comment."""
    if not file.is_file():
        return []
    lines = (line.partition("#")[0].split() for line in file.read_text(encoding="utf-8").splitlines())
    return [Plan(int(one[0]), int(one[1]), one[2], float(one[3]), busy="busy" in one[4:]) for one in filter(None, lines)]


def _print(report: Report, took_s: float) -> None:
    plan = report.plan
    how = f"seed {plan.seed:<10} {plan.nodes} nodes, {plan.faults:5} faults"
    pace = f"{report.virtual_s:6.1f} s in {took_s:5.2f} s ({report.virtual_s / took_s:4.0f} x), formed after {report.formed_s:.1f} s"
    pace += f", {report.letters} letters, {report.wires} halves, {report.trace_lines} events {report.digest[:8]}"
    if not report.failure:
        print(f"ok   {how}: {pace}", flush=True)
        return
    print(f"FAIL {how}: {pace}")
    print("\n".join(f"     | {line}" for line in report.tail))
    print(f"     {report.failure}")
    options = f"--seconds {plan.seconds:g}" + (f" --hidden {plan.hidden}" if plan.hidden else "") + (" --busy" if plan.busy else "")
    print(f"     again: make sim SEED={plan.seed} NODES={plan.nodes} FAULTS={plan.faults} ARGS='{options}'", flush=True)


if __name__ == "__main__":
    sys.exit(main())
