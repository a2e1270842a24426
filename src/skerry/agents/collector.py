"""How the processes that live long, nodes and workers, look for garbage in cycles.

Python looks after every 700 objects that came and did not go, and now and then through all that was ever loaded, which pushes everything
else out of the processor's caches. A call makes dozens of objects and hardly a cycle; what was loaded at the start stays anyway.

The rule: cycles are still found, only later, so that memory stays bounded; and never in a process that is the user's own.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000  # some MB at the most, and a look of about a millisecond


def settle() -> None:
    """To be called when all is loaded: what is there now is never looked at again, and the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
