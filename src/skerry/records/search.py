"""Which agents are looked for: by capability, skill, tag and words.

The rule: what is asked for is all of it wanted; case matters in capabilities alone, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Protocol

from skerry.errors import UsageError

QUERY_CHARACTERS_MAX = 200


class Described(Protocol):
    """One of the capabilities that an agent offers."""

    @property
    def description(self) -> str: ...


class Findable(Protocol):
    """A card, or whatever shows one."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def skills(self) -> Collection[str]: ...
    @property
    def tags(self) -> Collection[str]: ...
    @property
    def capabilities(self) -> Collection[str]: ...
    @property
    def offers(self) -> Collection[Described]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """ "" asks for nothing.

    capability   `kind:name`, or its start and a `*`; skill, tag: exactly, in any case
    words        each of them somewhere in name, description, skills, tags, capabilities or their descriptions
    """

    capability: str = ""
    skill: str = ""
    tag: str = ""
    words: str = ""

    def check(self) -> None:
        """Raises UsageError that names the field."""
        for one in fields(self):
            text = getattr(self, one.name)
            wrong = "no text" if not isinstance(text, str) else "too long" if len(text) > QUERY_CHARACTERS_MAX else ""
            if wrong or not text.isprintable():
                said = f"the {one.name} that is looked for is {wrong or 'not printable'}: {text!r:.40}"
                raise UsageError(said, hint=f"write up to {QUERY_CHARACTERS_MAX} printable characters")

    def found_in(self, agent: Findable) -> bool:
        """Whether that agent has all of it."""
        return (
            self._offers(agent.capabilities)
            and (not self.skill or _has(agent.skills, self.skill))
            and (not self.tag or _has(agent.tags, self.tag))
            and (not self.words or self._says(agent))
        )

    def _offers(self, capabilities: Collection[str]) -> bool:
        if self.capability.endswith("*"):
            return any(capability.startswith(self.capability[:-1]) for capability in capabilities)
        return not self.capability or self.capability in capabilities

    def _says(self, agent: Findable) -> bool:
        described = (offer.description for offer in agent.offers)
        text = "\n".join((agent.name, agent.description, *agent.skills, *agent.tags, *agent.capabilities, *described)).casefold()
        return all(word in text for word in self.words.casefold().split())


def _has(words: Collection[str], wanted: str) -> bool:
    return wanted.casefold() in (word.casefold() for word in words)
