"""The owner's own programs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from racksack_controller.power.command import CommandDriver
from racksack_controller.power.driver import PowerNotAllowed, PowerProtocolError, PowerState, PowerTimedOut
from racksack_controller.power.settings import CommandSettings
from tests.power.rigs import script


def saying(tmp_path: Path, text: str, code: int = 0) -> tuple[str, ...]:
    (tmp_path / "said").write_text(text)
    return (script(tmp_path / "status", f"cat {tmp_path}/said; exit {code}\n"),)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("on\n", PowerState.ON),
        ("Running\n", PowerState.ON),
        ("1", PowerState.ON),
        ("shut off\n", PowerState.OFF),
        ("OFF: outlet 4\n", PowerState.OFF),
        ("0\n", PowerState.OFF),
        ("booting", PowerState.TRANSITION),
        ("in shutdown\n", PowerState.TRANSITION),
        ("what?\n", PowerState.UNKNOWN),
        ("", PowerState.UNKNOWN),
    ],
)
async def test_the_first_word(tmp_path: Path, text: str, state: PowerState) -> None:
    driver = CommandDriver(CommandSettings(status=saying(tmp_path, text)))
    assert (await driver.status()).state is state


async def test_a_script_that_crashes_is_not_a_server_that_is_off(tmp_path: Path) -> None:
    broken = (script(tmp_path / "status", "echo Traceback >&2; exit 1\n"),)
    with pytest.raises(PowerNotAllowed, match=r"ended with 1 \(Traceback"):
        await CommandDriver(CommandSettings(status=broken)).status()


@pytest.mark.parametrize(("code", "state"), [(0, PowerState.ON), (1, PowerState.OFF)])
async def test_by_exit_code(tmp_path: Path, code: int, state: PowerState) -> None:
    settings = CommandSettings(status=saying(tmp_path, "whatever", code), status_by="exit")
    assert (await CommandDriver(settings).status()).state is state


async def test_another_exit_code_is_a_failure(tmp_path: Path) -> None:
    settings = CommandSettings(status=saying(tmp_path, "", 7), status_by="exit")
    with pytest.raises(PowerNotAllowed, match="ended with 7"):
        await CommandDriver(settings).status()


async def test_no_shell_reads_the_words(tmp_path: Path) -> None:
    words = (script(tmp_path / "on", 'printf "%s\\n" "$@" >"$0.out"\n'), "$HOME", "; touch x", "a b")
    await CommandDriver(CommandSettings(on=words)).on()
    assert (tmp_path / "on.out").read_text().splitlines() == list(words[1:])


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    hang = script(tmp_path / "on", f"sleep 300 & echo $! >{tmp_path}/child; wait\n")
    driver = CommandDriver(CommandSettings(on=(hang,)))
    task = asyncio.create_task(driver.on(2))
    async with asyncio.timeout(20):
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
            await asyncio.sleep(0.02)
    child = int((tmp_path / "child").read_text())
    with pytest.raises(PowerTimedOut, match="was killed"):
        await task
    async with asyncio.timeout(20):
        while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)


async def test_a_command_that_leaves_a_child_with_its_output_open_has_ended(tmp_path: Path) -> None:
    """It said 0; what it left in the background (a monitor, a master connection) is its owner's wish."""
    leave = script(tmp_path / "on", f"sleep 300 & echo $! >{tmp_path}/child\nexit 0\n")
    async with asyncio.timeout(60):
        await CommandDriver(CommandSettings(on=(leave,))).on(50)
    psutil.Process(int((tmp_path / "child").read_text())).kill()


async def test_much_output_does_not_fill_memory_or_block(tmp_path: Path) -> None:
    chatty = script(tmp_path / "status", "echo on; head -c 5000000 /dev/zero\n")
    assert (await CommandDriver(CommandSettings(status=(chatty,))).status()).state is PowerState.ON


async def test_a_failed_command_in_the_wanted_state_is_success(tmp_path: Path) -> None:
    refuse = script(tmp_path / "on", "echo domain is already running >&2; exit 1\n")
    driver = CommandDriver(CommandSettings(on=(refuse,), status=saying(tmp_path, "running")))
    await driver.on()
    (tmp_path / "said").write_text("off")
    with pytest.raises(PowerNotAllowed, match="domain is already running"):
        await driver.on()


async def test_off_alone_is_a_hard_off(tmp_path: Path) -> None:
    off = script(tmp_path / "off", "exit 0\n")
    driver = CommandDriver(CommandSettings(off=(off,)))
    await driver.hard_off()
    with pytest.raises(PowerNotAllowed, match="`soft_off`"):
        await driver.soft_off()


async def test_watts_that_are_no_number(tmp_path: Path) -> None:
    with pytest.raises(PowerProtocolError, match="number"):
        await CommandDriver(CommandSettings(watts=saying(tmp_path, "much"))).watts()


async def test_check_finds_a_missing_program() -> None:
    report = await CommandDriver(CommandSettings(on=("/nonexistent/pdu", "on"), off=("true",))).check()
    assert report.problems == ("command could not find '/nonexistent/pdu'; install it or correct the path in `on`",)
