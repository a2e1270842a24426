"""What this node thinks of others, over a restart: private facts, written now and then, never sent to anybody.

The rule: what is lost with a crash is the last minute of experience, and nothing else depends on it.
"""

from __future__ import annotations

from skerry.ports import Store
from skerry.routing.reputation import Reputation

SPACE = "reputation"  # of facts; the key is the subject


def restore(reputation: Reputation, store: Store) -> None:
    for subject, stored in store.facts(SPACE):
        reputation.restore(subject, stored)


def keep(reputation: Reputation, store: Store) -> None:
    """Write down what changed since the last time; the caller commits. Raises StorageError."""
    for subject, stored in reputation.take_changes().items():
        store.set_fact(SPACE, subject, stored)
