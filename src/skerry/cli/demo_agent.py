"""The agent of `skerry demo`: finds which of some texts lies closest to a question. An agent of your own looks just like it.

It asks the mesh for the vectors and does not know on which node the model is.

The rule: this file is copied into a node's home and runs from there, so it needs nothing but the SDK (people write `from skerry import
Agent, handles`).
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.agents.sdk import Agent, handles


@dataclass
class Search:
    question: str
    texts: list[str]


@dataclass
class Found:
    text: str
    similarity: float


class Finder(Agent):
    """Compares meanings, with whatever embedding model the mesh has."""

    @handles("custom:closest", idempotent=True)
    async def closest(self, search: Search) -> Found:
        """Which of the texts lies closest in meaning to the question?"""
        if not search.texts:
            raise ValueError("there are no texts to choose from")
        answer = await self.call("embedding:minilm", {"input": [search.question, *search.texts]})
        asked, *rest = (one["embedding"] for one in answer["data"])
        near = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in rest]
        best = max(range(len(near)), key=near.__getitem__)
        return Found(search.texts[best], round(near[best], 3))
