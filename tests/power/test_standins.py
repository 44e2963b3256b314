"""The stand-ins run on their own, as the test rack runs them beside a namespace."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from racksack_controller.power.driver import PowerState
from racksack_controller.power.ilo import IloDriver
from racksack_controller.power.ipmi import IpmiDriver
from racksack_controller.power.ipmi_helper import IpmiHelper
from racksack_controller.power.ladder import Limits, switch_off, switch_on
from racksack_controller.power.redfish import RedfishDriver
from racksack_controller.power.settings import IloSettings, IpmiSettings, RedfishSettings, WolSettings
from racksack_controller.power.steps import Outcome
from racksack_controller.power.tls import Trust
from racksack_controller.power.wol import WolDriver
from tests.power import ipmi_bmc, rigs
from tests.power.machine import FileMachine

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def standing_in(module: str, machine: FileMachine, *words: str) -> Iterator[dict[str, Any]]:
    """A stand-in as a process; gives the line it says where it listens."""
    commands = machine.commands
    switches = (
        "--on",
        commands.on,
        "--off",
        commands.off,
        "--soft-off",
        commands.soft_off,
        "--status",
        commands.status,
    )
    argv = [sys.executable, "-m", f"tests.power.{module}", "--password", rigs.PASSWORD, *words]
    argv += [word if isinstance(word, str) else shlex.join(word) for word in switches]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


async def test_redfish_with_faults_up_and_down_the_ladder(tmp_path: Path) -> None:
    machine = FileMachine(tmp_path / "machine")
    faults = (
        "--fault",
        "lag_s=0.2",
        "--fault",
        "transition_s=0.2",
        "--fault",
        "reset_types=On,ForceOff,PushPowerButton",
    )
    with standing_in("redfish_server", machine, "--port", "0", *faults) as where:
        secret = rigs.password_file(tmp_path)
        driver = RedfishDriver(RedfishSettings(where["url"], "admin", secret, Trust(where["fingerprint"])))
        limits = Limits(boot_s=20, grace_s=20, confirm_s=20, poll_s=0.05)

        async def up() -> None:
            while (await driver.status()).state is not PowerState.ON:  # the BMC says it some time after it is so
                await asyncio.sleep(0.05)

        steps = [step async for step in switch_on([driver], [driver], up, limits)]
        assert steps[-1].outcome is Outcome.DONE
        assert machine.is_on()
        steps = [step async for step in switch_off([driver], [driver], up, hard=False, limits=limits)]
        assert steps[-1].outcome is Outcome.DONE
        assert machine.events == ["on", "soft_off"]
        await driver.close()


async def test_ribcl(tmp_path: Path) -> None:
    machine = FileMachine(tmp_path / "machine")
    with standing_in(
        "ribcl_server", machine, "--port", "0", "--fault", "generation=2", "--fault", "old_tls=1"
    ) as where:
        trust = Trust(where["fingerprint"], legacy=True)
        secret = rigs.password_file(tmp_path)
        await IloDriver(IloSettings(where["host"], "admin", secret, where["port"], trust)).on()
    assert machine.is_on()


@pytest.mark.skipif(ipmi_bmc.MISSING is not None, reason=ipmi_bmc.MISSING or "")
async def test_ipmi(tmp_path: Path) -> None:
    machine = FileMachine(tmp_path / "machine")
    port = ipmi_bmc.free_port("127.0.0.1")
    helper = IpmiHelper()
    with standing_in("ipmi_bmc", machine, "--port", str(port), "--password", "secret") as where:
        secret = rigs.password_file(tmp_path, "secret")
        await IpmiDriver(IpmiSettings(where["host"], "admin", secret, where["port"]), helper).on()
    assert machine.is_on()
    await helper.close()


async def test_magic_packets(tmp_path: Path) -> None:
    machine = FileMachine(tmp_path / "machine")
    words = ("--port", "0", "--mac", rigs.MAC, "--fault", "drop_first=2")
    with standing_in("magic_listener", machine, *words) as where:
        settings = WolSettings(rigs.MAC, "127.0.0.1", where["port"], repeats=3, spacing_s=0.05)
        driver = WolDriver(settings)

        async def up() -> None:
            while not machine.is_on():
                await asyncio.sleep(0.02)

        limits = Limits(boot_s=20, poll_s=0.05)
        steps = [step async for step in switch_on([driver], [driver], up, limits)]
        assert steps[-1].outcome is Outcome.DONE
