"""An agent's declared state as bytes, and back.

The attributes that `state` names are taken between two tasks, never inside one, as plain CBOR values.

The rule: what can't be kept is said by name when it is there, not lost when the agent comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry.agents.handlers import plain
from skerry.errors import Code, ProtocolError, Refused, SkerryError
from skerry.identity.codec import encode, unpack

if TYPE_CHECKING:
    from skerry.agents.sdk import Agent

STATE_BYTES_MAX = 32 * 1024 * 1024  # kept whole at each change; what is larger belongs into a database


def state_of(agent: Agent) -> bytes:
    """The state as deterministic CBOR, so that an unchanged state gives the same bytes. Raises Refused that names what can't be kept."""
    values: dict[str, Any] = {}
    for name in type(agent).state:
        if not hasattr(agent, name):
            continue  # not set yet
        try:
            values[name] = plain(getattr(agent, name))
            encoded = encode(values[name])
        except (SkerryError, TypeError, ValueError) as error:
            raise _cannot(agent, name, f"is a {type(getattr(agent, name)).__name__}: {error}") from error
        if len(encoded) > STATE_BYTES_MAX:
            raise _cannot(agent, name, f"has {len(encoded)} bytes, at most {STATE_BYTES_MAX} are kept")
    return encode(values)


def restore(agent: Agent, state: bytes, *, anew: bool = True) -> None:
    """Set what was kept. A name that the class no longer declares is dropped. Raises ProtocolError for what is no state.

    anew: the agent was just made; else a name that was not set when the state was taken is not set afterwards either
    """
    values = unpack(state)
    if not isinstance(values, dict):
        raise ProtocolError(f"what was kept as the state of {type(agent).__name__} is damaged: it is no map")
    for name in type(agent).state:
        if name in values:
            setattr(agent, name, values[name])
        elif not anew:
            vars(agent).pop(name, None)


def _cannot(agent: Agent, name: str, why: str) -> Refused:
    return Refused(
        f"the state {name!r} of {type(agent).__name__} can't be kept: it {why}",
        code=Code.TASK_FAILED,
        hint="keep None, booleans, numbers, text, bytes, lists and maps with text keys",
    )
