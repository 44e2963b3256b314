"""One rack whose servers each have something wrong with the way they are switched, for several test files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.end_to_end.power_rig import CONTROLLER, PowerRig, node
from tests.rack.fixtures import BuildRack
from tests.sizes import FULL

SLOW_S = 30.0 if FULL else 1.5  # for each answer of r1's BMC

SIZE = {"cpus": 2, "ram": "2G"}


@contextmanager
def faulty_rack(build: BuildRack, *names: str) -> Iterator[PowerRig]:
    """A rack of these servers, out of r1 to r6, with a running controller."""
    rig = PowerRig(build(CONTROLLER, *(node(name, boot_delay_s=1.5) for name in names)))
    power = {name: _block(rig, name) for name in names}
    if "r2" in names:
        rig.bmcs["r2"].set_password("changed-behind-our-back")
    rig.configure(power, dict.fromkeys(names, SIZE), idle_off="2s")
    with rig.running():
        yield rig


def _block(rig: PowerRig, name: str) -> dict[str, Any]:
    if name == "r1":
        slow = rig.bmc("r1", "redfish", slow_s=SLOW_S, already_400=True)
        return {"on": [slow], "off": ["redfish"], "hard_off": True}
    if name == "r2":
        return {"on": [rig.bmc("r2", "ipmi"), rig.wol("r2")], "off": ["ssh"], "silence": "2s"}
    if name == "r3":
        return {"on": [rig.bmc("r3", "ilo")], "off": ["ssh", "ilo"], "hard_off": True, "boot_timeout": "6s"}
    if name == "r5":
        return {"on": [rig.outlet("r5")], "off": ["ssh", "command"], "hard_off": True}
    grace = {"off_grace": "10m"} if name == "r6" else {}
    return {"on": [rig.wol(name)], "off": ["ssh"], "silence": "2s", **grace}


def story_of(rig: PowerRig, name: str, since_s: float) -> str:
    """What happened to the power of a server since then (Unix seconds)."""
    return "\n".join(line["sentence"] for line in rig.ask(f"power?since_s={since_s}&node={name}") or [])
