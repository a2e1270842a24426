"""Who may be given a task, and what this node's own agents ask of the mesh.

The rule: an agent asks in its node's name, and whoever does not belong is given nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.agents.letters import MeshSendRequest
from skerry.agents.resident import Resident
from skerry.agents.verbs import MESH_SEND, AgentInfo, AgentQuery, MeshCallRequest
from skerry.channel.calls import Body, Served
from skerry.channel.messages import pack_message, unpack_message
from skerry.discovery.moves import PRESENT
from skerry.errors import Code, Refused, SkerryError
from skerry.identity.grants import Role
from skerry.node import views
from skerry.node.operations import have_done
from skerry.routing.pool import Candidate
from skerry.routing.task import Request

if TYPE_CHECKING:
    from skerry.node.node import Node

SHOWN_MAX = 5  # agents named in an error
_RESUME = "`skerry agent resume NAME` or `skerry agent start NAME` gives it tasks again; `skerry agent show NAME` says more"


class Asking:
    """What routing asks of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def may_serve(self, candidate: Candidate) -> bool:
        """Whether its node belongs and still says that it offers this; asked of everyone who is drawn."""
        standing = self._node.trust.standing(candidate.node)
        return standing.belongs and standing.role is not Role.CLIENT and candidate.expires > self._node.ports.clock.now_ms()

    def unavailable(self, query: str) -> SkerryError | None:
        """What to say where some offer it, and none of them takes tasks now; None where nobody does."""
        idle = [self._why_not(info) for info in views.agents(self._node, AgentQuery(capability=query))]
        if not idle:
            return None
        shown = ", ".join(idle[:SHOWN_MAX]) + (" ..." if len(idle) > SHOWN_MAX else "")
        return Refused(f"no agent that offers {query!r} is available: {shown}", code=Code.NOT_AVAILABLE, hint=_RESUME)

    def _why_not(self, info: AgentInfo) -> str:
        at = self._node.presence.state_of(bytes.fromhex(info.node))
        if at is None or at in PRESENT:
            return f"{info.name} on {info.node_name} is {info.status}"
        return f"{info.name} is on {info.node_name}, which is {at.value}"

    async def agent_calls(self, resident: Resident, served: Served) -> Body:
        """`mesh.call` and `mesh.send`: an agent of this node asks, or writes."""
        if served.verb == MESH_SEND:
            return pack_message(await self._node.mail.send_for(resident, unpack_message(MeshSendRequest, served.body)))
        asked = unpack_message(MeshCallRequest, served.body)
        request = Request(asked.capability, asked.payload, asked.agent, reach=asked.reach)
        chain = self._node.tasks.chain_of(resident.spec.id, asked.task_id)
        return await have_done(self._node, request, served, payload_only=True, chain=chain)
