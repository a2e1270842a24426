"""The contact directory: what its TOML may say, what it may not, and whose node is whose."""

from __future__ import annotations

import base64

import pytest

from skerry.channel.weburl import read_place
from skerry.errors import UsageError
from skerry.identity.contacts import (
    CONCURRENCY,
    RATE_PER_S,
    Allowance,
    Contact,
    ContactDirectory,
    at_node,
    make_contact,
    parse_allowance,
    parse_contacts,
)
from tests.support.formation import MEMBER, OPERATOR, ROOT, STRANGER

FORMATION, NODE = ROOT.public.hex(), OPERATOR.public.hex()
EXAMPLE = f"""
[contacts]
here = "inproc"
bob = "tcp://{NODE}@127.0.0.7:7420"

[contacts.carol]
addresses = ["tcp://[::1]:7420", "uds:///run/skerry.sock", "https://carol.example/mesh"]
formation = "{FORMATION}"
allow = ["federate", "call:inference:*", "wire:helper", "inject:helper", "rate:2.5"]
concurrency = 3
"""


def refusal(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_contacts(text)
    assert caught.value.hint, "the next step is named"
    assert caught.value.message.startswith("contacts.toml"), "the file is named"
    return caught.value.message


def test_the_example_is_read() -> None:
    directory = parse_contacts(EXAMPLE)
    assert sorted(directory.contacts) == ["bob", "carol", "here"]
    here, bob, carol = (directory.contacts[name] for name in ("here", "bob", "carol"))
    assert here.inproc
    assert (bob.id, bob.is_node, bob.allow) == (OPERATOR.public, True, Allowance())
    assert bob.dialled() == [(OPERATOR.public, "tcp://127.0.0.7:7420")]
    assert (carol.id, carol.is_node) == (ROOT.public, False)
    assert carol.dialled() == [(None, "tcp://[::1]:7420"), (None, "uds:///run/skerry.sock")]
    assert carol.urls() == ["https://carol.example/mesh"]
    assert (carol.allow.rate_per_s, carol.allow.concurrency) == (2.5, 3)
    assert (bob.allow.rate_per_s, bob.allow.concurrency) == (RATE_PER_S, CONCURRENCY)


def test_each_kind_of_address_makes_an_entry_in_one_line() -> None:
    for address, dialled in (
        (f"tcp://{NODE}@127.0.0.7:7420", "tcp://127.0.0.7:7420"),
        (f"tcp://{NODE}@[::1]:7420", "tcp://[::1]:7420"),
        (f"uds://{NODE}@/run/a b@c.sock", "uds:///run/a b@c.sock"),
        (f"https://{NODE}@bob.example", ""),
    ):
        (bob,) = parse_contacts(f'[contacts]\nbob = "{address}"\n').contacts.values()
        assert (bob.id, bob.is_node) == (OPERATOR.public, True)
        assert bob.dialled() == ([(OPERATOR.public, dialled)] if dialled else [])
        assert parse_contacts(ContactDirectory([bob]).to_toml()).contacts["bob"] == bob


def test_what_is_written_is_read_again_the_same() -> None:
    directory = parse_contacts(EXAMPLE)
    again = parse_contacts(directory.to_toml())
    assert again.contacts == directory.contacts
    assert again.to_toml() == directory.to_toml()
    odd = ContactDirectory([make_contact("größe.1", addresses=['uds:///tmp/a"b\\c'], node=NODE)])
    assert parse_contacts(odd.to_toml()).contacts == odd.contacts


def test_an_empty_file_has_nobody() -> None:
    assert parse_contacts("").contacts == parse_contacts("[contacts]\n").contacts == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('bob = "smtp://example.org"', "unknown scheme"),
        ('bob = "127.0.0.7:7420"', "unknown scheme"),
        ('bob = "tcp://127.0.0.7:7420"', "no id"),
        ('bob = "uds:///run/skerry.sock"', "no id"),
        ('bob = "https://bob.example"', "no id"),
        (f'bob = "uds://{"00" * 32}@/run/skerry.sock"', "zeros"),
        ('bob = "uds://abcd@/run/skerry.sock"', "no public key"),
        (f'bob = "uds://{NODE}@run/skerry.sock"', "no address"),
        (f'bob = "tcp://{NODE}@127.0.0.7"', "no address"),
        (f'bob = "tcp://{NODE}@127.0.0.7:99999"', "port"),
        (f'bob = "tcp://{NODE}@127.0.0.7:0"', "port"),
        (f'bob = "tcp://{"00" * 32}@127.0.0.7:7420"', "zeros"),
        ('bob = "tcp://abcd@127.0.0.7:7420"', "no public key"),
        (f'bob = "tcp://{NODE}@127.0.0.7:\u0667\u0664"', "no address"),
        (f'bob = "tcp://{NODE}@a..b:7420"', "'a..b' is no name of a host"),
        (f'bob = "https://{NODE}@a..b"', "'a..b' is no name of a host"),
        (f'bob = "https://{NODE}@{"a" * 64}.example"', "no name of a host"),
        (f'bob = "https://{NODE}@[1:2]"', "'[1:2]' is no name of a host"),
        ("bob = 7", "an address or a table"),
        ('bob = { addresses = ["tcp://127.0.0.7:7420"] }', "no id"),
        (f'bob = {{ addresses = ["ftp://x"], node = "{NODE}" }}', "unknown scheme"),
        (f'bob = {{ addresses = "tcp://127.0.0.7:7420", node = "{NODE}" }}', "addresses"),
        (f'bob = {{ formation = "{"00" * 32}" }}', "zeros"),
        (f'bob = {{ formation = "{base64.b64encode(bytes(32)).decode()}" }}', "zeros"),
        (f'bob = {{ formation = "{FORMATION}", node = "{NODE}" }}', "both"),
        ("bob = { node = 5 }", "key"),
        ('bob = { node = "abcd" }', "node: 'abcd' is no public key"),
        ('bob = { formation = "abcd" }', "formation: 'abcd' is no public key"),
        (
            f'bob = {{ addresses = ["tcp://abcd@127.0.0.7:7420"], node = "{NODE}" }}',
            "address 'tcp://abcd@127.0.0.7:7420': 'abcd' is no public",
        ),
        (f'bob = {{ node = "{NODE}", right = [] }}', "no field 'right'"),
        (f'bob = {{ node = "{NODE}", allow = "federate" }}', "allow"),
        (f'bob = {{ node = "{NODE}", allow = ["everything"] }}', "'everything' is no right"),
        (f'bob = {{ node = "{NODE}", allow = ["call:"] }}', "no right"),
        (f'bob = {{ node = "{NODE}", allow = ["wire:alpha/desk"] }}', "without its node"),
        (f'bob = {{ node = "{NODE}", allow = ["inject:alpha/*"] }}', "without its node"),
        (f'bob = {{ node = "{NODE}", allow = ["call:a*b"] }}', "no right"),
        (f'bob = {{ node = "{NODE}", allow = [7] }}', "no right"),
        (f'bob = {{ node = "{NODE}", rate = 0 }}', "rate"),
        (f'bob = {{ node = "{NODE}", rate = nan }}', "rate"),
        (f'bob = {{ node = "{NODE}", allow = ["rate:fast"] }}', "rate"),
        pytest.param(f'bob = {{ node = "{NODE}", rate = 1{"0" * 400} }}', "rate", id="a rate of 400 digits"),
        pytest.param(f'bob = {{ node = "{NODE}", rate = 0x{"f" * 6000} }}', "rate", id="a rate of 6,000 digits"),
        pytest.param(f'bob = {{ node = "{NODE}", concurrency = 0x{"f" * 6000} }}', "concurrency", id="a concurrency of 6,000 digits"),
        (f'bob = {{ node = "{NODE}", rate = 2026-01-01 }}', "rate"),
        (f'bob = {{ node = "{NODE}", concurrency = 0 }}', "concurrency"),
        (f'bob = {{ node = "{NODE}", concurrency = true }}', "concurrency"),
        (f'bob = {{ node = "{NODE}", concurrency = 1.5 }}', "concurrency"),
        (f'"b/ob" = {{ node = "{NODE}" }}', "no name"),
        (f'public = {{ node = "{NODE}" }}', "public"),
    ],
)
def test_a_wrong_entry_is_named_with_what_is_wrong(entry: str, said: str) -> None:
    message = refusal(f'[contacts]\nfine = "inproc"\n{entry}\n')
    assert entry.partition(" ")[0].strip('"') in message, "the entry is named"
    assert said in message


def test_two_entries_for_one_formation_are_refused_by_both_names() -> None:
    message = refusal(f'[contacts]\nbob = {{ formation = "{FORMATION}" }}\nrob = {{ formation = "{FORMATION}" }}\n')
    assert "'bob' and 'rob'" in message


@pytest.mark.parametrize(
    "text",
    [
        "contacts = 5", "[contact]\n", "[contacts\n", "bob = 1", "[[contacts]]\n", "contacts = " + "[" * 5000,
        "contacts = " + "{a=" * 5000, "contacts = 1" + "0" * 5000, "contacts = 0x" + "f" * 6000,
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_directory(text: str) -> None:
    assert "contacts" in refusal(text)


@pytest.mark.parametrize(
    "place",
    ["a", "A_b.example", "_.example:65535", "[::1]:1", "[::ffff:127.0.0.1]", "a/" + "b" * 289, "127.0.0.1/a.b/..c/~d/", "a." * 126 + "a."],
)
def test_what_an_entry_may_have_can_be_pulled_from(place: str) -> None:
    for formation, node in ((FORMATION, ""), ("", NODE)):
        contact = make_contact("bob", addresses=[f"https://{place}"], formation=formation, node=node)
        assert [read_place(url).node for url in contact.urls()] == [bytes.fromhex(node)]


def test_keys_are_taken_as_hex_and_as_base64() -> None:
    plain = base64.b64encode(OPERATOR.public).decode()
    for text in (NODE, NODE.upper(), plain, f"ed25519:{plain}", plain.rstrip("=")):
        assert make_contact("bob", addresses=[], node=text).id == OPERATOR.public


def test_an_entry_for_a_node_counts_before_one_for_its_formation() -> None:
    everybody = make_contact("all", addresses=[], formation=FORMATION, allow=["call:*"])
    one = make_contact("one", addresses=[], node=NODE)
    directory = ContactDirectory([everybody, one])
    assert directory.of(node=OPERATOR.public, formation=ROOT.public) is one
    assert directory.of(node=MEMBER.public, formation=ROOT.public) is everybody
    assert directory.of(node=MEMBER.public, formation=STRANGER.public) is None
    assert directory.with_id(ROOT.public) is everybody
    assert directory.with_id(OPERATOR.public) is one
    assert directory.with_id(b"") is None, "what is in process is nobody else's"


def test_rights_say_exactly_what_they_say() -> None:
    allow = parse_allowance(["call:inference:*", "call:custom:greet", "wire:helper"])
    assert [allow.may("call", c) for c in ("inference:x", "custom:greet", "custom:greeter", "inferenc")] == [True, True, False, False]
    assert not allow.may("federate")
    assert not allow.may("inject", "helper")
    assert allow.may("wire", "helper")
    assert not parse_allowance(["federate"]).may("call", "federate")
    assert parse_allowance(["call:*"]).may("call", "anything:at all")
    assert parse_allowance(["federate", "federate"]).texts() == ["federate"]


def test_an_address_says_which_node_answers() -> None:
    assert at_node(OPERATOR.public, "tcp://127.0.0.7:1") == f"tcp://{NODE}@127.0.0.7:1"
    assert at_node(OPERATOR.public, "uds:///x") == f"uds://{NODE}@/x"
    assert at_node(OPERATOR.public, "https://x") == "https://x"
    contact = Contact("bob", ROOT.public, addresses=(at_node(OPERATOR.public, "tcp://127.0.0.7:1"),))
    assert contact.dialled() == [(OPERATOR.public, "tcp://127.0.0.7:1")]
