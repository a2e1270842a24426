"""`python -m benchmarks [--only NAME] [--short] [--json FILE] [--peers]`: measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import calls, channel, failover, large, letters, records, routing, start
from benchmarks.figures import Figure, shown
from benchmarks.plan import Plan
from benchmarks.presence import measure as measure_presence
from skerry import __version__

BENCHMARKS: dict[str, Callable[[Plan], Awaitable[list[Figure]]]] = {
    "calls": calls.measure,
    "verbs": channel.measure_verbs,
    "parts": channel.measure_parts,
    "presence": measure_presence,
    "large": large.measure,
    "ready": start.measure_ready,
    "commands": start.measure_commands,
    "idle": start.measure_idle,
    "routing": routing.measure,
    "failover": failover.measure,
    "comparing": records.measure_comparing,
    "letters": letters.measure_letters,
    "ingest": records.measure_ingest,
    "store": records.measure_store,
    "spreading": records.measure_spreading,
    "mending": records.measure_mending,
}
RESULTS = Path(__file__).parent / "results" / "last.json"
WIDTH = 130  # of the table where nobody looks at it in a terminal


def main() -> int:
    """Exit 0: everything was measured, whatever it came to; the table says what was asked for."""
    options = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    began = time.perf_counter()
    found: list[Figure] = []
    for name in options.only or BENCHMARKS:
        print(f"measuring: {name}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
            plan = Plan.of(Path(folder), short=options.short, peers=options.peers)
            found += asyncio.run(_measure(name, plan))
    console.print(table_of(found))
    report = {**_machine(), "short": options.short, "took_s": round(time.perf_counter() - began, 1)}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({**report, "figures": [figure.plain() for figure in found]}, indent=2) + "\n")
    print(f"measured in {report['took_s']} s, written to {options.json}", file=sys.stderr)
    return 0


async def _measure(name: str, plan: Plan) -> list[Figure]:
    return await BENCHMARKS[name](plan)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what Skerry promises.")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="only this one; may be repeated")
    parser.add_argument("--short", action="store_true", help="under 30 s: to see that it works, not to judge by")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where the figures go (default: %(default)s)")
    parser.add_argument("--peers", action="store_true", help="also measure NATS, Ray and serf, where they are installed")
    return parser


def table_of(found: list[Figure]) -> Table:
    table = Table("figure", "", "asked for", "measured", "peer", "its figure", "ratio", "", box=None, pad_edge=False)
    for name in ("asked for", "measured", "its figure", "ratio"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for figure in found:
        table.add_row(
            figure.name,
            figure.unit,
            str(figure.asked or ""),
            shown(figure.measured),
            figure.peer,
            shown(figure.peer_measured) if figure.peer_measured is not None else "",
            shown(figure.ratio) if figure.ratio is not None else "",
            {None: "", True: "met", False: "missed"}[figure.met],
        )
    return table


def _machine() -> dict[str, Any]:
    return {"skerry": __version__, "python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}


if __name__ == "__main__":
    sys.exit(main())
