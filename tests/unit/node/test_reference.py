"""docs/verbs.md says what the verb table says."""

from __future__ import annotations

from pathlib import Path

from skerry.node.reference import page

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_current() -> None:
    assert (DOCS / "verbs.md").read_text() == page(), "run `make docs`"
