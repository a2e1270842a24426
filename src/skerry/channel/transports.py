"""The real network: TCP with TLS 1.3, and Unix sockets, behind the `Network` port.

TLS runs under a self-signed certificate over the node's own Ed25519 key. Nobody signs it and nobody needs to: the dialler compares the
key in it with the node id that it expects, before it says anything. Clients show no certificate (Python's ssl refuses self-signed
ones); the dialler proves itself in the handshake. A Unix socket proves by its peer credentials that both ends are one user's.

The rule: a protocol is handed a connection only when the transport has done all that it can do.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import datetime
import errno
import hashlib
import os
import socket
import ssl
import struct
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from skerry.channel.acceptor import TLS_END_S, TLS_TIMEOUT_S, Acceptor, bind, bound_unread
from skerry.channel.address import Address, parse_address
from skerry.errors import Code, SkerryError, Unreachable, UsageError
from skerry.identity.keys import KeyPair
from skerry.ports import Listener, ProtocolFactory, Security

BACKLOG = 512  # a burst of a few hundred nodes that reconnect at once
TLS_READ_BYTES = 64 * 1024  # each TLS connection keeps a buffer of this size; asyncio's own 256 KiB make 0.5 GiB of 2,000 connections
_NO_BINDING = bytes(32)
_CENTURY = datetime.timedelta(days=36500)  # the pin decides, not the date: a clock in 1970 must not lock a node out
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
asyncio.sslproto.SSLProtocol.max_size = TLS_READ_BYTES  # for the whole process: there is no way to say it for one connection


class RealNetwork:
    """TLS and Unix sockets for the node or client that owns `key`."""

    def __init__(self, key: KeyPair) -> None:
        self._key = key
        self._certificate_hash = b""
        self._server_context: ssl.SSLContext | None = None
        self._client_context: ssl.SSLContext | None = None

    async def listen(self, address: str, factory: ProtocolFactory) -> Listener:
        parsed = parse_address(address)
        if parsed.scheme == "via":
            raise UsageError("nobody listens at another node", hint="write tcp://HOST:PORT or uds:///PATH")
        try:
            if parsed.scheme == "uds":
                return await _listen_uds(parsed, factory)
            sockets = await bind(parsed.host, parsed.port, backlog=BACKLOG)
        except OSError as error:
            raise listen_error(str(parsed), error) from error
        port = sockets[0].getsockname()[1]
        return RealListener(Acceptor(sockets, self.listening_context(), factory), str(Address("tcp", parsed.host, port)))

    async def dial(self, address: str, factory: ProtocolFactory, *, timeout_s: float) -> asyncio.Protocol:
        parsed = parse_address(address)
        if parsed.scheme == "via":
            raise Unreachable(f"{parsed} leads over a relay, which only a node uses", hint="ask a node of the formation")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                if parsed.scheme == "uds":
                    _, protocol = await loop.create_unix_connection(factory, parsed.path)
                else:
                    transport, protocol = await loop.create_connection(
                        factory,
                        parsed.host,
                        parsed.port,
                        ssl=self._dialling_context(),
                        server_hostname="skerry",
                        ssl_handshake_timeout=min(timeout_s, TLS_TIMEOUT_S),
                        ssl_shutdown_timeout=TLS_END_S,
                        happy_eyeballs_delay=0.25,
                    )
                    bound_unread(transport.get_extra_info("socket"))
        except TimeoutError as error:
            raise Unreachable(f"{parsed} did not answer within {timeout_s:g} s", hint="is the node up, and the port open?") from error
        except (OSError, ValueError) as error:
            raise _dial_error(parsed, error) from error
        return protocol

    async def resolve(self, host: str, port: int) -> list[str]:
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"the name {host[:100]!r} can't be resolved: {error}", hint="check the spelling, or use a number") from error
        return list(dict.fromkeys(str(place[0]) for *_, place in answers))

    async def secure(self, transport: asyncio.Transport, factory: ProtocolFactory, *, listener: bool, timeout_s: float) -> asyncio.Protocol:
        loop = asyncio.get_running_loop()
        protocol, done = factory(), loop.create_future()
        # Not `loop.start_tls`: it hands bytes to the protocol before anybody could tell it that it is connected.
        tls = asyncio.sslproto.SSLProtocol(
            loop,
            protocol,
            self.listening_context() if listener else self._dialling_context(),
            done,
            server_side=listener,
            server_hostname=None if listener else "skerry",
            ssl_handshake_timeout=min(timeout_s, TLS_TIMEOUT_S),  # type: ignore[arg-type]  # typeshed knows whole seconds alone
            ssl_shutdown_timeout=TLS_END_S,
        )
        transport.set_protocol(tls)
        tls.connection_made(transport)
        try:
            await done
        except (OSError, ValueError) as error:
            transport.abort()
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
            raise Unreachable(f"the other end of the pipe does not answer with TLS 1.3 ({said})", hint=_PIPE) from error
        except asyncio.CancelledError:
            transport.abort()
            raise
        return protocol

    def bare(self, transport: asyncio.Transport) -> asyncio.Transport:
        if not isinstance(transport, asyncio.sslproto._SSLProtocolTransport):
            return transport
        tls = transport._ssl_protocol  # asyncio has no name for it that others may use
        under = tls._transport if tls is not None else None
        if tls is None or under is None or under.is_closing():
            raise Unreachable("the connection was lost", code=Code.CONNECTION_LOST)
        assert isinstance(under, asyncio.Transport)
        tls._transport = None
        transport._closed = True  # else it warns that nobody closed it
        return under

    def security(self, transport: asyncio.BaseTransport) -> Security:
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is None:
            return Security("uds", None, _NO_BINDING, _same_owner(transport.get_extra_info("socket")))
        certificate = tls.getpeercert(binary_form=True)
        if certificate is None:  # we are the listener
            return Security("tcp", None, self._certificate_hash, False)
        return Security("tcp", certificate_key(certificate), hashlib.sha256(certificate).digest(), False)

    def listening_context(self) -> ssl.SSLContext:
        """What a listener under this node's certificate needs; the same one every time."""
        if self._server_context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
            self._certificate_hash = _load_certificate(context, self._key)
            self._server_context = context
        return self._server_context

    def _dialling_context(self) -> ssl.SSLContext:
        if self._client_context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # no authority vouches for a node: the handshake checks the pin itself
            self._client_context = context
        return self._client_context


_PIPE = "its other end may have gone; try again"


class RealListener:
    """A bound socket that accepts; a Unix socket's file goes when it closes."""

    def __init__(self, server: asyncio.Server | Acceptor, address: str, *, path: Path | None = None) -> None:
        self._server = server
        self._address = address
        self._path = path

    @property
    def address(self) -> str:
        return self._address

    async def close(self) -> None:
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


async def _listen_uds(address: Address, factory: ProtocolFactory) -> Listener:
    path = Path(address.path)
    if path.exists():
        if _answers(path):  # asyncio would take the path from under its owner
            raise OSError(errno.EADDRINUSE, "in use")
        path.unlink()  # left by a process that was killed
    before = os.umask(0o177)
    try:
        server = await asyncio.get_running_loop().create_unix_server(factory, str(path), backlog=BACKLOG)
    finally:
        os.umask(before)
    return RealListener(server, str(address), path=path)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _same_owner(connection: socket.socket | None) -> bool:
    if connection is None or connection.family != socket.AF_UNIX:
        return False
    if hasattr(socket, "SO_PEERCRED"):
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return bool(uid == os.getuid())
    credentials = connection.getsockopt(0, 1, 76)  # macOS: SOL_LOCAL, LOCAL_PEERCRED -> struct xucred {version, uid, ...}
    return bool(struct.unpack_from("=I", credentials, 4)[0] == os.getuid())


def _load_certificate(context: ssl.SSLContext, key: KeyPair) -> bytes:
    """Make the certificate and load it; returns its SHA-256. ssl reads files only, so it gets one for a moment, 0600."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "skerry")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1 + int.from_bytes(key.public[:8], "big"))
        .not_valid_before(_EPOCH)
        .not_valid_after(_EPOCH + _CENTURY)
        .sign(private, None)
    )
    pem = certificate.public_bytes(Encoding.PEM) + private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.NamedTemporaryFile(prefix="skerry-", suffix=".pem") as file:  # created 0600
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def certificate_key(certificate: bytes) -> bytes:
    """The Ed25519 key in a certificate; 32 zero bytes, nobody's key, where there is none."""
    try:
        public = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return _NO_BINDING
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw) if isinstance(public, Ed25519PublicKey) else _NO_BINDING


def listen_error(address: str, error: OSError) -> SkerryError:
    """What to say where an address can't be bound; for the mesh's port and for HTTP's."""
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"the address {address} is in use by another program",
            code=Code.PORT_IN_USE,
            hint="choose another port; port 0 takes a free one",
        )
    reason = error.strerror or str(error)
    return UsageError(f"can't listen at {address}: {reason}", hint="use an address of this machine, and a port above 1023")


def _dial_error(address: Address, error: OSError | ValueError) -> SkerryError:
    if isinstance(error, ssl.SSLError):
        return Unreachable(f"{address} answers, but not with TLS 1.3 ({error.reason or error})", hint="is that a Skerry node's mesh port?")
    if isinstance(error, socket.gaierror):
        return Unreachable(f"the name {address.host!r} can't be resolved: {error.strerror}", hint="check the spelling, or use a number")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return Unreachable(f"nobody listens at {address}", hint="is the node up, and is this its address?")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Unreachable(f"{address} can't be reached: {reason}", hint="is the node up, and the way there open?")
