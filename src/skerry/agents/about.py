"""What an agent says of itself as a whole, for its card: its version, a description, skills and tags.

A Python agent says it in its class, every agent may be given it when it is run, and what nobody said follows from what it offers.

The rule: words are checked where they are written, with the name of the field, so that no card is refused later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from skerry.errors import UsageError

WORDS_MAX = 64  # skills, and tags, of one agent
WORD_CHARACTERS_MAX = 100
DESCRIPTION_CHARACTERS_MAX = 2000
VERSION = "1"  # of an agent that says none


@dataclass(frozen=True, slots=True)
class About:
    """ "" and empty where nothing was said."""

    version: str = ""
    description: str = ""
    skills: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def checked_about(about: About, *, where: str = "") -> About:
    """`about` itself. Raises UsageError that names the field; `where`: whose it is, for people."""
    prefix = f"{where}." if where else ""
    for name in ("skills", "tags"):
        words: Any = getattr(about, name)
        if not isinstance(words, tuple | list) or len(words) > WORDS_MAX or not all(_is_word(word) for word in words):
            raise UsageError(f"{prefix}{name} is {words!r}"[:200], hint=f'write: {name} = ("one", "two"), up to {WORDS_MAX} of {_WORD}')
    if about.version and not _is_word(about.version):
        raise UsageError(f"{prefix}version is {about.version!r}"[:200], hint=f'write: version = "1.2", {_WORD}')
    text: Any = about.description
    if not isinstance(text, str) or len(text) > DESCRIPTION_CHARACTERS_MAX or not all(c.isprintable() or c in "\n\t" for c in text):
        raise UsageError(f"{prefix}description is {text!r}"[:200], hint=f"write text of up to {DESCRIPTION_CHARACTERS_MAX} characters")
    return about


def combined(code: About, chosen: About, *, runtime: str, offered: Iterable[str], described: Iterable[str]) -> About:
    """What the card says: what was chosen at the start before what the code says, the runtime as the first tag, and the names of the
    capabilities after the skills that were named."""
    return About(
        version=chosen.version or code.version or VERSION,
        description=chosen.description or code.description or next((text for text in described if text), ""),
        skills=tuple(dict.fromkeys((*code.skills, *chosen.skills, *offered))),
        tags=tuple(dict.fromkeys((runtime, *code.tags, *chosen.tags))),
    )


def _is_word(word: Any) -> bool:
    return isinstance(word, str) and 0 < len(word) <= WORD_CHARACTERS_MAX and word.isprintable() and word == word.strip()


_WORD = f"1 to {WORD_CHARACTERS_MAX} printable characters"
