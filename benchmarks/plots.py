"""`python -m benchmarks.plots [FOLDER]`: the plots of docs/routing.md, drawn as SVG from the simulation of `skerry.sim.routing`.

The rule: the same code gives the same bytes, so that a plot changes only when a strategy does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from skerry.routing.strategies import Strategy
from skerry.sim.routing import Run, Scene, mixed, run

FOLDER = Path(__file__).parent.parent / "docs" / "routing"
SCENE = Scene([1.0] * 8 + [10.0] * 2, mixed(0.01, 0.05, long_share=0.1), use=0.6, tasks=20_000)
PERCENTS = (50, 90, 99)
SHADES = ("#9ecae1", "#4292c6", "#08306b")
WIDTH, ROW, LEFT, BAR, TOP = 720, 46, 150, 440, 54
LATENCY_MOST_S = 1.0  # the axis ends here; what is longer goes over its end and says so


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    runs = {strategy: run(SCENE, strategy) for strategy in Strategy}
    (folder / "latency.svg").write_text(latency_plot(runs), encoding="utf-8")
    (folder / "load.svg").write_text(load_plot(runs), encoding="utf-8")
    return 0


def latency_plot(runs: dict[Strategy, Run]) -> str:
    """Three bars for each strategy: percentiles of the time from asking to the answer."""
    body = [_text(LEFT, 24, "milliseconds from asking to the answer", size=14)]
    for number, percent in enumerate(PERCENTS):
        body += [_bar(LEFT + number * 80, 34, 12, 10, SHADES[number]), _text(LEFT + 18 + number * 80, 43, f"p{percent}")]
    for row, (strategy, found) in enumerate(runs.items()):
        top = TOP + row * ROW
        body.append(_text(LEFT - 8, top + 24, strategy.value, anchor="end"))
        for number, percent in enumerate(PERCENTS):
            seconds = found.percentile_s(percent)
            width = BAR * min(seconds, LATENCY_MOST_S) / LATENCY_MOST_S
            body.append(_bar(LEFT, top + 2 + number * 13, max(width, 1), 11, SHADES[number]))
            beyond = " (the bar is cut)" if seconds > LATENCY_MOST_S else ""
            body.append(_text(LEFT + max(width, 1) + 6, top + 11 + number * 13, f"{seconds * 1000:,.0f}{beyond}", size=10))
    return _svg(body, TOP + len(runs) * ROW)


def load_plot(runs: dict[Strategy, Run]) -> str:
    """One bar for each agent: the share of the time in which it works; the two at the end are the slow ones."""
    body = [_text(LEFT, 24, "how busy each agent is; the last two are ten times slower", size=14)]
    step = BAR / len(SCENE.slowness)
    for row, (strategy, found) in enumerate(runs.items()):
        bottom = TOP + row * ROW + 38
        body.append(_text(LEFT - 8, bottom - 14, strategy.value, anchor="end"))
        for agent, busy_s in enumerate(found.busy_s):
            share = min(busy_s / found.took_s, 1.0)
            shade = SHADES[1] if SCENE.slowness[agent] == 1 else SHADES[2]
            body.append(_bar(LEFT + agent * step, bottom - 34 * share, step - 6, 34 * share, shade))
        body.append(f'<path d="M{LEFT} {bottom}H{LEFT + BAR}" stroke="#888"/>')
    return _svg(body, TOP + len(runs) * ROW)


def _bar(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{text}</text>'


def _svg(body: Sequence[str], height: float) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" fill="#222">'
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>'
    return "\n".join([head, ground, *body, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
