"""The simulated network's troubles, one by one, and that all of them together are the same each time."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Unreachable, UsageError
from skerry.sim.link import Link
from skerry.sim.loop import run
from skerry.sim.network import SimHost, SimNetwork
from tests.contract.byte_streams import Arrivals, Recorder
from tests.unit.sim.scenario import scene

PORT = 7420
STEADY = Link(delay_s=0.01, jitter_s=0.0, split=0.0)
RESET_AFTER_S = 20.0

Scenario = Callable[[SimNetwork], Coroutine[Any, Any, None]]


def simulated(scenario: Scenario) -> Callable[[], None]:
    """Make a scenario on steady links between `alpha`, `beta` and `gamma` a test."""

    def test() -> None:
        async def whole() -> None:
            network = SimNetwork(random.Random(1), link=STEADY, reset_after_s=RESET_AFTER_S)
            for name in ("alpha", "beta", "gamma"):
                network.host(name)
            await scenario(network)

        run(whole())

    test.__doc__ = scenario.__doc__
    return test


async def connect(network: SimNetwork, dialler: str = "alpha", listener: str = "beta") -> tuple[Recorder, Recorder]:
    arrivals = Arrivals()
    bound = await network.host(listener).listen(f"tcp://{listener}:0", arrivals)
    near = await network.host(dialler).dial(bound.address, Recorder, timeout_s=5)
    assert isinstance(near, Recorder)
    return near, await arrivals.first()


async def serve(host: SimHost) -> Arrivals:
    arrivals = Arrivals()
    await host.listen(f"tcp://{host.name}:{PORT}", arrivals)
    return arrivals


def now() -> float:
    return asyncio.get_running_loop().time()


# --- a good day -------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_dial_takes_two_round_trips_and_bytes_take_one_way(network: SimNetwork) -> None:
    near, far = await connect(network)
    assert now() == pytest.approx(0.05)  # four ways for the dialler, one more until the listener has it
    near.transport.write(b"x")
    await far.until(lambda it: it.received == b"x")
    assert now() == pytest.approx(0.06)


@simulated
async def test_links_differ_by_direction(network: SimNetwork) -> None:
    near, far = await connect(network)
    network.set_link("alpha", "beta", Link(delay_s=2.0, jitter_s=0), one_way=True)
    started = now()
    far.transport.write(b"quick")
    await near.until(lambda it: it.received == b"quick")
    assert now() - started == pytest.approx(0.01)
    near.transport.write(b"slow")
    await far.until(lambda it: it.received == b"slow")
    assert now() - started == pytest.approx(2.01)


@simulated
async def test_what_is_written_together_is_read_together_and_reads_split(network: SimNetwork) -> None:
    near, far = await connect(network)
    for _ in range(100):
        near.transport.write(b"abc")
    await far.until(lambda it: len(it.received) == 300)
    assert far.reads == 1
    network.set_link("alpha", "beta", Link(split=0.9))
    near.transport.write(bytes(1000))
    await far.until(lambda it: len(it.received) == 1300)
    assert far.reads > 3


@simulated
async def test_a_loss_is_a_wait(network: SimNetwork) -> None:
    near, far = await connect(network)
    network.set_link("alpha", "beta", Link(delay_s=0.01, jitter_s=0, loss=0.3))
    started = now()
    for number in range(20):
        near.transport.write(b"%02d" % number)
    await far.until(lambda it: len(it.received) == 40)
    assert far.received == b"".join(b"%02d" % number for number in range(20))
    assert now() - started > 0.2


@simulated
async def test_names_addresses_and_ports(network: SimNetwork) -> None:
    alpha, beta = network.host("alpha"), network.host("beta")
    assert network.host("alpha") is alpha
    first, second = [await beta.listen("tcp://0.0.0.0:0", Arrivals()) for _ in range(2)]
    assert first.address != second.address
    near = await alpha.dial(first.address.replace("0.0.0.0", "beta"), Recorder, timeout_s=1)
    assert isinstance(near, Recorder)
    assert near.transport.get_extra_info("peername")[0] == "beta"
    with pytest.raises(UsageError, match="no address of beta"):
        await beta.listen("tcp://gamma:1", Arrivals())
    with pytest.raises(Unreachable, match="can't be resolved"):
        await alpha.dial("tcp://nowhere:1", Recorder, timeout_s=1)


@simulated
async def test_loopback_and_unix_sockets_stay_on_the_host(network: SimNetwork) -> None:
    alpha, beta = network.host("alpha"), network.host("beta")
    local = await beta.listen("tcp://127.0.0.1:0", Arrivals())
    await beta.listen("uds:///run/socket", Arrivals())
    await beta.dial(local.address, Recorder, timeout_s=1)
    await beta.dial(local.address.replace("127.0.0.1", "beta"), Recorder, timeout_s=1)
    await beta.dial("uds:///run/socket", Recorder, timeout_s=1)
    for address in (local.address, local.address.replace("127.0.0.1", "beta"), "uds:///run/socket"):
        with pytest.raises(Unreachable, match="nobody listens"):
            await alpha.dial(address, Recorder, timeout_s=1)


@simulated
async def test_a_pair_is_two_ends_of_one_owner(network: SimNetwork) -> None:
    alpha = network.host("alpha")
    node, worker = Recorder(), Recorder()
    ends = alpha.pair(lambda: node, lambda: worker)
    assert not node.is_made
    await node.until(lambda it: it.is_made)
    await worker.until(lambda it: it.is_made)
    node.transport.write(b"do")
    await worker.until(lambda it: it.received == b"do")
    for end in ends:
        proof = alpha.security(end)
        assert (proof.transport, proof.same_owner, proof.listener, any(proof.binding)) == ("inproc", True, None, False)
    worker.transport.abort()
    await node.until(lambda it: it.is_lost)


@simulated
async def test_the_binding_is_the_listeners_own(network: SimNetwork) -> None:
    alpha = network.host("alpha")
    near_beta, _ = await connect(network, "alpha", "beta")
    near_gamma, _ = await connect(network, "alpha", "gamma")
    beta, gamma = (alpha.security(near.transport) for near in (near_beta, near_gamma))
    assert beta.listener == network.host("beta").public_key
    assert beta.binding != gamma.binding


# --- cuts -------------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_cut_holds_bytes_until_it_heals(network: SimNetwork) -> None:
    near, far = await connect(network)
    near.transport.write(b"under way ")
    network.cut("alpha", "beta")
    near.transport.write(b"held ")
    far.transport.write(b"held too")
    await asyncio.sleep(RESET_AFTER_S - 1)
    assert not far.received
    assert not near.received
    network.heal("alpha", "beta")
    near.transport.write(b"after")
    await far.until(lambda it: it.received == b"under way held after")
    await near.until(lambda it: it.received == b"held too")
    await asyncio.sleep(3 * RESET_AFTER_S)
    assert not near.is_lost
    assert not far.is_lost


@simulated
async def test_a_cut_that_lasts_breaks_who_waits_for_an_answer(network: SimNetwork) -> None:
    near, far = await connect(network)
    network.cut("alpha", "beta")
    near.transport.write(b"anybody?")
    await asyncio.sleep(RESET_AFTER_S - 0.1)
    assert not near.is_lost
    await asyncio.sleep(0.2)
    assert isinstance(near.losses[0], TimeoutError)
    network.heal()
    await asyncio.sleep(100)
    assert not far.received, "what was not delivered when the connection broke never is"
    assert not far.is_lost, "the silent end is half-open"
    far.transport.write(b"hello?")
    await far.until(lambda it: it.is_lost)
    assert isinstance(far.losses[0], ConnectionResetError)


@simulated
async def test_a_cut_does_not_trouble_the_idle(network: SimNetwork) -> None:
    near, far = await connect(network)
    network.cut("alpha", "beta")
    await asyncio.sleep(10 * RESET_AFTER_S)
    network.heal("beta", "alpha")
    near.transport.write(b"where were we?")
    await far.until(lambda it: it.received == b"where were we?")


@simulated
async def test_a_one_way_cut_lets_bytes_through_but_not_the_word_that_they_came(network: SimNetwork) -> None:
    near, far = await connect(network)
    network.cut("alpha", "beta", one_way=True)
    far.transport.write(b"heard")
    await near.until(lambda it: it.received == b"heard")
    near.transport.write(b"unheard")
    await asyncio.sleep(RESET_AFTER_S + 1)
    assert near.is_lost
    assert far.is_lost, "nothing came back to it either"
    assert not far.received


@simulated
async def test_of_two_cuts_one_may_heal(network: SimNetwork) -> None:
    near, far = await connect(network)
    network.cut("alpha", "beta")
    near.transport.write(b"x")
    await asyncio.sleep(1)
    network.heal()
    network.cut("beta", "alpha", one_way=True)
    await far.until(lambda it: it.received == b"x")
    await asyncio.sleep(RESET_AFTER_S + 1)
    assert near.is_lost, "no word came back"
    assert not far.is_lost


@simulated
async def test_a_dial_over_a_cut_waits_for_its_healing_or_its_time(network: SimNetwork) -> None:
    arrivals = await serve(network.host("beta"))
    network.cut("beta", "alpha", one_way=True)
    alpha = network.host("alpha")
    with pytest.raises(Unreachable, match="did not answer within 3 s"):
        await alpha.dial(f"tcp://beta:{PORT}", Recorder, timeout_s=3)
    assert now() == pytest.approx(3)
    dial = asyncio.create_task(alpha.dial(f"tcp://beta:{PORT}", Recorder, timeout_s=30))
    await asyncio.sleep(10)
    assert not dial.done()
    network.heal()
    await dial
    assert now() < 20
    assert len(arrivals.made) < 2


@simulated
async def test_a_partition_parts_groups(network: SimNetwork) -> None:
    for name in ("alpha", "beta", "gamma"):
        await serve(network.host(name))
    network.partition(["alpha", "beta"], ["gamma"])
    await network.host("alpha").dial(f"tcp://beta:{PORT}", Recorder, timeout_s=1)
    for a, b in (("alpha", "gamma"), ("gamma", "beta")):
        with pytest.raises(Unreachable):
            await network.host(a).dial(f"tcp://{b}:{PORT}", Recorder, timeout_s=1)
    network.heal("alpha")
    await network.host("alpha").dial(f"tcp://gamma:{PORT}", Recorder, timeout_s=10)
    with pytest.raises(Unreachable):
        await network.host("beta").dial(f"tcp://gamma:{PORT}", Recorder, timeout_s=1)


# --- resets -----------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_reset_tells_both_and_loses_the_tail(network: SimNetwork) -> None:
    near, far = await connect(network)
    near.transport.write(b"lost")
    network.reset("alpha", "beta")
    for end in (near, far):
        await end.until(lambda it: it.is_lost)
        assert isinstance(end.losses[0], ConnectionResetError)
    await asyncio.sleep(1)
    assert not far.received


@simulated
async def test_a_half_open_end_finds_out_when_it_writes(network: SimNetwork) -> None:
    near, far = await connect(network)
    network.reset("alpha", "beta", half_open=True)
    await near.until(lambda it: it.is_lost)
    await asyncio.sleep(1000)
    assert not far.is_lost
    far.transport.write(b"hello?")
    await far.until(lambda it: it.is_lost)


@simulated
async def test_links_may_reset_by_themselves(network: SimNetwork) -> None:
    near, far = await connect(network)
    network.set_link("alpha", "beta", Link(reset=0.05))
    for _ in range(1000):
        near.transport.write(b"x")
        await asyncio.sleep(0.01)
        if near.is_lost:
            break
    assert near.is_lost
    await far.until(lambda it: it.is_lost)


# --- the end of a host ------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_killed_process_is_known_at_once(network: SimNetwork) -> None:
    near, far = await connect(network)
    await serve(network.host("beta"))
    far.transport.write(b"tail")
    network.kill("beta")
    await near.until(lambda it: it.is_lost)
    assert isinstance(near.losses[0], ConnectionResetError)
    assert not near.received
    with pytest.raises(Unreachable, match="nobody listens"):
        await network.host("alpha").dial(f"tcp://beta:{PORT}", Recorder, timeout_s=5)


@simulated
async def test_a_machine_without_power_is_silence(network: SimNetwork) -> None:
    near, far = await connect(network)
    far.transport.write(b"tail")
    network.crash("beta")
    await asyncio.sleep(1)
    assert not near.received, "what had not arrived is lost"
    assert not near.is_lost, "and nobody is told"
    with pytest.raises(Unreachable, match="did not answer"):
        await network.host("alpha").dial("tcp://beta:1", Recorder, timeout_s=5)
    near.transport.write(b"hello?")
    await asyncio.sleep(RESET_AFTER_S + 1)
    assert isinstance(near.losses[0], TimeoutError)


@simulated
async def test_a_restarted_machine_knows_nothing_of_before(network: SimNetwork) -> None:
    near, _ = await connect(network)
    network.crash("beta")
    near.transport.write(b"hello?")
    await asyncio.sleep(5)
    beta = network.restart("beta")
    await near.until(lambda it: it.is_lost)
    assert isinstance(near.losses[0], ConnectionResetError)
    arrivals = await serve(beta)
    await network.host("alpha").dial(f"tcp://beta:{PORT}", Recorder, timeout_s=5)
    await arrivals.first()


@pytest.mark.parametrize("end", [SimNetwork.kill, SimNetwork.crash])
def test_the_dead_hear_nothing_and_say_nothing(end: Callable[[SimNetwork, str], None]) -> None:
    @simulated
    async def scenario(network: SimNetwork) -> None:
        near, far = await connect(network)
        beta = network.host("beta")
        near.transport.write(b"to the dead")
        dial = asyncio.create_task(beta.dial("tcp://alpha:1", Recorder, timeout_s=5))
        await asyncio.sleep(0)
        end(network, "beta")
        far.transport.write(b"from the dead")
        far.transport.close()
        far.transport.abort()
        for attempt in (beta.dial("tcp://alpha:1", Recorder, timeout_s=5), beta.listen("tcp://beta:1", Recorder)):
            with pytest.raises(Unreachable, match="dead"):
                await attempt
        with pytest.raises(Unreachable):
            await dial
        await asyncio.sleep(100)
        assert not far.received
        assert not far.is_lost, "not even that it is dead"
        assert not near.received

    scenario()


# --- limits -----------------------------------------------------------------------------------------------------------------------


@simulated
async def test_a_reader_that_never_reads_holds_a_bounded_amount(network: SimNetwork) -> None:
    near, far = await connect(network)
    far.transport.pause_reading()
    while not near.is_writing_paused:
        near.transport.write(bytes(10_000))
        await asyncio.sleep(0.1)
    assert near.transport.get_write_buffer_size() < 100_000
    far.transport.abort()
    await near.until(lambda it: it.is_lost)


@simulated
async def test_a_closing_end_waits_for_its_reader(network: SimNetwork) -> None:
    near, far = await connect(network)
    far.transport.pause_reading()
    near.transport.write(bytes(1_000_000))
    near.transport.close()
    await asyncio.sleep(1000)
    assert not near.is_lost
    far.transport.resume_reading()
    await near.until(lambda it: it.is_lost)
    await far.until(lambda it: it.is_lost)
    assert len(far.received) == 1_000_000


@simulated
async def test_an_end_that_closes_lets_a_writer_go_that_it_held_up(network: SimNetwork) -> None:
    near, far = await connect(network)
    far.transport.pause_reading()
    near.transport.write(bytes(1_000_000))
    await asyncio.sleep(1)
    far.transport.close()
    await far.until(lambda it: it.is_lost)
    await near.until(lambda it: it.is_lost)


@simulated
async def test_connections_that_are_over_are_forgotten(network: SimNetwork) -> None:
    for _ in range(500):
        near, far = await connect(network)
        near.transport.close()
        await far.until(lambda it: it.is_lost)
    assert len(network._ways) < 200


@simulated
async def test_the_water_marks_can_be_set(network: SimNetwork) -> None:
    near, _ = await connect(network)
    near.transport.set_write_buffer_limits(high=100, low=10)
    assert near.transport.get_write_buffer_limits() == (10, 100)
    near.transport.set_write_buffer_limits(low=50)
    assert near.transport.get_write_buffer_limits() == (50, 200)
    with pytest.raises(ValueError, match="must be at least"):
        near.transport.set_write_buffer_limits(high=1, low=2)
    assert not near.transport.can_write_eof()


def test_what_a_protocol_raises_fails_the_run_and_ends_its_connection() -> None:
    class Clumsy(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError(data)

    async def whole() -> None:
        network = SimNetwork(random.Random(1))
        await network.host("beta").listen(f"tcp://beta:{PORT}", Clumsy)
        near = await network.host("alpha").dial(f"tcp://beta:{PORT}", Recorder, timeout_s=5)
        assert isinstance(near, Recorder)
        near.transport.write(b"oops")
        await near.until(lambda it: it.is_lost)

    with pytest.raises(ZeroDivisionError, match="oops"):
        run(whole())


# --- all together -----------------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    link=st.builds(Link, delay_s=st.floats(0, 1), jitter_s=st.floats(0, 1), loss=st.floats(0, 0.6), split=st.floats(0, 1)),
    writes=st.lists(st.binary(min_size=1, max_size=200), max_size=30),
    cuts=st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.booleans()), max_size=5),
)
def test_a_stream_is_a_stream_whatever_happens(seed: int, link: Link, writes: list[bytes], cuts: list[tuple[float, bool, bool]]) -> None:
    """Under delay, loss and cuts shorter than anyone's patience, both sides get all that the other wrote, in order."""

    async def whole() -> None:
        source = random.Random(seed)
        network = SimNetwork(source, link=link, reset_after_s=1000)
        arrivals = Arrivals()
        await network.host("beta").listen(f"tcp://beta:{PORT}", arrivals)
        near = await network.host("alpha").dial(f"tcp://beta:{PORT}", Recorder, timeout_s=1000)
        assert isinstance(near, Recorder)

        async def trouble() -> None:
            for wait_s, one_way, is_back in cuts:
                await asyncio.sleep(wait_s)
                network.cut(*(("beta", "alpha") if is_back else ("alpha", "beta")), one_way=one_way)
                await asyncio.sleep(wait_s)
                network.heal()

        troubles = asyncio.create_task(trouble())
        for data in writes:
            near.transport.write(data)
            await asyncio.sleep(source.random())
        await troubles
        await asyncio.sleep(200)
        whole_text = b"".join(writes)
        (far,) = arrivals.made
        assert far.received == whole_text
        far.transport.write(whole_text)
        far.transport.close()
        await asyncio.sleep(200)
        assert near.received == whole_text
        assert near.is_lost
        assert far.losses == [None]

    run(whole())


def test_the_same_seed_gives_the_same_trace_and_another_gives_another() -> None:
    first = run(scene(7))
    assert first == run(scene(7))
    assert first != run(scene(8))
    assert len(first) > 300
    for event in ("connected", "read", "lost NoneType", "lost ConnectionResetError", "cut", "healed", "crashed", "killed"):
        assert any(event in line for line in first), f"the scenario has none of: {event}"


@pytest.mark.parametrize("seed", [1, 2])
def test_the_trace_is_the_same_under_other_hash_seeds(seed: int) -> None:
    program = f"import sys; sys.path[:] = {sys.path!r}; sys.argv[1:] = ['{seed}']; import runpy; "
    program += "runpy.run_module('tests.unit.sim.scenario', run_name='__main__')"
    traces = [
        subprocess.run([sys.executable, "-c", program], env={"PYTHONHASHSEED": hash_seed}, check=True, stdout=subprocess.PIPE).stdout
        for hash_seed in ("0", "1234")
    ]
    assert traces[0] == traces[1]
    assert traces[0].count(b"\n") > 300
