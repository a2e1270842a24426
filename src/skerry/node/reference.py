"""Writes the reference page of the verbs from the verb table itself: `python -m skerry.node.reference > docs/verbs.md`.

The rule: what the page says is what the node does; a test compares them.
"""

from __future__ import annotations

import dataclasses

from skerry.node.operations import VERBS
from skerry.node.policy import RIGHTS, Right

HEAD = """# Verbs

This page is written by `make docs` from the verb table (`src/skerry/node/operations.py`); don't edit it.

Every call on a channel names a verb. A verb needs a right; what a peer may do follows from its grant (`src/skerry/node/policy.py`).
Requests and replies are CBOR maps with the field names below; unknown fields are passed over, missing ones take their defaults.
"""


def page() -> str:
    """The whole page as Markdown."""
    lines = [HEAD, "## Rights\n", "| right | " + " | ".join(_roles()) + " | owner |", "|---|" + "---|" * (len(_roles()) + 1)]
    for right in Right:
        marks = ["yes" if right in rights else "" for rights in RIGHTS.values()]
        lines.append(f"| {right.value} | " + " | ".join(marks) + " | yes |")
    lines.append(
        "\nA contact has `ping`, `join` and `contact`, and what its entry says: the last column of the table names the right that"
        " opens a verb to contacts (`call` with the capability, for agents that are shared with it)."
    )
    lines.append(
        "\nAnybody may `ping` and, with a ticket, `node.join` and `contact.meet`."
        " The owner is the user that the node runs as, on the node's own socket.\n"
    )
    lines += ["## The table\n", "| verb | right | what it is for | contacts |", "|---|---|---|---|"]
    lines += [
        f"| `{verb}` | {operation.right.value} | {operation.about} | {operation.contact} |" for verb, operation in sorted(VERBS.items())
    ]
    lines.append("\n## Requests and replies\n")
    for verb, operation in sorted(VERBS.items()):
        lines.append(f"`{verb}`: {_fields(operation.request)} -> {_fields(operation.reply)}\n")
    return "\n".join(lines)


def _roles() -> list[str]:
    return [f"{role.value if role else 'stranger'}, {state.value}" for state, role in RIGHTS]


def _fields(kind: type) -> str:
    if not dataclasses.is_dataclass(kind):
        return "CBOR array, see [channel.md](channel.md)"
    fields = dataclasses.fields(kind)
    return "{" + ", ".join(f"{field.name}: {field.type}" for field in fields) + "}" if fields else "{}"


if __name__ == "__main__":
    print(page(), end="")
