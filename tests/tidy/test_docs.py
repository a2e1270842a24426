"""What a user can type is written down: every make target, every command, every verb."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

from tests.tidy.repository import ROOT, config, documentation, module_path, whole


def _targets() -> list[str]:
    declared = re.search(r"^\.PHONY: (help .*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert declared
    return declared.group(1).split()


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Every command below `command`, a click or typer group, as it is typed. Hidden ones are not for users."""
    children = getattr(command, "list_commands", None)
    if children is None:
        yield " ".join(path)
        return
    for name in children(None):
        child = command.get_command(None, name)
        assert child is not None, f"{' '.join(path)} lists {name!r}, but has no such command"
        if not child.hidden:
            yield from _commands(child, (*path, name))


def test_every_make_target_is_documented() -> None:
    text = documentation()
    assert [target for target in _targets() if not re.search(rf"\bmake {target}\b", text)] == []


def test_every_make_target_explains_itself() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [target for target in _targets() if not re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE)] == []


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme


def test_the_changelog_knows_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {config()['project']['version']} " in changelog


def test_every_command_is_documented() -> None:
    """Reads `skerry.cli.main.app`: the typer application with every command in it."""
    if module_path("skerry.cli.main") is None:
        return  # no command line yet
    import typer

    app = importlib.import_module("skerry.cli.main").app
    command: Any = typer.main.get_command(app) if isinstance(app, typer.Typer) else app
    commands = list(_commands(command, ("skerry",)))
    assert len(commands) > 5
    text = documentation()
    assert [name for name in commands if not re.search(rf"(?<!\w){re.escape(name)}(?![\w-])", text)] == []


def test_every_verb_is_documented() -> None:
    """Reads `skerry.node.operations.VERBS`: a mapping from the name of each verb to what it is."""
    if module_path("skerry.node.operations") is None:
        assert not whole(), "the verb table, skerry.node.operations, is gone"
        return
    verbs = importlib.import_module("skerry.node.operations").VERBS
    assert len(verbs) > 5
    text = documentation()
    assert [name for name in verbs if f"`{name}`" not in text] == []
