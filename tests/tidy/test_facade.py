"""`skerry/__init__` is lazy, so nothing but a test would notice a name that it promises and does not have."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

from tests.tidy.repository import module_path, whole


def _facade() -> ModuleType | None:
    if module_path("skerry.node") is None or module_path("skerry.client") is None:
        assert not whole(), "the facade can't be checked without skerry.node and skerry.client"
        return None
    return importlib.import_module("skerry")


def test_all_is_what_there_is() -> None:
    skerry = _facade()
    if skerry is None:
        return
    promised = list(skerry.__all__)
    assert promised
    assert len(set(promised)) == len(promised)
    assert [name for name in promised if not hasattr(skerry, name)] == []
    assert set(promised) <= set(dir(skerry))
    ours = {
        name
        for name, value in vars(skerry).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and str(getattr(value, "__module__", "")).startswith("skerry")
    }
    assert sorted(ours - set(promised)) == []


def test_importing_it_costs_nothing() -> None:
    """The facade pulls in no heavy library; those come with the first use of a name that needs them."""
    code = "import skerry, sys; print(*sorted({'asyncio', 'fastapi', 'httpx', 'pydantic', 'typer', 'rich', 'nacl'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert answer.stdout.split() == []
