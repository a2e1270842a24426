"""What the demo prints where nobody's terminal is: plain lines, also of what a model made up."""

from __future__ import annotations

import pytest

from skerry.cli.demo_view import ConsoleView, Row, span
from skerry.errors import Refused


def controls(text: str) -> list[str]:
    return [c for c in text if not c.isprintable() and c != "\n"]


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> ConsoleView:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return ConsoleView()


def test_a_step_is_printed_when_it_is_done(view: ConsoleView, capsys: pytest.CaptureFixture[str]) -> None:
    view.begin("Stream an answer")
    view.now("it comes")
    view.note("> Why?")
    for piece in ("Be", "cause", " it\x1b[31m is\x07[bold]so[/bold]."):
        view.say(piece)
    view.note("the end")
    assert capsys.readouterr().out == ""
    view.end(1234.5)
    title, *notes = capsys.readouterr().out.splitlines()
    assert title.startswith("✓ Stream an answer ")
    assert title.endswith(" 1.2 s")
    assert len(title) == 80
    assert notes == ["    > Why?", "    Because it [31m is [bold]so[/bold].", "    the end"]


def test_a_failure_shows_the_reason_the_next_step_and_the_last_words(view: ConsoleView, capsys: pytest.CaptureFixture[str]) -> None:
    view.begin("Embed")
    view.fail(Refused("nobody can", hint="start somebody"), {"beta": "it was\nme\x1b[0m"})
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "✗ Embed"
    for line in ("error: nobody can", "  -> start somebody", "the end of what beta wrote to stderr:", "    it was", "    me [0m"):
        assert line in out.splitlines()
    assert controls(out) == []


def test_a_line_to_paste_stays_one_line(view: ConsoleView, capsys: pytest.CaptureFixture[str]) -> None:
    command = "skerry join " + "x" * 300 + " --name [delta]"
    view.paste([("A node:", command)], "Ctrl-C ends it.")
    assert command in capsys.readouterr().out.splitlines()


def test_the_summary_fits(view: ConsoleView, capsys: pytest.CaptureFixture[str]) -> None:
    view.summary([Row("inference:smollm2, streamed", "gamma", "400 ms", "", "then 100 tokens/s")], 9876.0)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "then 100 tokens/s" in out
    assert out.endswith("All of it worked, in 9.9 s.\n")
    assert controls(out) == []


@pytest.mark.parametrize(("took_ms", "text"), [(0.04, "0.0 ms"), (9.94, "9.9 ms"), (10.2, "10 ms"), (999.4, "999 ms"), (1500, "1.5 s")])
def test_a_span_is_short(took_ms: float, text: str) -> None:
    assert span(took_ms) == text
