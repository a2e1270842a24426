"""Capabilities: `kind:name`, split at the first colon, the rest opaque (`inference:llama3:8b`); `web` and `storage` stand alone.

A query is a capability or ends in `*` (`embedding:*`, `inference:llama3*`, `*`). Case is kept. The payload and result schemas that
go with a kind follow OpenAI's (see `payloads.py`); a `custom:` agent declares its own.
"""

from __future__ import annotations

from skerry.errors import UsageError

NAMED_KINDS = ("inference", "embedding", "image", "transcription", "speech", "code", "custom")
BARE_KINDS = ("web", "storage")
IDEMPOTENT_KINDS = frozenset({"inference", "embedding", "transcription"})  # asked twice, they do no harm
LENGTH_MAX = 200  # characters; model ids of the longest hubs stay below 150


def check_capability(text: str) -> str:
    """`text` itself where it is a capability. Raises UsageError that says what a capability looks like."""
    kind, _, name = text.partition(":")
    _check_text(text)
    if "*" in text:
        raise UsageError(f"the capability {text!r} has a '*': only a query may end in one", hint="name the capability exactly")
    if text in BARE_KINDS or (kind in NAMED_KINDS and name):
        return text
    raise _unknown_kind(text)


def check_query(text: str) -> str:
    """`text` itself where it is a capability or a prefix that ends in `*`. Raises UsageError otherwise."""
    _check_text(text)
    if not text.endswith("*"):
        return check_capability(text)
    stem = text[:-1]
    if "*" in stem:
        raise UsageError(f"the query {text!r} has a '*' that is not at its end", hint="use one '*', as the last character")
    kind, colon, _ = stem.partition(":")
    if (colon and kind not in NAMED_KINDS) or not any(k.startswith(kind) for k in NAMED_KINDS + BARE_KINDS):
        raise _unknown_kind(text)
    return text


def matches(query: str, capability: str) -> bool:
    """Whether a capability answers a query."""
    if query.endswith("*"):
        return capability.startswith(query[:-1])
    return query == capability


def kind_of(capability: str) -> str:
    return capability.partition(":")[0]


def name_of(capability: str) -> str:
    return capability.partition(":")[2]


def idempotent_by_default(capability: str) -> bool:
    return kind_of(capability) in IDEMPOTENT_KINDS


def _check_text(text: str) -> None:
    if not text or len(text) > LENGTH_MAX or not text.isprintable() or text != text.strip():
        raise UsageError(
            f"{text[:40]!r} is no capability: it must have 1 to {LENGTH_MAX} printable characters and no blanks around",
            hint="write kind:name, for example inference:llama3:8b or custom:greet",
        )


def _unknown_kind(text: str) -> UsageError:
    kinds = ", ".join(f"{k}:NAME" for k in NAMED_KINDS)
    return UsageError(
        f"{text!r} is no capability: it must be one of {kinds}, {' or '.join(BARE_KINDS)}",
        hint=f"for something of your own write custom:{text.replace(':', '-').rstrip('*') or 'NAME'}",
    )
