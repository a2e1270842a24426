"""A node among nodes of other releases: the next minor version, which says more than we know, and those with which we share nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skerry.channel.calls import Body, Served
from skerry.channel.framing import ANSWER, HELLO, REFUSE, Frame
from skerry.channel.greeting import Greeting
from skerry.channel.handshake import Handshake, Ours, Peer
from skerry.channel.link import Link
from skerry.channel.messages import pack_message, unpack_message
from skerry.channel.stream import FrameStream
from skerry.errors import Code, ProtocolError, Refused, SkerryError
from skerry.identity.codec import pack, unpack
from skerry.identity.grants import MEMBER_MS, Role, issue
from skerry.identity.keys import KeyPair
from skerry.identity.pieces import joined
from skerry.identity.stamps import stamp_at
from skerry.identity.statement import state
from skerry.node.verbs import PingReply
from skerry.records.federation import CURSORS, FACTS, KNOWN_KINDS
from skerry.records.verbs import PushReply
from skerry.routing.task import Task, TaskResult, new_task_id
from skerry.sim.machine import Machine
from skerry.sim.network import SimHost
from skerry.sim.world import World
from tests.support.formation import key
from tests.support.links import simulated

NEXT = key(0x7100)  # a member of the next release
SOMETHING_NEW = {"later": ["a field", {"of": "the next release"}], "also": 7}


@asynccontextmanager
async def node(seed: str) -> AsyncIterator[tuple[World, Machine, SimHost]]:
    """One node with an agent, and the host of a member from another release."""
    world = World(seed)
    alpha = world.machine("alpha")
    await alpha.start()
    await alpha.run_agent("Echo")
    await world.until(lambda: alpha.knows_agent("echo"))
    yield world, alpha, world.network.host("other", public_key=NEXT.public)
    await world.close()


def member_grant(alpha: Machine) -> bytes:
    own = alpha.node.trust.own().grant
    statement = issue(
        alpha.key,
        formation=alpha.node.formation,
        subject=NEXT.public,
        role=Role.MEMBER,
        stamp=stamp_at(alpha.clock.now_ms()),
        lifetime_ms=MEMBER_MS,
        chain=own,
    )
    return statement.signed


async def connect(host: SimHost, to: Machine, *, versions: tuple[int, int], serve: Any = None, own: KeyPair = NEXT) -> Link:
    """A link as the other release makes it."""
    proved: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
    stream = await host.dial(f"tcp://{to.name}:7420", FrameStream, timeout_s=5.0)
    assert isinstance(stream, FrameStream)
    assert stream.transport is not None
    ours = Ours(own, bytes(range(32)), to.clock.now_ms(), grant=member_grant(to), versions=versions)
    Greeting(
        stream,
        Handshake(ours, host.security(stream.transport), dialler=True, expected=to.key.public),
        on_proved=lambda _, peer: proved.set_result(peer),
        on_failed=lambda _, error: proved.set_exception(error),
    ).start()
    peer = await proved

    async def nothing(served: Served) -> Body:
        return pack({"records": [], "cursor": "x.0", "more": False, **SOMETHING_NEW})

    return Link(stream, peer, serve or nothing, dialled=True, token=peer.link)


@simulated
async def test_a_peer_of_the_next_minor_version_is_understood() -> None:
    async with node("next-minor") as (_, alpha, host):
        link = await connect(host, alpha, versions=(1, 2))
        assert link.peer is not None
        assert link.peer.version == 1, "the highest that both know"
        reply = unpack_message(PingReply, await link.call("ping", pack(SOMETHING_NEW), timeout_s=5.0))
        assert reply.node == alpha.key.public.hex()
        with pytest.raises(Refused) as unknown:
            await link.call("node.of.tomorrow", pack(SOMETHING_NEW), timeout_s=5.0)
        assert unknown.value.code == Code.UNKNOWN_VERB
        assert not link.closed, "one verb that is not known costs nothing else"
        pulled: dict[str, Any] = unpack(joined(await link.call("records.pull", pack({"cursor": "", **SOMETHING_NEW}), timeout_s=5.0)))
        assert pulled["records"]
        link.close(Refused("enough"))


@simulated
@pytest.mark.parametrize("size_bytes", [10, 200_000])
async def test_tasks_with_appended_fields_are_done(size_bytes: int) -> None:
    async with node(f"next-tasks-{size_bytes}") as (_, alpha, host):
        link = await connect(host, alpha, versions=(1, 2))
        payload = pack(bytes(size_bytes))
        if size_bytes < 1000:
            wanted = ["custom:echo", payload, "", 5, 0, "formation", "", False, False, {}, False]
            answer = await link.call("task.call", pack([*wanted, "later", [1]]), timeout_s=5.0)
            assert TaskResult.from_bytes(answer).success
            (candidate,) = alpha.node.catalogue.find("custom:echo")
            task_id = new_task_id(NEXT.public, bytes(16))
            known = [
                task_id,
                "custom:echo",
                candidate.agent,
                payload,
                NEXT.public,
                alpha.clock.now_ms(),
                5,
                0,
                "formation",
                False,
                [],
                False,
                [],
            ]
            done = TaskResult.from_bytes(await link.call("task.run", pack([*known, "later", {"x": 1}]), timeout_s=5.0))
            assert done.success
            assert done.task_id == task_id
        else:  # a large payload is found without reading what stands around it
            task = Task.from_bytes(pack([bytes(32), "c:x", "a", payload, bytes(32), 1, 5, 0, "formation", False, [], False, [], "later"]))
            assert unpack(bytes(task.payload)) == bytes(size_bytes)
        result = TaskResult.from_bytes(pack([bytes(32), True, payload, None, "agent", bytes(32), 1, 1.5, 0, 1, None, "later", {"x": 1}]))
        assert result.payload is not None
        assert unpack(bytes(result.payload)) == bytes(size_bytes)
        link.close(Refused("enough"))


@simulated
async def test_a_record_of_a_kind_to_come_is_refused_alone_and_asked_for_after_the_upgrade() -> None:
    async with node("next-kinds") as (_, alpha, host):
        link = await connect(host, alpha, versions=(1, 2))
        now_ms = alpha.clock.now_ms()

        def record(kind: str, body: dict[str, Any]) -> bytes:
            return state(
                NEXT,
                kind=kind,
                name="node",
                formation=alpha.node.formation,
                audience="formation",
                stamp=stamp_at(now_ms),
                expires=now_ms + 3_600_000,
                body=body,
            ).signed

        records = [record("weather", {"rain": True}), record("node", {"name": "other", "named_at": now_ms, **SOMETHING_NEW})]
        reply = unpack_message(PushReply, await link.call("records.push", pack({"records": records, **SOMETHING_NEW}), timeout_s=5.0))
        assert (reply.taken, reply.refused) == (1, {"unknown_kind": 1})
        link.close(Refused("enough"))
        store = alpha.node.ports.store
        store.set_fact(CURSORS, NEXT.public.hex(), b"x.5")
        store.commit()
        await alpha.stop()
        await alpha.start()
        assert alpha.node.ports.store.fact(CURSORS, NEXT.public.hex()) == b"x.5", "the same release goes on where it was"
        alpha.node.ports.store.set_fact(FACTS, KNOWN_KINDS, b"grant,node")
        alpha.node.ports.store.commit()
        await alpha.stop()
        await alpha.start()
        assert alpha.node.ports.store.fact(CURSORS, NEXT.public.hex()) is None, "a release that knows more asks for all"


@simulated
@pytest.mark.parametrize("versions", [(2, 3), (0, 0)])
async def test_a_peer_that_shares_no_version_is_refused_with_what_to_do(versions: tuple[int, int]) -> None:
    async with node(f"no-version-{versions}") as (_, alpha, host):
        with pytest.raises(SkerryError) as refused:
            await connect(host, alpha, versions=versions)
        assert refused.value.code == Code.WRONG_VERSION
        assert "upgrade" in refused.value.hint
        link = await connect(host, alpha, versions=(1, 1))
        assert (await link.call("ping", pack_message(SOMETHING_NEW), timeout_s=5.0)) is not None
        link.close(Refused("enough"))


@simulated
@pytest.mark.parametrize("answer", ["refuses", "chooses another", "says more"])
async def test_a_listener_of_another_version_is_named(answer: str) -> None:
    """What a node hears that dials one."""
    async with node(f"listener-{answer}") as (_, alpha, host):
        heard: list[Frame] = []

        def made(stream: FrameStream) -> None:
            def came(frame: Frame) -> None:
                heard.append(frame)
                if answer == "refuses":
                    stream.send([REFUSE, "wrong_version", "the listener speaks 2 to 3", "upgrade the older of the two"])
                elif answer == "chooses another":
                    stream.send([ANSWER, 2, NEXT.public, bytes(32), b"proof", 0])
                else:
                    stream.send([ANSWER, 1, NEXT.public, bytes(32), b"proof", 0, "more"])

            stream.on_frame = came

        await host.listen("tcp://other:7420", lambda: FrameStream(on_made=made))
        with pytest.raises(SkerryError) as refused:
            await alpha.within(lambda at: at.links.dial("tcp://other:7420", expected=NEXT.public, timeout_s=5.0))
        assert heard[0][:3] == [HELLO, 1, 1]
        if answer == "says more":  # the frames of the handshake have one shape for ever: versions are negotiated with them
            assert isinstance(refused.value, ProtocolError)
        else:
            assert refused.value.code == Code.WRONG_VERSION
