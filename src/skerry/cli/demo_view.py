"""What `skerry demo` shows while it works: the step it is at, what comes of it, and a table at the end.

In a terminal the current step is alive; elsewhere each step is printed when it is done, without a control character.

The rule: text that a model made is shown as text: it can neither colour nor move anything.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from skerry.errors import SkerryError

WIDTH_MOST = 100  # a line longer than that is hard to read
REFRESH_PER_S = 12.0
MARK = 2  # columns for the mark before a title
INDENT = 4


class Row(NamedTuple):
    """A line of the summary."""

    what: str
    by: str
    first: str
    median: str
    remark: str


class View:
    """Shows nothing: for `-o json`."""

    def begin(self, title: str) -> None:
        """A step begins."""

    def now(self, text: str) -> None:
        """What is going on in it; the next such text takes its place."""

    def say(self, text: str) -> None:
        """A piece of a text that grows."""

    def note(self, text: str) -> None:
        """A line that stays."""

    def end(self, took_ms: float) -> None:
        """The step is done."""

    def fail(self, error: SkerryError, last_words: dict[str, str]) -> None:
        """The demo ends here; `last_words` by node."""

    def summary(self, rows: Sequence[Row], total_ms: float) -> None:
        """All steps are done."""

    def paste(self, lines: Sequence[tuple[str, str]], farewell: str) -> None:
        """What to try now: title and command."""

    def tell(self, text: str) -> None:
        """News, after all steps."""

    def close(self) -> None:
        """Give the terminal back as it was."""


class ConsoleView(View):
    """For people: a terminal, or a file that somebody reads."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that knows ASCII alone must not end the demo
        self._console = Console(highlight=False)
        self._width = min(self._console.width, WIDTH_MOST)
        self._title = ""
        self._now = ""
        self._notes: list[tuple[str, str]] = []  # text and style; built anew for each frame, which another thread draws
        self._growing = False
        self._live: Live | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._tick, self._cross = ("+", "x") if self._console.options.ascii_only else ("✓", "✗")

    def begin(self, title: str) -> None:
        self._title, self._now, self._notes, self._growing = title, "", [], False
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._alive, console=self._console, transient=True, refresh_per_second=REFRESH_PER_S, redirect_stderr=False
            )
            self._live.start()

    def now(self, text: str) -> None:
        self._now = text

    def say(self, text: str) -> None:
        if self._growing:
            self._notes[-1] = (self._notes[-1][0] + _harmless(text), "cyan")
        else:
            self._notes.append((_harmless(text), "cyan"))
        self._growing = True

    def note(self, text: str) -> None:
        self._growing = False
        self._notes.append((_harmless(text), "dim"))

    def end(self, took_ms: float) -> None:
        self._stop()
        took = span(took_ms)
        title = Text(f"{self._title:<{self._width - MARK - len(took) - 1}} ", style="bold")
        self._console.print(Text.assemble((f"{self._tick:<{MARK}}", "bold green"), title, (took, "green")))
        self._print_notes()

    def fail(self, error: SkerryError, last_words: dict[str, str]) -> None:
        self._stop()
        if self._title:
            self._console.print(Text.assemble((f"{self._cross:<{MARK}}", "bold red"), (self._title, "bold")))
            self._print_notes()
        self._console.print()
        self._console.print(Text.assemble(("error: ", "bold red"), _harmless(error.message)))
        if error.hint:
            self._console.print(Text(f"  -> {_harmless(error.hint)}"))
        for name, words in last_words.items():
            self._console.print(Text(f"\nthe end of what {name} wrote to stderr:"))
            self._console.print(self._indented((_harmless(words), "dim")))

    def summary(self, rows: Sequence[Row], total_ms: float) -> None:
        table = Table(box=box.SIMPLE_HEAD, width=self._width, pad_edge=False, header_style="bold")
        table.add_column("what was asked", ratio=1, overflow="fold")
        table.add_column("done by", no_wrap=True)
        table.add_column("first", justify="right", no_wrap=True)
        table.add_column("median", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)
        self._console.print(Text(f"All of it worked, in {span(total_ms)}.", style="bold green"))

    def paste(self, lines: Sequence[tuple[str, str]], farewell: str) -> None:
        for title, command in lines:
            self._console.print()
            self._console.print(Text(title, style="bold"))
            self._console.print(Text(command), soft_wrap=True)  # a line to paste must stay one line
        self._console.print()
        self._console.print(Text(farewell, style="dim"))

    def tell(self, text: str) -> None:
        self._console.print(Text(text))

    def close(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _alive(self) -> RenderableType:
        self._spinner.update(text=Text.assemble((self._title, "bold"), (f"  {self._now}" if self._now else "", "dim")))
        return Group(self._spinner, *(self._indented(note) for note in self._notes))

    def _print_notes(self) -> None:
        for note in self._notes:
            self._console.print(self._indented(note), width=self._width)

    def _indented(self, note: tuple[str, str]) -> Padding:
        return Padding(Text(*note), (0, 0, 0, INDENT), expand=False)


def span(took_ms: float) -> str:
    """A time as people read it."""
    if took_ms < 10:
        return f"{took_ms:.1f} ms"
    return f"{took_ms:.0f} ms" if took_ms < 1000 else f"{took_ms / 1000:.1f} s"


def _harmless(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
