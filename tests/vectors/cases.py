"""What the vectors are made of: fixed keys, fixed times, one example of everything that travels or is kept."""

from __future__ import annotations

from typing import Any

from skerry.channel.framing import SHAPES, Frame, encode_frame
from skerry.channel.handshake import Purpose
from skerry.identity.codec import encode
from skerry.identity.grants import Role, depart
from skerry.identity.keys import agent_id
from skerry.identity.pieces import joined
from skerry.identity.statement import Statement, state
from skerry.identity.ticket import Invitation, Ticket, hash_secret
from skerry.records.card import AgentCard, CardOffer, sign_card
from skerry.routing.announcement import CircleAnnouncement, Speaker
from skerry.routing.circle import TTL_MS, AgentCircle, AgentProfile, CallableBy, Charter, CircleStatus, circle_id
from skerry.routing.task import Task, TaskResult, new_task_id
from skerry.wiring.wires import End, half_body, wire_name
from tests.support.formation import CLIENT, DAY_MS, FORMATION, MEMBER, NOW_MS, OPERATOR, key, member_grant, operator_grant, revocation
from tests.support.handshakes import UNIX, dialler, frames, listener, talk

AGENT = key(0x0707)
STAMP = NOW_MS << 16 | 3


def _said(kind: str, name: str, body: dict[str, Any], *, audience: Any = "formation", expires: int = NOW_MS + DAY_MS) -> Statement:
    return state(OPERATOR, kind=kind, name=name, formation=FORMATION, audience=audience, stamp=STAMP, expires=expires, body=body)


def card() -> tuple[AgentCard, bytes]:
    offer = CardOffer(
        "custom:greet",
        idempotent=True,
        streams=True,
        description="says hello",
        payload={"type": "string"},
        result={"type": "array", "items": {"type": "string"}},
        example="Ada",
        attributes={"languages": ["en", "ü"], "cost": 0.5},
    )
    return sign_card(
        AgentCard(
            id=agent_id(AGENT.public),
            name="greeter",
            public_key=AGENT.public,
            endpoint=f"skerry://{OPERATOR.public.hex()}/greeter",
            description="greets people",
            skills=("greet",),
            tags=("python",),
            capabilities=("custom:greet",),
            models=(),
            offers=(offer,),
            created_at=NOW_MS,
            updated_at=NOW_MS + 1,
        ),
        AGENT,
    )


def records() -> dict[str, Statement]:
    node = {
        "name": "alpha",
        "named_at": NOW_MS,
        "addresses": ["tcp://127.0.0.1:7420", "tcp://[::1]:7420"],
        "version": "0.1.0",
        "inventory": {"cores": 2, "memory": 2**33, "load": 0.25},
        "runtimes": ["python", "onnx"],
    }
    identity = agent_id(AGENT.public)
    return {
        "node": _said("node", "node", node),
        "agent": _said("agent", identity, {"card": card()[1], "status": "ready"}),
        "tombstone": _said("agent", identity, {}, expires=NOW_MS + 30 * DAY_MS),
        "named nodes": _said("node", "node", node, audience=(MEMBER.public, CLIENT.public)),
        "public": _said("node", "node", node, audience="public"),
        "grant of an operator": operator_grant(),
        "grant of a member": member_grant(),
        "grant of a client": member_grant(CLIENT, role=Role.CLIENT),
        "revocation": revocation(MEMBER, reason="stolen"),
        "departure": depart(
            MEMBER, formation=FORMATION, subject=MEMBER.public, stamp=STAMP, grants_until_ms=NOW_MS + 30 * DAY_MS, reason="moved away"
        ),
        "charter": _said("charter", circle().id.hex(), circle().charter.body()),
        "entry": _said("entry", identity, {"circles": [circle().id]}),
        "circle": _said("circle", circle().id.hex(), announcement().body(), audience="public", expires=NOW_MS + TTL_MS),
        "wire": _said("wire", wire_name(*(end.agent for end in ends())), half_body(*ends()), audience=(OPERATOR.public, MEMBER.public)),
    }


def ends() -> tuple[End, End]:
    """Of a wire between two nodes of one formation; the second agent has the client's key, which is as good as any."""
    own = End(agent_id(AGENT.public), OPERATOR.public, FORMATION, "alpha/Greeter/greeter", AGENT.public)
    return own, End(agent_id(CLIENT.public), MEMBER.public, FORMATION, "beta/Desk/desk", CLIENT.public)


def circle() -> AgentCircle:
    """With two members, of which one is busy."""
    capabilities = ("custom:greet", "inference:llama3:8b")
    busy = AgentProfile("b" * 32, AGENT.public, MEMBER.public, "other", CircleStatus.BUSY, capabilities[:1])
    greeter = AgentProfile(
        agent_id(AGENT.public), AGENT.public, OPERATOR.public, "greeter", CircleStatus.AVAILABLE, capabilities, capabilities
    )
    charter = Charter("makers", bytes(range(16)), "who make things", False, CallableBy.ANYONE, True, (greeter.id, busy.id), 3)
    identity = circle_id(FORMATION, OPERATOR.public, charter.nonce)
    return AgentCircle(identity, FORMATION, OPERATOR.public, charter, (greeter, busy), epoch=2)


def announcement() -> CircleAnnouncement:
    speakers = (
        Speaker(OPERATOR.public, ("tcp://alpha.example:7420",), MEMBER.public),
        Speaker(MEMBER.public, ("tcp://beta.example:7420",)),
    )
    return CircleAnnouncement.from_circle(circle(), speakers=speakers, author=OPERATOR.public, now_ms=NOW_MS)


_EXAMPLES: dict[type, list[Any]] = {
    int: [7, 65_536, 2**40],
    str: ["task.run", "ünd", "x"],
    bytes: [b"payload", bytes(32), b""],
    bool: [True],
}


def every_frame() -> dict[str, Frame]:
    """Each type in each of its shapes, with values that differ by place."""
    found: dict[str, Frame] = {}
    for kind, shapes in SHAPES.items():
        for number, shape in enumerate(shapes):
            fields = [_EXAMPLES[field][place % len(_EXAMPLES[field])] for place, field in enumerate(shape[1:])]
            found[f"{kind}/{number}"] = [kind, *fields]
    return found


def handshakes() -> dict[str, Frame]:
    """All frames of a handshake over TLS, of one for bulk, and of one over a Unix socket."""
    found: dict[str, Frame] = {}
    for name, near, far in (
        ("tcp", dialler(), listener()),
        ("bulk", dialler(purpose=Purpose.BULK), listener()),
        ("uds", dialler(security=UNIX), listener(security=UNIX)),
    ):
        ours, theirs = talk(near, far)
        said = zip(("hello", "proof"), frames(ours), strict=True), zip(("answer", "welcome"), frames(theirs), strict=True)
        found.update({f"{name} {step}": frame for side in said for step, frame in side})
    return found


TICKET = Ticket(FORMATION, OPERATOR.public, ("tcp://127.0.0.1:7420", "tcp://[::1]:7420"), bytes(range(16)))
TASK_ID = new_task_id(MEMBER.public, bytes(range(16)))
TASK = Task(TASK_ID, "custom:greet", agent_id(AGENT.public), encode("Ada"), MEMBER.public, NOW_MS, 7, 2_000, "formation", True)
DONE = TaskResult(TASK_ID, True, encode(["hello", "Ada"]), None, agent_id(AGENT.public), OPERATOR.public, NOW_MS + 5, 1.25)
FAILED = TaskResult(
    TASK_ID, False, None, ["agent_failed", "it fell", "start it", True], agent_id(AGENT.public), OPERATOR.public, NOW_MS, 0.5
)


def everything() -> dict[str, dict[str, bytes]]:
    """File -> name -> the bytes."""
    invitation = Invitation(hash_secret(TICKET.secret), Role.MEMBER, 2, NOW_MS + DAY_MS)
    return {
        "records": {name: statement.signed for name, statement in records().items()},
        "frames": {name: encode_frame(frame) for name, frame in every_frame().items()},
        "handshakes": {name: encode_frame(frame) for name, frame in handshakes().items()},
        "others": {
            "ticket": str(TICKET).encode(),
            "ticket secret as it is kept": invitation.secret_hash,
            "card": card()[1],
            "task": joined(TASK.to_bytes()),
            "result": joined(DONE.to_bytes()),
            "failure": joined(FAILED.to_bytes()),
            "agent id": agent_id(AGENT.public).encode(),
            "task id": TASK_ID,
        },
    }
