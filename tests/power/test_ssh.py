"""Shutting down from inside, and who is logged in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from racksack_controller.power.driver import PowerNotAllowed, PowerState
from racksack_controller.power.settings import SshSettings
from racksack_controller.power.ssh import Login, SshDriver
from tests.power import rigs
from tests.power.rigs import Rig

DENIED = "echo 'sudo: a password is required' >&2; exit 1\n"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made = rigs.ssh(tmp_path)
    made.machine.on()
    return made


async def test_root_needs_no_sudo(rig: Rig) -> None:
    await rig.driver.soft_off()
    assert not rig.machine.is_on()
    assert rig.device.calls == [["id", "-u"], ["systemctl", "poweroff"]]


async def test_a_user_goes_on_to_sudo(rig: Rig) -> None:
    shell = rig.device
    shell.place("id", "echo 1000\n")
    off = " ".join(rig.machine.commands.soft_off)
    shell.place("systemctl", "echo 'Interactive authentication required.' >&2; exit 1\n")
    shell.place("sudo", f'test "$*" = "-n systemctl poweroff" || exit 1\n{off}\n')
    await rig.driver.soft_off()
    assert not rig.machine.is_on()


async def test_the_last_way_is_shutdown(rig: Rig) -> None:
    shell = rig.device
    shell.place("systemctl", "exit 127\n")
    shell.place("shutdown", f'test "$*" = "-h now" && exec {" ".join(rig.machine.commands.soft_off)}\n')
    await rig.driver.soft_off()
    assert not rig.machine.is_on()


async def test_all_refusals_are_told(rig: Rig) -> None:
    shell = rig.device
    shell.place("id", "echo 1000\n")
    shell.place("systemctl", "echo 'User ada is logged in on tty1.' >&2; exit 1\n")
    shell.place("sudo", DENIED)
    shell.place("shutdown", "exit 1\n")
    with pytest.raises(PowerNotAllowed) as caught:
        await rig.driver.soft_off()
    assert "ada is logged in" in str(caught.value)
    assert "a password is required" in str(caught.value)
    assert "sudoers" in str(caught.value)
    assert rig.machine.is_on()


async def test_a_link_that_breaks_after_the_command_is_obedience() -> None:
    async def run(argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[0] == "id":
            return 0, "0\n", ""
        raise OSError("connection lost")

    await SshDriver(SshSettings(), run, "r1").soft_off()


async def test_on_is_known_off_is_not(rig: Rig) -> None:
    assert (await rig.driver.status()).state is PowerState.ON
    assert (await rig.nowhere.status()).state is PowerState.UNKNOWN


async def test_check_without_the_right(rig: Rig) -> None:
    rig.device.place("id", "echo 1000\n")
    rig.device.place("sudo", DENIED)
    report = await rig.driver.check()
    assert "sudoers" in report.problems[0]
    rig.device.place("sudo", 'test "$*" = "-n -l systemctl poweroff"\n')
    assert (await rig.driver.check()).reset_types == ("sudo systemctl poweroff",)
    assert rig.machine.is_on()


async def test_logins_are_people_not_panes(rig: Rig) -> None:
    (rig.device.directory / "who.txt").write_text(
        "ada      tty1         2026-03-01 09:00\n"
        "grace    pts/0        2026-03-01 09:12 (10.0.0.7)\n"
        "racksack pts/3        2026-03-01 09:20 (tmux(4711).%0)\n"
        "racksack pts/4        2026-03-01 09:21 (:pts/3:S.0)\n"
    )
    assert await rig.driver.logins() == (Login("ada", "tty1", ""), Login("grace", "pts/0", "10.0.0.7"))


async def test_nobody_is_logged_in(rig: Rig) -> None:
    assert await rig.driver.logins() == ()
