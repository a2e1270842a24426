"""What an agent is, as its node keeps it.

The rule: a spec names content by digest; nothing in it points at the user's files, but for a secret that must stay where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skerry.agents.about import About

TOKENIZER = "tokenizer"  # the option that names a file of its own


@dataclass(frozen=True, slots=True)
class Spec:
    """One agent. Times in Unix ms.

    digest         of its code or model, "" for a remote one; files: further digests by option
    concurrency    how many tasks it works on at once; memory_bytes: 0 for no limit
    share          who outside the formation may have it: `public`, or ids of contacts
    requirements   what is installed for it, as lines that pip reads; settings: what was chosen with --set
    about          what was chosen for its card
    """

    id: str
    name: str
    runtime: str
    entry: str
    digest: str
    options: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    running: bool = True
    paused: bool = False
    concurrency: int = 1
    memory_bytes: int = 0
    requirements: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    created_at: int = 0
    share: list[str] = field(default_factory=list)
    about: About = field(default_factory=About)

    @property
    def digests(self) -> list[str]:
        return [digest for digest in (self.digest, *self.files.values()) if digest]
