"""The control channel to whoever hosts the other end of a wire: this very process, or a node or contact elsewhere.

`LocalOrRemote` is the one place where that is decided; above it nobody cares. A `RemoteProxy` opens its link when it is first used, uses
the one that is up, and gets a new one where that was lost: links are `channel.links`' to keep. What goes wrong is one of five errors, which
say whose control channel it was, where, and in which operation; the system's own error is their cause.

`mob_id` is the name under which a peer is known here; the texts say node.

The rule: a refusal keeps the code that the peer gave it, also one that is not known here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.errors import Code, ProtocolError, Refused, SkerryError, Unreachable
from skerry.identity.codec import unpack
from skerry.identity.contacts import Contact
from skerry.wiring.verbs import InjectReply, InjectRequest, LookupReply, LookupRequest, WireCheckRequest, WireReply, WireRequest

EXCHANGE_TIMEOUT_S = 5.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteEndpoint:
    """Where a control channel is reached.

    scheme          tcp, uds or via
    raw             `host:port`, `/path`, or the node that forwards
    comms_address   `tcp://host:port`, `uds:///path`, `via:NODE`
    """

    scheme: str
    raw: str

    @classmethod
    def of(cls, address: str) -> RemoteEndpoint:
        """Raises UnsupportedTransport for another scheme than tcp, uds and via."""
        scheme, _, raw = address.partition("://") if "://" in address else address.partition(":")
        if scheme not in ("tcp", "uds", "via") or not raw:
            raise UnsupportedTransport("", address or "none")
        return cls(scheme, raw)

    @property
    def comms_address(self) -> str:
        return f"via:{self.raw}" if self.scheme == "via" else f"{self.scheme}://{self.raw}"


class RemoteError(SkerryError):
    """What went wrong with a control channel: one of the five below. `str(error)` is the whole text."""

    endpoint: str = ""


class UnsupportedTransport(RemoteError, Refused):
    """A contact's entry names a transport over which there is no control channel."""

    def __init__(self, mob_id: str, transport: str) -> None:
        super().__init__(
            f"remote node {mob_id!r} uses unsupported transport: {transport}",
            code=Code.BAD_INPUT,
            hint="give the contact an address tcp://HOST:PORT or uds:///PATH",
        )
        self.mob_id = mob_id
        self.transport = transport


class ControlChannelUnavailable(RemoteError, Unreachable):
    """The peer's control channel could not be used. `operation`: connect, write, read or timeout; after connect it may have been done."""

    def __init__(self, mob_id: str, endpoint: str, operation: str, cause: SkerryError) -> None:
        super().__init__(
            f"remote node {mob_id!r} control channel ({endpoint}): operation {operation!r} failed: {cause.message}",
            code=Code.UNREACHABLE,
            hint="confirm the peer node is running with a control listener bound on this endpoint: `skerry doctor`",
        )
        self.outcome_unknown = operation != "connect"
        self.mob_id = mob_id
        self.endpoint = endpoint
        self.operation = operation


class _Worded(RemoteError):
    """`message` is what was said in particular, as the peer or the codec has it."""

    _said = ""

    @property
    def message(self) -> str:
        return self._said


class Rejected(_Worded, Refused):
    """The peer said no; `code` and `message` are the peer's own."""

    def __init__(self, mob_id: str, endpoint: str, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"remote node {mob_id!r} control channel ({endpoint}) rejected request [{code}]: {message}", code=code, hint=hint)
        self.mob_id = mob_id
        self.endpoint = endpoint
        self._said = message


class Encode(_Worded, ProtocolError):
    """A request can't be sent as it is."""

    def __init__(self, endpoint: str, message: str) -> None:
        super().__init__(f"control request encode failed for {endpoint}: {message}", code=Code.BAD_PAYLOAD, hint="send plain values only")
        self.endpoint = endpoint
        self._said = message


class Decode(_Worded, ProtocolError):
    """The peer's answer is none."""

    def __init__(self, endpoint: str, message: str) -> None:
        super().__init__(
            f"control response decode failed for {endpoint}: {message}", code=Code.DECODE, hint="is the peer of another version?"
        )
        self.endpoint = endpoint
        self._said = message


class Members(Protocol):
    """This process's own side of the verbs (`node.wiring.Wires`)."""

    def serve_lookup(self, request: LookupRequest) -> LookupReply: ...

    def serve_wire(self, request: WireRequest, *, caller: bytes) -> WireReply: ...

    def serve_unwire(self, request: WireRequest, *, caller: bytes) -> WireReply: ...

    def serve_check(self, request: WireCheckRequest, *, caller: bytes) -> WireReply: ...

    async def serve_inject(self, request: InjectRequest, *, caller: bytes) -> InjectReply: ...

    @property
    def identity(self) -> bytes:
        """The id of this node."""
        ...


class Local:
    """The other end is hosted by this process."""

    def __init__(self, members: Members) -> None:
        self._members = members

    async def lookup_member(self, remote_member: str) -> LookupReply:
        return self._members.serve_lookup(LookupRequest(remote_member))

    async def wire(self, request: WireRequest) -> WireReply:
        return self._members.serve_wire(request, caller=self._members.identity)

    async def unwire(self, request: WireRequest) -> None:
        self._members.serve_unwire(request, caller=self._members.identity)

    async def check(self, request: WireCheckRequest) -> WireReply:
        return self._members.serve_check(request, caller=self._members.identity)

    async def inject(self, remote_member: str, content: Any, *, handling_mode: str = "queue") -> str:
        request = InjectRequest(remote_member, content, handling_mode)
        return (await self._members.serve_inject(request, caller=self._members.identity)).session_id


class RemoteProxy:
    """The control channel of a node elsewhere. Each verb takes at most `EXCHANGE_TIMEOUT_S` once it is connected."""

    def __init__(self, mob_id: str, endpoint: RemoteEndpoint, link: Callable[[], Awaitable[Link]]) -> None:
        """`link` gives the link to it, dialled where none is up."""
        self._mob_id = mob_id
        self._endpoint = endpoint
        self._link = link

    @classmethod
    def from_entry(cls, entry: Contact, link: Callable[[], Awaitable[Link]]) -> RemoteProxy | None:
        """Of a contact's entry: None for `inproc`, which this process serves. Raises UnsupportedTransport."""
        if entry.inproc:
            return None
        dialled = entry.dialled()
        if not dialled and entry.addresses:
            raise UnsupportedTransport(entry.name, entry.addresses[0].partition(":")[0])
        return cls(entry.name, RemoteEndpoint.of(dialled[0][1]) if dialled else RemoteEndpoint("via", entry.id.hex()), link)

    @property
    def mob_id(self) -> str:
        return self._mob_id

    @property
    def endpoint(self) -> RemoteEndpoint:
        return self._endpoint

    async def wire(self, request: WireRequest) -> WireReply:
        """Have the other side write its half."""
        return await self._exchange("wire", request, WireReply)

    async def unwire(self, request: WireRequest) -> None:
        """Have it take its half away."""
        await self._exchange("unwire", request, WireReply)

    async def check(self, request: WireCheckRequest) -> WireReply:
        return await self._exchange("wire.check", request, WireReply)

    async def inject(self, remote_member: str, content: Any, *, handling_mode: str = "queue") -> str:
        """Send a letter to an agent there; returns the id of the session that took it."""
        return (await self._exchange("inject", InjectRequest(remote_member, content, handling_mode), InjectReply)).session_id

    async def lookup_member(self, remote_member: str) -> LookupReply:
        """Who an agent there is: `peer_id`, `comms_name`."""
        return await self._exchange("lookup_member", LookupRequest(remote_member), LookupReply)

    async def _exchange(self, verb: str, request: Any, reply: type[T]) -> T:
        where = self._endpoint.comms_address
        try:
            body = pack_message(request)
            unpack(body)  # what the peer could not read is said here: sets, numbers beyond 64 bits, values nested too deeply
        except (SkerryError, TypeError, ValueError) as error:
            raise Encode(where, str(error)) from error
        try:
            link = await self._link()
        except SkerryError as error:
            raise ControlChannelUnavailable(self._mob_id, where, "connect", error) from error
        try:
            answer = await link.call(verb, body, timeout_s=EXCHANGE_TIMEOUT_S)
        except Refused as error:
            if error.code == Code.DEADLINE_EXCEEDED and not error.from_peer:
                raise ControlChannelUnavailable(self._mob_id, where, "timeout", error) from error
            raise Rejected(self._mob_id, where, error.code, error.message, error.hint) from error
        except Unreachable as error:
            if error.from_peer and not error.outcome_unknown:
                raise Rejected(self._mob_id, where, error.code, error.message, error.hint) from error
            operation = "timeout" if error.code == Code.DEADLINE_EXCEEDED else "read" if error.outcome_unknown else "write"
            raise ControlChannelUnavailable(self._mob_id, where, operation, error) from error
        except ProtocolError as error:
            raise Decode(where, error.message) from error
        try:
            return unpack_message(reply, answer)
        except ProtocolError as error:
            raise Decode(where, error.message) from error


class LocalOrRemote:
    """Whoever answers the verbs for an agent: `Local` or a `RemoteProxy`."""

    def __init__(self, side: Local | RemoteProxy) -> None:
        self._side = side

    @property
    def is_local(self) -> bool:
        return isinstance(self._side, Local)

    async def wire(self, request: WireRequest) -> WireReply:
        return await self._side.wire(request)

    async def unwire(self, request: WireRequest) -> None:
        await self._side.unwire(request)

    async def check(self, request: WireCheckRequest) -> WireReply:
        return await self._side.check(request)

    async def inject(self, remote_member: str, content: Any, *, handling_mode: str = "queue") -> str:
        return await self._side.inject(remote_member, content, handling_mode=handling_mode)

    async def lookup_member(self, remote_member: str) -> LookupReply:
        return await self._side.lookup_member(remote_member)
