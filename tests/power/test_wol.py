"""Magic packets: their bytes, repeats, and the way over a jump host."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from racksack_controller.power.driver import PowerNotAllowed
from racksack_controller.power.ladder import Limits, switch_on
from racksack_controller.power.settings import WolSettings
from racksack_controller.power.steps import Outcome, Step
from racksack_controller.power.wol import WolDriver
from tests.power import rigs
from tests.power.machine import FileMachine
from tests.power.magic_listener import MagicListener

MAGIC = b"\xff" * 6 + bytes.fromhex("525400770001") * 16


async def heard(listener: MagicListener, packets: int, woken: int = 0) -> None:
    """Wait until so many packets have arrived, and so many times something was done about one."""
    async with asyncio.timeout(20):
        while len(listener.packets) < packets or listener.woken < woken:
            await asyncio.sleep(0.02)


async def test_the_packet(tmp_path: Path) -> None:
    rig = rigs.wol(tmp_path)
    await rig.driver.on()
    await heard(rig.device, 1, woken=1)
    assert rig.device.packets == [MAGIC]
    assert rig.machine.events == ["on"]
    rig.device.stop()


async def boot(machine: FileMachine, driver: WolDriver, resume_s: float | None = None) -> list[Step]:
    """The ladder of a server that is up as soon as it is on."""

    async def up() -> None:
        while not machine.is_on():
            await asyncio.sleep(0.01)

    limits = Limits(boot_s=20, poll_s=5)
    return [step async for step in switch_on([driver], [driver], up, limits, resume_s)]


@pytest.mark.parametrize("resume_s", [None, 20.0])
async def test_two_lost_packets_cost_two_spacings_and_no_more_are_sent_to_one_that_is_up(
    tmp_path: Path, resume_s: float | None
) -> None:
    machine = FileMachine(tmp_path / "machine")
    listener = MagicListener(machine, rigs.MAC, drop_first=2).start()
    settings = WolSettings(mac=rigs.MAC, broadcast="127.0.0.1", port=listener.port, repeats=9, spacing_s=0.1)
    steps = await boot(machine, WolDriver(settings), resume_s)
    assert steps[-1].outcome is Outcome.DONE
    assert "asked 3 times" in steps[-1].detail
    await asyncio.sleep(0.3)
    assert len(listener.packets) == 3
    listener.stop()


async def test_no_more_packets_than_repeats(tmp_path: Path) -> None:
    machine = FileMachine(tmp_path / "machine")
    listener = MagicListener(machine, rigs.MAC, drop_first=99).start()
    settings = WolSettings(mac=rigs.MAC, broadcast="127.0.0.1", port=listener.port, repeats=4, spacing_s=0.05)

    async def up() -> None:
        await asyncio.Event().wait()

    driver = WolDriver(settings)
    steps = [step async for step in switch_on([driver], [driver], up, Limits(boot_s=1.0, poll_s=5))]
    assert steps[-1].outcome is Outcome.FAILED
    assert len(listener.packets) == 4
    listener.stop()


@pytest.mark.parametrize("mac", ["52:54:00:77:00:01", "52-54-00-77-00-01", "525400770001"])
async def test_macs_however_written(tmp_path: Path, mac: str) -> None:
    rig = rigs.wol(tmp_path)
    await rig.make(mac=mac, repeats=1).on()
    await heard(rig.device, 1)
    assert rig.device.packets == [MAGIC]
    rig.device.stop()


@pytest.mark.parametrize("interface", ["127.0.0.1", "lo"])
async def test_an_interface_by_name_or_address(tmp_path: Path, interface: str) -> None:
    rig = rigs.wol(tmp_path)
    await rig.make(interface=interface, repeats=1).on()
    await heard(rig.device, 1)
    rig.device.stop()


async def test_broadcast_is_allowed_on_the_socket(tmp_path: Path) -> None:
    """A directed broadcast on loopback; without SO_BROADCAST the kernel refuses it."""
    machine = FileMachine(tmp_path / "machine")
    listener = MagicListener(machine, rigs.MAC, listen="0.0.0.0").start()
    settings = WolSettings(mac=rigs.MAC, broadcast="127.255.255.255", port=listener.port, repeats=1)
    await WolDriver(settings).on()
    await heard(listener, 1)
    listener.stop()


async def test_from_a_jump_host_the_words_are_plain_arguments(tmp_path: Path) -> None:
    rig = rigs.wol_jump(tmp_path)
    listener, shell = rig.device
    await rig.driver.on()
    await heard(listener, 1)
    argv = shell.calls[0]
    assert argv[:2] == ["python3", "-c"]
    assert argv[3:] == [MAGIC.hex(), "127.0.0.1", str(listener.port), "-", "1"]
    listener.stop()


async def test_a_jump_host_without_the_interface_says_so(tmp_path: Path) -> None:
    rig = rigs.wol_jump(tmp_path)
    with pytest.raises(PowerNotAllowed, match=r"gateway says .*No such device"):
        await rig.make(interface="nosuchdev0").on()
    rig.device[0].stop()


async def test_check_sends_no_packet(tmp_path: Path) -> None:
    rig = rigs.wol(tmp_path)
    assert (await rig.driver.check()).ok
    await rig.make(repeats=1).on()
    await heard(rig.device, 1)
    assert len(rig.device.packets) == 1
    rig.device.stop()


def test_a_jump_host_needs_a_way_to_it() -> None:
    with pytest.raises(ValueError, match="jump host"):
        WolDriver(WolSettings(mac=rigs.MAC, jump="gateway"))
