"""Whether a machine answers at all: closed, silent and unknown are told apart; silence as a proof of off."""

from __future__ import annotations

import asyncio
import socket
import time

from racksack_controller.core import events as ev
from racksack_controller.core.apply import apply
from racksack_controller.core.power import events as pe
from racksack_controller.core.power_records import PowerTraits
from racksack_controller.core.records import Node
from racksack_controller.core.state import State
from racksack_controller.effects.proof import silence, until_up
from racksack_controller.nodes.answering import answers
from racksack_controller.nodes.settings import SshSettings
from racksack_jobspecs.resources import Inventory


async def test_an_open_and_a_closed_port_answer() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert await answers(SshSettings("127.0.0.1", "u", port)) is True
    assert await answers(SshSettings("127.0.0.1", "u", port)) is True  # refused


async def test_what_lies_behind_a_dark_jump_host_is_not_known() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    jump = SshSettings("127.0.0.1", "u", closed, host_key="ssh-ed25519 AAAA", connect_timeout_s=1)
    assert await answers(SshSettings("10.255.255.1", "u", jump=jump)) is None


async def test_silence_must_last_and_an_answer_begins_it_anew() -> None:
    said = [False, False, True, False, False, False, False, False, False, False]
    asked = []

    async def look() -> bool | None:
        asked.append(time.monotonic())
        return said.pop(0) if said else False

    async with asyncio.timeout(10):
        await silence(look, quiet_s=0.3, poll_s=0.1)
    assert len(asked) >= 6
    assert asked[-1] - asked[3] >= 0.25


async def test_a_broken_way_is_no_silence() -> None:
    async def look() -> bool | None:
        return None

    try:
        async with asyncio.timeout(0.5):
            await silence(look, quiet_s=0.05, poll_s=0.01)
    except TimeoutError:
        return
    raise AssertionError("a way that is broken was taken for a server that is off")


def connected(state: State, boot_id: str) -> None:
    inventory = Inventory(cpus=4, ram_bytes=2**32, disk_bytes=2**40)
    apply(state, ev.NodeConnected("r1", boot_id, inventory, ()), 10.0)


async def test_only_another_boot_proves_one() -> None:
    state = State()
    state.put_node(Node(name="r1", boot_id="old", connected=True))
    proof = asyncio.ensure_future(until_up(state, "r1", "old"))
    await asyncio.sleep(0.5)
    assert not proof.done(), "a connection that has not noticed that the server is gone proves nothing"
    connected(state, "new")
    async with asyncio.timeout(10):
        await proof


async def test_one_that_was_on_all_along_is_believed() -> None:
    state = State()
    state.put_node(Node(name="r1", boot_id="same"))
    apply(state, pe.PowerConfigured("r1", PowerTraits()), 1.0)
    apply(state, pe.SwitchOnDecided("r1", "test"), 2.0)
    proof = asyncio.ensure_future(until_up(state, "r1", "same"))
    connected(state, "same")
    async with asyncio.timeout(10):
        await proof
