"""The real HTTP client for what strangers may serve: one GET, one answer, over a connection made for it alone.

A name is resolved once, the addresses are judged by whoever asks, and the connection goes to the very address that was judged. Where a
node's id is expected the certificate is compared with it before a byte of ours is sent; a certificate that is another's must at least be
good for the host's name (a proxy stands before that node). Redirects are not followed, answers are bounded in size and time, and nothing
is decompressed.

The rule: no setting of the environment (proxies, certificates of the user) and no answer can send a request elsewhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING

from skerry.channel.acceptor import TLS_END_S, TLS_TIMEOUT_S
from skerry.channel.reachable import is_loopback
from skerry.channel.transports import certificate_key
from skerry.errors import Code, ProtocolError, Refused, Unreachable
from skerry.identity.keys import short
from skerry.surroundings import HttpAnswer, HttpGet

if TYPE_CHECKING:  # h11 is for those who ask over HTTP
    import h11

ADDRESSES_TRIED_MAX = 3
READ_BYTES = 64 * 1024
HEAD_BYTES_MAX = 32 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class RealHttp:
    """GETs over sockets of this machine (`ports.Http`)."""

    def __init__(self) -> None:
        self._unchecked: ssl.SSLContext | None = None
        self._checked: ssl.SSLContext | None = None

    async def get(self, request: HttpGet, *, timeout_s: float, size_bytes_max: int) -> HttpAnswer:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._get(request, size_bytes_max)
        except TimeoutError:
            raise Unreachable(f"{_shown(request)} did not answer within {timeout_s:g} s", hint="is it up, and the port open?") from None
        except ssl.SSLError as error:
            said = f"{_shown(request)} can't be asked over TLS: {error.reason or error}"
            raise Unreachable(said, hint="is that a node's public listener?") from error
        except OSError as error:
            said = f"{_shown(request)} can't be reached: {error.strerror or error}"
            raise Unreachable(said, hint="is it up, and the port open?") from error

    async def _get(self, request: HttpGet, size_bytes_max: int) -> HttpAnswer:
        reader, writer = await self._connect(request, await _judged(request))
        try:
            return await _exchange(reader, writer, request, size_bytes_max)
        finally:
            writer.transport.abort()

    async def _connect(self, request: HttpGet, addresses: list[str]) -> Streams:
        last: OSError = OSError("no address")
        for address in addresses[:ADDRESSES_TRIED_MAX]:
            try:
                if request.scheme == "http":
                    return await asyncio.open_connection(address, request.port)
                return await self._connect_tls(request, address)
            except OSError as error:  # TLS's own errors are, too
                if request.either and is_loopback(address) and not isinstance(error, ConnectionRefusedError):  # it may just hang up
                    return await asyncio.open_connection(address, request.port)
                last = error
        raise last

    async def _connect_tls(self, request: HttpGet, address: str) -> Streams:
        streams = await self._dial(request, address, self._context(checked=False))
        certificate = streams[1].get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
        if not request.node or certificate_key(certificate) == request.node:
            return streams
        streams[1].transport.abort()
        try:
            return await self._dial(request, address, self._context(checked=True))
        except ssl.SSLError as error:
            raise Refused(
                f"{_shown(request)} is not the node {short(request.node)}: its certificate shows another key, and is not of its name",
                code=Code.WRONG_IDENTITY,
                hint="is the id right? then somebody answers in its place",
            ) from error

    async def _dial(self, request: HttpGet, address: str, context: ssl.SSLContext) -> Streams:
        return await asyncio.open_connection(
            address,
            request.port,
            ssl=context,
            server_hostname=request.host,
            ssl_handshake_timeout=TLS_TIMEOUT_S,
            ssl_shutdown_timeout=TLS_END_S,
        )

    def _context(self, *, checked: bool) -> ssl.SSLContext:
        if checked:
            self._checked = self._checked or ssl.create_default_context()
            return self._checked
        if self._unchecked is None:
            self._unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._unchecked.minimum_version = ssl.TLSVersion.TLSv1_2  # proxies; nodes speak 1.3
            self._unchecked.check_hostname = False
            self._unchecked.verify_mode = ssl.CERT_NONE  # no authority vouches for a node: its key is compared instead
        return self._unchecked


async def _judged(request: HttpGet) -> list[str]:
    """The addresses to dial: resolved once, judged, and never looked up again."""
    try:
        ipaddress.ip_address(request.host)
        found = [request.host]
    except ValueError:
        answers = await asyncio.get_running_loop().getaddrinfo(request.host, request.port, type=socket.SOCK_STREAM)
        found = [str(place[0]) for *_, place in answers]
    addresses = request.judge(request.host, list(dict.fromkeys(found)))
    if request.scheme == "http" and not all(map(is_loopback, addresses)):
        raise Refused(f"{_shown(request)} is not on this machine, and http:// is for loopback alone", hint="use https://")
    return addresses


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: HttpGet, size_bytes_max: int) -> HttpAnswer:
    import h11

    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
    headers = [("host", request.authority), ("connection", "close"), ("accept-encoding", "identity"), *request.headers.items()]
    try:
        writer.write(connection.send(h11.Request(method="GET", target=request.target, headers=headers)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        return await _read_answer(reader, connection, size_bytes_max)
    except h11.ProtocolError as error:
        said = f"{_shown(request)} does not answer with HTTP: {error}"
        raise ProtocolError(said, hint="name the port of its public listener, not its mesh port") from None


async def _read_answer(reader: asyncio.StreamReader, connection: h11.Connection, size_bytes_max: int) -> HttpAnswer:
    import h11

    status, headers, body = 0, dict[str, str](), bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > size_bytes_max:
                raise ProtocolError(f"an answer of more than {size_bytes_max} bytes", code=Code.TOO_LARGE)
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return HttpAnswer(status, headers, bytes(body))


def _shown(request: HttpGet) -> str:
    return f"{request.scheme}://{request.authority}"
