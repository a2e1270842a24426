"""Where a public listener is, as text."""

from __future__ import annotations

import pytest

from skerry.channel.weburl import Place, read_place
from skerry.errors import UsageError
from tests.support.formation import MEMBER

ID = MEMBER.public.hex()


@pytest.mark.parametrize(
    ("text", "place", "shown"),
    [
        (f"{ID}@host:7443", Place("https", "host", 7443, "", MEMBER.public), f"{ID}@host:7443"),
        (f"{ID}@127.0.0.1:80", Place("https", "127.0.0.1", 80, "", MEMBER.public, either=True), f"{ID}@127.0.0.1:80"),
        (f"{ID}@[::1]:80", Place("https", "::1", 80, "", MEMBER.public, either=True), f"{ID}@[::1]:80"),
        (f"https://{ID}@Host", Place("https", "host", 443, "", MEMBER.public), f"{ID}@host:443"),
        (f"http://{ID}@localhost:9", Place("http", "localhost", 9, "", MEMBER.public), f"http://{ID}@localhost:9"),
        ("https://host", Place("https", "host", 443), "https://host"),
        ("https://mesh.example.", Place("https", "mesh.example.", 443), "https://mesh.example."),
        ("https://host:8443/mesh/", Place("https", "host", 8443, "/mesh"), "https://host:8443/mesh"),
        ("http://127.0.0.1:80", Place("http", "127.0.0.1", 80), "http://127.0.0.1"),
    ],
)
def test_a_place_is_read_and_written(text: str, place: Place, shown: str) -> None:
    assert read_place(text) == place
    assert str(place) == shown
    assert read_place(shown).url == place.url


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no scheme and no id"),
        ("host:80", "no scheme and no id"),
        ("me@host:80", "its id"),
        (f"{'0' * 64}@host:80", "its id"),
        (f"{ID}@host", "its port"),
        (f"{ID}@host:0", "its port"),
        (f"{ID}@host:70000", "its port"),
        ("https://host:x", "its port"),
        ("https://", "its host"),
        ("https://ho st", "plain characters"),
        ("https://[::1", "its host"),
        ("https://[ho]:1", "its host"),
        ("https://[1:2]", "its host"),
        ("https://[127.0.0.1]", "its host"),
        ("https://a..b", "its host"),
        ("https://.", "its host"),
        (f"https://{'a' * 64}.example", "its host"),
        (f"https://{'a.' * 127}aa", "its host"),
        ("https://höst", "plain characters"),
        ("ftp://host", "its scheme"),
        ("http://host:80", "in clear"),
        ("https://host/a?b=c", "its path"),
        ("https://host/../a", "its path"),
        ("https://host/a#b", "its path"),
        (f"https://{ID}@a@b", "its host"),
        ("https://" + "x" * 400, "400"),
    ],
)
def test_a_refusal_names_the_part(text: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        read_place(text)
