"""How many files and connections this process may have open: all that the system allows it.

Shells give 1,024 for programs that use select() on bit sets, which nothing here does; each connection, worker and file of the node is one.

The rule: a node never has fewer than it could have, and says so where that is too few for a mesh.
"""

from __future__ import annotations

import logging

WANTED = 16_384  # 4,096 links, as many large ones beside them, and the rest for agents; what the system allows may be a million
ENOUGH = 1_024
log = logging.getLogger(__name__)


def raise_limit() -> int:
    """Raise the soft limit as far as it goes; returns what it is then."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return WANTED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < goal:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
            soft = goal
        except (OSError, ValueError) as error:  # macOS has another limit below the one it tells
            log.info("the limit of open files stays at %d: %s", soft, error)
    if soft < ENOUGH:
        log.warning("only %d files and connections may be open at once: raise it with `ulimit -n`, or LimitNOFILE= of the service", soft)
    return soft
