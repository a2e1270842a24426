"""What an agent is, as its node keeps it.

The rule: a spec names content by digest; nothing in it points at the user's files, but for a secret that must stay where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TOKENIZER = "tokenizer"  # the option that names a file of its own


@dataclass(frozen=True, slots=True)
class Spec:
    """One agent. `digest` is of its code or model, "" for a remote one; `files` holds further digests by option; times in Unix ms."""

    id: str
    name: str
    runtime: str
    entry: str
    digest: str
    options: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    running: bool = True
    concurrency: int = 1
    created_at: int = 0

    @property
    def digests(self) -> list[str]:
        return [digest for digest in (self.digest, *self.files.values()) if digest]
