"""Signed HTTP requests (RFC 9421, Ed25519): who asks, what, of whom, and when; good for once.

The signature covers the method, the target with its query, the digest of the body, the id of the server that is asked, and the caller's
grant where it shows one; its parameters hold when it was made, a nonce, and the caller's node id as `keyid`. So what was signed for one
server is of no use at another, and what was recorded is of no use a second time.

    Content-Digest: sha-256=:...:                       (RFC 9530; also where the body is empty)
    Skerry-Server: <node id>
    Skerry-Grant: <base64url of the signed grant>       (members; left out by a node without one)
    Signature-Input: skerry=("@method" "@request-target" "content-digest" "skerry-server" "skerry-grant")
                     ;created=..;nonce="..";keyid="<node id>";alg="ed25519"                                 (in one line)
    Signature: skerry=:...:

The rule: pure: the clock and the nonce are parameters, and a request is verified as it came, never as somebody would write it again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from skerry.errors import Code, Refused, UsageError
from skerry.identity.keys import KeyPair, parse_id, verify

TOLERANCE_S = 300  # of two clocks
NONCE_BYTES = 16
NONCE_CHARACTERS_MAX = 64
NONCES_MAX = 65_536  # remembered at once, for ten minutes each: 100 requests a second of all callers together
LABEL = "skerry"
GRANT_CHARACTERS_MAX = 12 * 1024  # a grant has 8 KiB at most
_MUST_COVER = ("@method", "@request-target", "content-digest", "skerry-server")
_INPUT = re.compile(
    r'([a-z*][a-z0-9_.*-]{0,30})=(\(("[^"]{1,40}"(?: "[^"]{1,40}"){0,15})\)((?:;[a-z*][a-z0-9_.*-]{0,30}=(?:"[^"\\]{0,200}"|-?\d{1,15}))*))'
)
_PARAMETER = re.compile(r';([a-z*][a-z0-9_.*-]*)=(?:"([^"\\]*)"|(-?\d+))')


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, proven. `grant`: the signed grant that it shows, not judged yet; empty where it shows none."""

    node: bytes
    nonce: str
    grant: bytes = b""


def signed_headers(
    key: KeyPair, *, method: str, target: str, server: bytes, now_s: int, nonce: bytes, body: bytes = b"", grant: bytes = b""
) -> dict[str, str]:
    """The headers that sign a request. `target`: path and query, as the request line will have them."""
    headers = {"content-digest": _digest(body), "skerry-server": server.hex()}
    if grant:
        headers["skerry-grant"] = base64.urlsafe_b64encode(grant).decode().rstrip("=")
    covered = " ".join(f'"{name}"' for name in (*_MUST_COVER, *(["skerry-grant"] if grant else [])))
    parameters = f'({covered});created={now_s};nonce="{nonce.hex()}";keyid="{key.public.hex()}";alg="ed25519"'
    message = _base(parameters, method=method, target=target, headers=headers)
    headers["signature-input"] = f"{LABEL}={parameters}"
    headers["signature"] = f"{LABEL}=:{base64.b64encode(key.sign(message)).decode()}:"
    return headers


def is_signed(headers: Mapping[str, str]) -> bool:
    """Whether a request claims to be signed; what claims it is held to it."""
    return "signature" in headers or "signature-input" in headers


def check_request(headers: Mapping[str, str], *, method: str, target: str, server: bytes, now_s: int, body: bytes = b"") -> Caller:
    """Who signed the request. `headers` in lower case. Raises Refused that names the header or the parameter that is wrong.

    Whether the nonce was used before is `Nonces`' to say.
    """
    found = _INPUT.fullmatch(headers.get("signature-input", ""))
    if found is None:
        raise _refused("signature-input", "one signature with its parameters is wanted")
    label, parameters, covered, tail = found.groups()
    names = [name.strip('"') for name in covered.split(" ")]
    missing = [name for name in _MUST_COVER if name not in names]
    if missing or len(set(names)) != len(names):
        raise _refused("signature-input", f"{missing[0] if missing else 'every part once'} must be covered")
    if "skerry-grant" in headers and "skerry-grant" not in names:
        raise _refused("signature-input", "skerry-grant must be covered")
    values = {name: text or number for name, text, number in _PARAMETER.findall(tail)}
    if values.get("alg", "ed25519") != "ed25519":
        raise _refused("signature-input", f"alg is {values['alg']!r}, where ed25519 is wanted")
    _check_time(values.get("created", ""), now_s)
    nonce = values.get("nonce", "")
    if not 0 < len(nonce) <= NONCE_CHARACTERS_MAX:
        raise _refused("signature-input", f"nonce: 1 to {NONCE_CHARACTERS_MAX} characters are wanted")
    if headers.get("skerry-server") != server.hex():
        raise Refused(
            "the request was signed for another server (skerry-server)", code=Code.WRONG_IDENTITY, hint="is that seed's id right?"
        )
    if headers.get("content-digest") != _digest(body):
        raise _refused("content-digest", "it is not the body's")
    caller = _key(values.get("keyid", ""))
    message = _base(parameters, method=method, target=target, headers=headers, names=names)
    if not verify(caller, message, _signature(headers, label)):
        raise _refused("signature", "it is not that of its keyid over this request")
    return Caller(caller, nonce, _grant(headers.get("skerry-grant", "")))


class Nonces:
    """The nonces of requests that were taken, for as long as their `created` would be."""

    def __init__(self) -> None:
        self._until: dict[tuple[bytes, str], int] = {}  # in the order of ending

    def __len__(self) -> int:
        return len(self._until)

    def take(self, caller: Caller, *, now_s: int) -> None:
        """Raises Refused where that nonce was used before, or where so many were used lately that it can't be known."""
        while self._until and next(iter(self._until.values())) < now_s:
            del self._until[next(iter(self._until))]
        one = (caller.node, caller.nonce)
        if one in self._until:
            raise _refused("signature-input", "its nonce was used before: this is a replay")
        if len(self._until) >= NONCES_MAX:
            raise Refused("too many signed requests came lately", code=Code.BUSY, hint="ask again in some minutes")
        self._until[one] = now_s + 2 * TOLERANCE_S


# --- inside -----------------------------------------------------------------------------------------------------------------------


def _base(parameters: str, *, method: str, target: str, headers: Mapping[str, str], names: list[str] | None = None) -> bytes:
    """The signature base (RFC 9421, 2.5). Raises Refused where a part that is covered is not there."""
    found = names or [name.strip('"') for name in parameters[1 : parameters.index(")")].split(" ")]
    lines = []
    for name in found:
        value = {"@method": method, "@request-target": target}.get(name, headers.get(name))
        if value is None:
            raise _refused(name, "it is covered by the signature, and is not there")
        lines.append(f'"{name}": {value.strip()}')
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode()


def _check_time(text: str, now_s: int) -> None:
    if not text.lstrip("-").isdigit():
        raise _refused("signature-input", "created is missing")
    ahead_s = int(text) - now_s
    if abs(ahead_s) > TOLERANCE_S:
        raise Refused(
            f"a clock is off: the request was made {abs(ahead_s)} s {'ahead of' if ahead_s > 0 else 'before'} this node's time (created)",
            code=Code.CLOCK_OFF,
            hint="set both clocks (NTP)",
        )


def _key(text: str) -> bytes:
    try:
        return parse_id(text)
    except UsageError as error:
        raise _refused("signature-input", f"keyid: {error.message}") from None


def _signature(headers: Mapping[str, str], label: str) -> bytes:
    text = headers.get("signature", "")
    prefix = f"{label}=:"
    if not text.startswith(prefix) or not text.endswith(":"):
        raise _refused("signature", f"{label}=:base64: is wanted")
    try:
        return base64.b64decode(text[len(prefix) : -1], validate=True)
    except (binascii.Error, ValueError):
        raise _refused("signature", "it is no base64") from None


def _grant(text: str) -> bytes:
    if len(text) > GRANT_CHARACTERS_MAX:
        raise _refused("skerry-grant", f"at most {GRANT_CHARACTERS_MAX} characters are taken")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _refused("skerry-grant", "it is no base64url") from None


def _digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def _refused(what: str, why: str) -> Refused:
    return Refused(
        f"the signature of the request does not hold: {what}: {why}", code=Code.NOT_GRANTED, hint="unsigned requests get public records"
    )
