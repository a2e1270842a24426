"""Names are for people: of two claims to one name the older keeps it, the younger shows as `name~a1b2`.

The rule: every node computes the same names from the same records.
"""

from __future__ import annotations

from collections.abc import Iterable

SUFFIX_CHARACTERS = 4


def display_names(claims: Iterable[tuple[bytes, str, int]]) -> dict[bytes, str]:
    """Node id -> name to show, from (id, name, claimed at Unix ms)."""
    shown: dict[bytes, str] = {}
    taken: set[str] = set()
    for identity, name, _ in sorted(claims, key=lambda claim: (claim[2], claim[0])):
        text, characters = name, 0
        while text in taken and characters < len(identity.hex()):  # as a rule once; who picks a name that looks so gets a longer one
            characters += SUFFIX_CHARACTERS
            text = f"{name}~{identity.hex()[:characters]}"
        shown[identity] = text
        taken.add(text)
    return shown
