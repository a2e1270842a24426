"""One key, two processes: a home was copied. Whoever sees both ends says so, to people and to the node itself.

The rule: a warning stands as long as there are signs, and goes by itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from skerry.channel.link import Link
from skerry.channel.messages import pack_message
from skerry.errors import SkerryError
from skerry.identity.keys import short
from skerry.node import views
from skerry.node.verbs import TwinRequest

if TYPE_CHECKING:
    from skerry.node.node import Node

SHOWN_S = 120.0  # how long a warning of a second process with a key stands after the last sign of it
TELL_TIMEOUT_S = 5.0
log = logging.getLogger(__name__)


async def twin_seen(node: Node, link: Link) -> None:
    """The node at the other end of this link runs a second time: we say so, and tell it."""
    name = views.node_names(node).get(link.id, short(link.id))
    node.warn_for(f"twin-{short(link.id)}", f"the node {name} runs twice, with one key: its home was copied", seconds=SHOWN_S)
    try:
        await link.call("node.twin", pack_message(TwinRequest(node.settings.name)), timeout_s=TELL_TIMEOUT_S)
    except SkerryError as error:
        log.info("%s could not be told that it runs twice: %s", short(link.id), error)


def has_twin(node: Node, seen_at: str) -> None:
    """Somebody saw another process with our key."""
    where = f", says {seen_at}" if seen_at else ""
    node.warn_for("twin", f"another process uses this node's key{where}: {_COPIED}", seconds=SHOWN_S)


_COPIED = "its home was copied; end one of the two, and let the other machine join with a home of its own"
