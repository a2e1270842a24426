"""`python -m tests.soak --nodes 50 --minutes 10`: exit 0 where no call failed and no node grew."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.soak.formation import MARGINS, Plan, formed, soak, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Many nodes on this machine, called steadily.")
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second, through all nodes together")
    options = parser.parse_args()
    with formed(options.nodes, _say) as nodes:
        report = asyncio.run(soak(nodes, Plan(options.nodes, options.minutes * 60, options.rate), _say))
    print(table(report))
    print(f"{report.calls} calls, {report.failed.total()} errors {dict(report.failed) or ''}")
    margins = ", ".join(f"{what} {margin:g}" for what, margin in MARGINS.items())
    print(f"grown by more than {margins}: {'; '.join(report.grown) or 'none'}")
    return 0 if report.good else 1


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
