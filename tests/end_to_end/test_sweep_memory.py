"""A sweep with data in memory, on servers whose /dev/shm is really full: it goes on elsewhere, and tries them again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.rig import SERVERS, Rig, running
from tests.end_to_end.site import until
from tests.rack.fixtures import BuildRack

pytestmark = [pytest.mark.rack, pytest.mark.timeout(240)]

POINTS = 200
PROJECT = "/home/ann/reading"
CODE = """
import os, time
def f(x):
    time.sleep(0.1)
    return {"size": os.stat(os.environ["RACKSACK_RAM_DIR"] + "/data").st_size}
"""
FULL = "/dev/shm was full while data (3 MiB) was copied to memory; free some of it, or copy less"


@pytest.fixture
def rig(build_rack: BuildRack) -> Iterator[Rig]:
    with running(build_rack(*SERVERS)) as one:
        yield one


def give_memory(rig: Rig, node: str, size: str) -> None:
    rig.rack[node].exec(["mount", "-o", f"remount,size={size}", "/dev/shm"], user="root")


def begin(rig: Rig, points: int) -> int:
    """A sweep over data of 3 MiB, begun from the laptop; its id."""
    rig.laptop.exec(["mkdir", "-p", PROJECT], user="ann")
    rig.laptop.exec(["sh", "-c", f"cat > {PROJECT}/f.py"], user="ann", stdin=CODE)
    rig.laptop.exec(["sh", "-c", f"head -c {3 << 20} /dev/zero > {PROJECT}/data"], user="ann")
    wanted = ("--param", f"x=1:{points}:1", "--cpus", "2", "--ram", "256M", "--no-venv", "--ramdisk", "data", "--yes")
    rig.cli("racksack", "sweep", "run", PROJECT, "f.py:f", *wanted)
    return int(json.loads(rig.cli("racksack", "sweep", "status", "--json").stdout)[0]["id"])


def status(rig: Rig, number: int) -> Any:
    """A sweep. The API is asked: a command on the laptop is a login for every look."""
    found = rig.ask(f"sweeps/{number}")
    assert found is not None, rig.log()
    return found


def reasons(rig: Rig, number: int) -> dict[str, str]:
    """By node, why it has no runner."""
    return {one["node"]: one["rest"]["reason"] for one in status(rig, number)["nodes"] if one["rest"]}


def workers(rig: Rig, number: int) -> dict[str, int]:
    """By node, how many are up."""
    return {one["node"]: one["workers"] for one in status(rig, number)["nodes"]}


def test_a_full_memory_is_tried_again_while_other_nodes_compute(rig: Rig) -> None:
    for node in ("r1", "r3"):
        give_memory(rig, node, "1m")
    rig.laptop.exec(["mkdir", "-p", "/home/ann/busy"], user="ann")
    rig.laptop.exec(["sh", "-c", "cat > /home/ann/busy/main.py"], user="ann", stdin="import time\ntime.sleep(1000)\n")
    busy = rig.submit("/home/ann/busy", "--node", "r2", "--cpus", 5)
    rig.wait_for(busy, "running")
    number = begin(rig, 20_000)
    until(lambda: reasons(rig, number) == {"r1": FULL, "r3": FULL}, "both are known to be full")
    assert status(rig, number)["state"] == "running"
    shown = rig.cli("racksack", "sweep", "status", number).stdout
    assert shown.count(FULL) == 2, shown
    assert "tried again in" in shown or "being tried again" in shown, shown
    assert FULL in rig.cli("racksack", "why", number).stdout
    rig.cli("racksack", "cancel", busy)
    until(lambda: workers(rig, number).get("r2"), "r2 computes")
    give_memory(rig, "r1", "64m")
    until(lambda: workers(rig, number).get("r1"), "r1 computes")
    assert reasons(rig, number) == {"r3": FULL}
    rig.cli("racksack", "sweep", "cancel", number)
    end = status(rig, number)
    assert end["done"] > 0
    assert end["failed"] == 0


def test_when_all_are_full_the_sweep_ends_with_the_sentence(rig: Rig) -> None:
    for node in ("r1", "r2", "r3"):
        give_memory(rig, node, "1m")
    number = begin(rig, POINTS)
    until(lambda: status(rig, number)["state"] != "running", "the sweep is over")
    end = status(rig, number)
    assert (end["state"], end["reason"]) == ("failed", f"r1, r2, r3: {FULL}")
    for node in ("r1", "r2", "r3"):
        give_memory(rig, node, "64m")
    rig.cli("racksack", "sweep", "resume", number)
    until(lambda: status(rig, number)["state"] != "running", "the sweep is over again")
    assert status(rig, number)["done"] == POINTS, rig.log()
