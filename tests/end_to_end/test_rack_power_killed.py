"""kill -9 of the controller in every state of power, for every way to switch a server (RACKSACK_FULL_SIZE=1).

The rack's record of events, which servers and BMCs write, says what happened: each server is switched on as often as it
must be, none loses its power while a job runs on it, and all are off in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.end_to_end.power_rig import CONTROLLER, PowerRig, node
from tests.end_to_end.site import until
from tests.rack.fixtures import BuildRack
from tests.sizes import FULL

pytestmark = [
    pytest.mark.rack,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not FULL,
        reason="test_rack_power_faults.py kills the controller once; RACKSACK_FULL_SIZE=1 does in every state",
    ),
]

WAYS = {"r1": "redfish", "r2": "ipmi", "r3": "ilo", "r4": "wol", "r5": "command"}
STUBBORN = "r6"  # goes down only when its power is cut
FAILS = "r7"  # does not come up when told not to
NAMES = (*WAYS, STUBBORN, FAILS)
SIZE = {"cpus": 2, "ram": "2G"}
# As root on the server: nothing but SIGKILL ends it.
WILL_NOT_END = "import signal, time\nfor number in (1, 15): signal.signal(number, signal.SIG_IGN)\ntime.sleep(600)\n"


@pytest.fixture(scope="module")
def rig(build_module_rack: BuildRack) -> Iterator[PowerRig]:
    servers = [node(name, boot_delay_s=3.0, stop_timeout_s=120.0 if name == STUBBORN else 2.0) for name in NAMES]
    rig = PowerRig(build_module_rack(CONTROLLER, *servers))
    rig.configure(
        {
            "r1": {"on": [rig.bmc("r1", "redfish")], "off": ["redfish"], "hard_off": True},
            "r2": {"on": [rig.bmc("r2", "ipmi")], "off": ["ipmi"], "hard_off": True},
            "r3": {"on": [rig.bmc("r3", "ilo")], "off": ["ssh", "ilo"], "hard_off": True},
            "r4": {"on": [rig.wol("r4")], "off": ["ssh"], "silence": "2s"},
            "r5": {"on": [rig.outlet("r5")], "off": ["ssh", "command"], "hard_off": True},
            STUBBORN: {
                "on": [rig.bmc(STUBBORN, "redfish")],
                "off": ["redfish"],
                "hard_off": True,
                "off_grace": "4s",
            },
            FAILS: {"on": [rig.bmc(FAILS, "ipmi")], "off": ["ipmi"], "hard_off": True, "boot_timeout": "6s"},
        },
        dict.fromkeys(NAMES, SIZE),
        idle_off="3s",
    )
    with rig.running():
        yield rig


@pytest.fixture(autouse=True)
def off_before_and_after(rig: PowerRig) -> Iterator[None]:
    """Every test begins and ends with all servers off, and no job has ever lost its server's power."""
    rig.all_off()
    yield
    rig.all_off()
    rig.no_power_was_taken_from_jobs()


def kill_and_start(rig: PowerRig) -> None:
    rig.kill()
    rig.start()


def switched_on(rig: PowerRig, name: str) -> int:
    return rig.count(name, "power-on")


def test_off(rig: PowerRig) -> None:
    before = rig.booted()
    kill_and_start(rig)
    rig.all_off()
    assert all(rig.phases()[name] == "off" for name in NAMES), rig.phases()
    assert rig.booted() == before
    rig.ended([rig.submit_traced("after-off", ["r1"])])


Moment = Callable[[PowerRig, str, int], object]
MOMENTS: dict[str, Moment] = {
    "decided": lambda rig, name, before: rig.phases()[name] == "booting",
    "has-power": lambda rig, name, before: switched_on(rig, name) > before,
    "accepted": lambda rig, name, before: rig.ask(f"nodes/{name}")["power"]["way"],
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", WAYS)
def test_booting(rig: PowerRig, name: str, moment: str) -> None:
    before = switched_on(rig, name)
    job = rig.submit_traced(f"boots-{name}-{moment}", [name])
    until(lambda: MOMENTS[moment](rig, name, before), f"{name}: {moment}", 60)
    kill_and_start(rig)
    done = rig.ended([job])[0]
    assert done["attempt"] == 1
    assert switched_on(rig, name) == before + 1


@pytest.mark.parametrize("name", WAYS)
def test_running_idle_and_stopping(rig: PowerRig, name: str) -> None:
    go = f"/home/racksack/go-{name}"
    before = switched_on(rig, name)
    job = rig.submit_traced(f"runs-{name}", [name], go)
    rig.wait_for(job, "running")
    kill_and_start(rig)
    rig.wait_for(job, "running")
    assert rig.rack[name].running
    (rig.rack[name].home() / f"go-{name}").touch()
    assert rig.ended([job])[0]["attempt"] == 1
    until(lambda: not rig.ask(f"nodes/{name}")["jobs"], f"nothing is left on {name}")
    assert "to be switched off in" in rig.why(name)
    kill_and_start(rig)  # on and idle
    rig.wait_phase(name, "stopping", "off")
    kill_and_start(rig)
    rig.all_off(name)
    rig.wait_phase(name, "off")
    assert switched_on(rig, name) == before + 1
    assert "off for" in rig.why(name)


@pytest.mark.parametrize("moment", ["grace", "cut"])
def test_hard_off(rig: PowerRig, moment: str) -> None:
    go = f"/home/racksack/go-hard-{moment}"
    job = rig.submit_traced(f"hard-{moment}", [STUBBORN], go)
    rig.wait_for(job, "running")
    server = rig.rack[STUBBORN]
    with server.popen(["python3", "-c", WILL_NOT_END], user="root") as hangs:
        (server.home() / f"go-hard-{moment}").touch()
        rig.ended([job])
        awaited = {"grace": "stopping", "cut": "power-cut"}[moment]
        before = rig.count(STUBBORN, awaited)
        until(lambda: rig.count(STUBBORN, awaited) > before, f"{awaited} is recorded", 60)
        kill_and_start(rig)
        rig.all_off(STUBBORN)
        rig.wait_phase(STUBBORN, "off")
        hangs.wait(timeout=20)
    assert [event.event for event in rig.events(STUBBORN)][-1] == "power-cut"


def test_set_aside_and_the_next_try(rig: PowerRig) -> None:
    """What failed is tried again by itself after a minute."""
    rig.rack[FAILS].set_faults(no_ssh=True)
    before = switched_on(rig, FAILS)
    job = rig.submit_traced("tried-again", [FAILS])
    rig.wait_phase(FAILS, "set_aside")
    kill_and_start(rig)
    rig.wait_phase(FAILS, "set_aside")
    assert "did not come up within 6 s" in rig.why(FAILS)
    until(lambda: not rig.rack[FAILS].running, "it does not burn on")
    rig.rack[FAILS].set_faults(no_ssh=False)
    rig.wait_phase(FAILS, "booting", timeout_s=120)
    kill_and_start(rig)
    rig.ended([job])
    assert switched_on(rig, FAILS) == before + 2
