"""An agent that reaches past what it is given, and asks its node for whatever it likes over the worker's own connection."""

from typing import Any

from skerry import Agent, SkerryError, handles


class Prober(Agent):
    @handles("custom:ask")
    async def ask(self, verbs: list) -> dict:  # type: ignore[type-arg]
        """The code with which each is refused."""
        mesh: Any = self._mesh
        found = {}
        for verb in verbs:
            try:
                await mesh._link.call(verb, b"\xa0", timeout_s=5.0)
                found[verb] = ""
            except SkerryError as error:
                found[verb] = str(error.code)
        return found
