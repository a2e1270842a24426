"""`skerry config`: what the next `skerry up` would run with, and why.

The rule: it reads what the node reads, by the same code, and needs no node.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from skerry.cli.options import HomeOption, Output, OutputOption, home_of

app = typer.Typer(help="The settings of this home.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def config() -> None:
    """The settings of this home."""


@app.command()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say for each where it comes from.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Every setting with its value: an environment variable wins over `config.toml`, that over the default. Flags of `up` win over all."""
    from skerry.cli.output import print_many
    from skerry.node.config import choose

    chosen = choose(home_of(home), flags={}, environment=os.environ)
    items: list[dict[str, Any]] = [
        {
            "name": one.setting.name,
            "value": [str(item) for item in one.value] if isinstance(one.value, tuple) else one.value,
            "origin": one.origin.value,
            "place": one.place,
            "variable": one.setting.variable,
            "flag": one.setting.flag,
            "about": one.setting.about,
        }
        for one in chosen
    ]
    rows = [
        (one.setting.name, _shown(one.value), one.place or one.origin.value) if origin else (one.setting.name, _shown(one.value))
        for one in chosen
    ]
    print_many(items, output, columns=("SETTING", "VALUE", "FROM") if origin else ("SETTING", "VALUE"), rows=rows, name="settings")


def _shown(value: Any) -> str:
    """As `config.toml` would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(str(item)) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
