"""Signed requests: good for one server, one request, once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.channel import signed_request
from skerry.channel.signed_request import NONCES_MAX, TOLERANCE_S, Caller, Nonces, check_request, is_signed, signed_headers
from skerry.errors import Code, Refused
from tests.support.formation import CLIENT, MEMBER, OPERATOR

NOW_S = 1_750_000_000
TARGET = "/federation/pull?since=abc&limit=200"
SERVER = OPERATOR.public
COVERED = '("@method" "@request-target" "content-digest" "skerry-server" "skerry-grant")'
HEADERS = signed_headers(MEMBER, method="GET", target=TARGET, server=SERVER, now_s=NOW_S, nonce=bytes(16), grant=b"grant")


def check(headers: dict[str, str], *, method: str = "GET", target: str = TARGET, now_s: int = NOW_S, body: bytes = b"") -> Caller:
    return check_request(headers, method=method, target=target, server=SERVER, now_s=now_s, body=body)


def test_who_signs_is_known() -> None:
    assert is_signed(HEADERS)
    assert not is_signed({"accept": "*/*"})
    assert check(HEADERS) == Caller(MEMBER.public, "0" * 32, b"grant")
    plain = signed_headers(CLIENT, method="GET", target=TARGET, server=SERVER, now_s=NOW_S, nonce=b"n" * 16)
    assert check(plain).grant == b""


def test_the_form_is_that_of_the_rfc() -> None:
    """The signature base of section 2.5, written out by hand."""
    base = signed_request._base(HEADERS["signature-input"].partition("=")[2], method="GET", target=TARGET, headers=HEADERS).decode()
    assert base.split("\n") == [
        '"@method": GET',
        f'"@request-target": {TARGET}',
        '"content-digest": sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:',
        f'"skerry-server": {SERVER.hex()}',
        '"skerry-grant": Z3JhbnQ',
        f'"@signature-params": {COVERED};created={NOW_S};nonce="{"0" * 32}";keyid="{MEMBER.public.hex()}";alg="ed25519"',
    ]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": "POST"}, "signature"),
        ({"target": "/federation/pull?since=abd&limit=200"}, "signature"),
        ({"body": b"x"}, "content-digest"),
    ],
)
def test_another_request_is_not_signed_by_it(change: dict[str, object], named: str) -> None:
    with pytest.raises(Refused, match=named):
        check(HEADERS, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "value", "named"),
    [
        ("signature-input", "", "signature-input"),
        ("signature-input", "x", "signature-input"),
        ("signature-input", HEADERS["signature-input"].replace('"@method" ', ""), "@method must be covered"),
        ("signature-input", HEADERS["signature-input"].replace(' "skerry-server"', ""), "skerry-server must be covered"),
        ("signature-input", HEADERS["signature-input"].replace(' "skerry-grant"', ""), "skerry-grant must be covered"),
        ("signature-input", HEADERS["signature-input"].replace('"@method"', '"@method" "@method"'), "once"),
        ("signature-input", HEADERS["signature-input"].replace('"@method"', '"@method" "cookie"'), "cookie"),
        ("signature-input", HEADERS["signature-input"].replace("ed25519", "hmac-sha256"), "alg"),
        ("signature-input", HEADERS["signature-input"].replace(f"created={NOW_S};", ""), "created"),
        ("signature-input", HEADERS["signature-input"].replace("0" * 32, ""), "nonce"),
        ("signature-input", HEADERS["signature-input"].replace("0" * 32, "1" * 32), "signature"),
        ("signature-input", HEADERS["signature-input"].replace(MEMBER.public.hex(), "me"), "keyid"),
        ("signature-input", HEADERS["signature-input"].replace(MEMBER.public.hex(), CLIENT.public.hex()), "signature"),
        ("signature-input", HEADERS["signature-input"].replace(str(NOW_S), str(NOW_S + 1)), "signature"),
        ("signature", "", "base64"),
        ("signature", "skerry=:!:", "base64"),
        ("signature", "skerry=:AAAA:", "signature"),
        ("skerry-grant", "other", "signature"),
        ("skerry-grant", "x" * 20_000, "signature"),
        ("content-digest", "", "content-digest"),
    ],
)
def test_a_header_that_was_changed_is_named(header: str, value: str, named: str) -> None:
    with pytest.raises(Refused, match=named):
        check({**HEADERS, header: value})


def test_what_was_signed_for_one_server_is_of_no_use_at_another() -> None:
    other = signed_headers(MEMBER, method="GET", target=TARGET, server=CLIENT.public, now_s=NOW_S, nonce=bytes(16))
    with pytest.raises(Refused, match="another server") as refusal:
        check(other)
    assert refusal.value.code == Code.WRONG_IDENTITY
    with pytest.raises(Refused, match="signature"):
        check({**other, "skerry-server": SERVER.hex()})


@pytest.mark.parametrize("off_s", [TOLERANCE_S + 1, -TOLERANCE_S - 1, 10**9, -(10**9)])
def test_a_clock_that_is_off_is_named_as_the_cause(off_s: int) -> None:
    check(HEADERS, now_s=NOW_S + (TOLERANCE_S if off_s > 0 else -TOLERANCE_S))
    with pytest.raises(Refused, match="a clock is off") as refusal:
        check(HEADERS, now_s=NOW_S + off_s)
    assert refusal.value.code == Code.CLOCK_OFF
    assert str(abs(off_s)) in refusal.value.message


def test_a_nonce_is_good_once() -> None:
    nonces = Nonces()
    caller = check(HEADERS)
    nonces.take(caller, now_s=NOW_S)
    with pytest.raises(Refused, match="replay"):
        nonces.take(caller, now_s=NOW_S + 2 * TOLERANCE_S)
    nonces.take(Caller(CLIENT.public, caller.nonce), now_s=NOW_S)
    nonces.take(caller, now_s=NOW_S + 2 * TOLERANCE_S + 1)


def test_a_flood_of_nonces_is_refused_before_one_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_request, "NONCES_MAX", 3)
    nonces = Nonces()
    for number in range(3):
        nonces.take(Caller(MEMBER.public, str(number)), now_s=NOW_S)
    with pytest.raises(Refused, match="too many") as refusal:
        nonces.take(Caller(MEMBER.public, "3"), now_s=NOW_S)
    assert refusal.value.code == Code.BUSY
    nonces.take(Caller(MEMBER.public, "3"), now_s=NOW_S + 2 * TOLERANCE_S + 1)
    assert len(nonces) == 1
    assert NONCES_MAX > 3


@given(st.dictionaries(st.sampled_from(["signature-input", "signature", "skerry-grant", "skerry-server", "content-digest"]), st.text()))
def test_any_headers_are_answered(given_headers: dict[str, str]) -> None:
    if given_headers:
        with pytest.raises(Refused):
            check({**HEADERS, **given_headers, "signature": "skerry=:AAAA:"})
