"""`make rack-demo` (root): three servers that are off, a burst of jobs, and what is done about it, in a minute.

The servers are namespaces of this machine with sshd, disks and clocks of their own; their BMCs stay on while they are
off, and power off is the end of every process on them. One is switched by Redfish, one by IPMI, one by Wake-on-LAN.
Everything is taken away again at the end, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

SIZES = {
    "r1": {"cpus": 8, "ram": "16G", "labels": ["big"]},
    "r2": {"cpus": 4, "ram": "8G"},
    "r3": {"cpus": 4, "ram": "8G"},
}
BURST = (4, 4, 2, 2, 2, 1, 1, 2, 1, 1, 4, 1, 1, 2)  # cores of each job
PROGRAM = """\
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(range(20_000))
    time.sleep(0.02)
print("ran on", os.environ["RACKSACK_NODE"])
"""
IDLE_OFF_S = 6
LIMIT_S = 180


def main() -> int:
    """Show it; the exit code."""
    options = _options()
    if os.geteuid() != 0:
        print("make rack-demo needs root, since it builds servers out of namespaces: run `sudo make rack-demo`.")
        return 1
    from tests.rack.probe import missing

    if reason := missing():
        print(f"make rack-demo cannot run here: {reason}.")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _show(options.stay)
    except KeyboardInterrupt:
        print("\nInterrupted; everything was taken away again.")
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stay", action="store_true", help="keep the rack and its page until Ctrl-C")
    return parser.parse_args()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # taking the rack away is not to be interrupted
    raise KeyboardInterrupt


def _show(stay: bool) -> int:
    from tests.end_to_end.power_rig import CONTROLLER, PowerRig, node
    from tests.rack import Rack, RackSpec

    print("Building a rack: a controller that is always on, and three servers that are off.", flush=True)
    with Rack.build(RackSpec((CONTROLLER, *(node(name, boot_delay_s=4.0) for name in SIZES)))) as rack:
        rig = PowerRig(rack)
        try:
            _configure(rig)
            rig.start()
            port = rack.forward("controller", 8470)
            print(f"The status page: http://127.0.0.1:{port}/", flush=True)
            code = _run(rig)
            if stay and code == 0:
                print(f"\nThe page stays at http://127.0.0.1:{port}/ until Ctrl-C.", flush=True)
                signal.pause()
            return code
        finally:
            rig.close()
            print("Taking the rack away.", flush=True)


def _configure(rig: Any) -> None:  # noqa: ANN401 - the rig is imported only where there is root
    usual = {"idle_off": f"{IDLE_OFF_S}s", "min_on": "2s", "boot_timeout": "60s"}
    power = {
        "r1": {"on": [rig.bmc("r1", "redfish", watts=168, watts_off=9)], "off": ["ssh", "redfish"], "hard_off": True},
        "r2": {"on": [rig.bmc("r2", "ipmi")], "off": ["ssh", "ipmi"], "hard_off": True},
        "r3": {"on": [rig.wol("r3")], "off": ["ssh"], "silence": "3s"},
    }
    power["r2"]["watts"], power["r3"]["watts"] = {"idle": 70, "max": 150}, {"idle": 45, "max": 110}
    rig.configure({name: {**usual, **block} for name, block in power.items()}, SIZES)


def _run(rig: Any) -> int:  # noqa: ANN401
    watch = _Watch(rig)
    watch.until(lambda: set(rig.phases().values()) == {"off"}, "all servers are known to be off")
    watch.nodes()
    project = rig.project("burst", PROGRAM)
    print(f"\n$ submit ... ({len(BURST)} jobs, {sum(BURST)} cores in all; the rack has 16)", flush=True)
    ids = rig.submit_all(
        [
            (project, {"args": [str(3 + number % 4)], "cpus": cpus, "ram": "512M", "name": f"burst-{number}"})
            for number, cpus in enumerate(BURST)
        ]
    )
    watch.until(lambda: any(phase != "off" for phase in rig.phases().values()), "a server is being switched on")
    watch.until(lambda: _is_full(rig), "jobs run", quiet=True)
    watch.nodes()
    watch.until(lambda: _all_done(rig, ids), "the jobs are done")
    print(f"\nAll {len(ids)} jobs are done; nothing waits, so the servers go off {IDLE_OFF_S} s later.", flush=True)
    watch.until(lambda: set(rig.phases().values()) == {"off"}, "all servers are off again")
    watch.nodes()
    print("\n$ racksack why r1\n" + rig.why("r1"))
    print("\n$ racksack energy\n" + rig.cli("racksack", "energy").stdout, flush=True)
    return 0


def _is_full(rig: Any) -> bool:  # noqa: ANN401
    return sum(len(node["jobs"]) for node in rig.ask("nodes") or []) >= 3


def _all_done(rig: Any, ids: list[int]) -> bool:  # noqa: ANN401
    jobs = {job["id"]: job["state"] for job in rig.ask("jobs?all=1") or []}
    return all(jobs.get(job) == "done" for job in ids)


class _Watch:
    """Tells what happens while something is waited for."""

    def __init__(self, rig: Any) -> None:  # noqa: ANN401
        self._rig = rig
        self._began_s = time.time()
        self._told = 0
        self._jobs: dict[int, str] = {}

    def until(self, done: Any, what: str, quiet: bool = False) -> None:  # noqa: ANN401
        """Wait for `done`, telling what happens. Raises TimeoutError after `LIMIT_S`."""
        deadline = time.monotonic() + LIMIT_S
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {LIMIT_S} s: {what}\n{self._rig.story()}\n{self._rig.log()}")
            self._tell(quiet)
            time.sleep(0.3)
        self._tell(quiet)

    def nodes(self) -> None:
        """The table of nodes."""
        print("\n$ racksack nodes\n" + self._rig.cli("racksack", "nodes").stdout, flush=True)

    def _tell(self, quiet: bool) -> None:
        lines = (self._rig.ask(f"power?since_s={self._began_s}") or [])[self._told :]
        self._told += len(lines)
        for line in lines:
            if line["kind"] != "step" or not quiet:
                way = f" [{line['way']}]" if line["way"] else ""
                print(f"{line['at_s'] - self._began_s:6.1f} s  {line['node']}{way} {line['sentence']}", flush=True)
        jobs = {job["id"]: job for job in self._rig.ask("jobs?all=1") or []}
        started = [job for job in jobs.values() if job["node"] and self._jobs.get(job["id"]) != job["node"]]
        for job in sorted(started, key=lambda one: one["id"]):
            self._jobs[job["id"]] = job["node"]
            cores = f"{job['cpus']:g} core{'' if job['cpus'] == 1 else 's'}"
            print(f"{time.time() - self._began_s:6.1f} s  job {job['id']} ({cores}) goes to {job['node']}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (TimeoutError, AssertionError, RuntimeError, subprocess.SubprocessError, json.JSONDecodeError) as error:
        print(f"rack-demo failed: {error}", file=sys.stderr)
        sys.exit(1)
