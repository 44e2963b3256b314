"""A sweep of a real backtest on a rack, with a power cut and a controller that is killed: every point once, and the
ranking that a single process comes to.

RACKSACK_FULL_SIZE makes it 65,536 points (minutes); otherwise it is a small part of the same grid.
"""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.rig import SERVERS, SIZES, SPOOL, Rig, running
from tests.end_to_end.site import until
from tests.rack.fixtures import BuildRack
from tests.sizes import FULL

SIDE = 256 if FULL else 32
POINTS = SIDE * SIDE
TIMEOUT_S = 3000 if FULL else 240
pytestmark = [pytest.mark.rack, pytest.mark.timeout(TIMEOUT_S)]

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/backtest/backtest.py"
FAST, SLOW = range(1, SIDE + 1), range(257, 257 + 2 * SIDE, 2)
JOB = f"""
name: backtest
project: backtest-1
entrypoint: staged.py
stage_in_ram: [data]
environment: none
cpus: 2
ram: 1G
env: {{PYTHONPATH: {sysconfig.get_path("purelib")}}}
sweep:
  function: evaluate
  params: {{fast: "1:{SIDE}:1", slow: "257:{256 + 2 * SIDE}:2"}}
  metric: sharpe:max
  point_timeout: 60s
"""
PAUSE_S = 0 if FULL else 0.05  # else a small sweep is over before the server is back
STAGED = f"""
import os, sys, time
sys.path.insert(0, os.environ["RACKSACK_RAM_DIR"] + "/data")
import backtest
def evaluate(fast, slow):
    time.sleep({PAUSE_S})
    return backtest.evaluate(fast, slow)
"""
IN_MEMORY = ["sh", "-c", "ls /dev/shm/*/shared/*/copy/data/backtest.py"]
PLAIN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import backtest
fast, slow = (json.loads(text) for text in sys.argv[2:])
for point, (f, s) in enumerate((f, s) for f in fast for s in slow):
    print(point, repr(backtest.evaluate(f, s)["sharpe"]))
"""
PROGRESS = """
import json, sqlite3, sys
rows = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True).execute("SELECT progress FROM sweeps").fetchall()
print(json.dumps([json.loads(row[0]) for row in rows]))
"""


@pytest.fixture
def rig(build_rack: BuildRack) -> Iterator[Rig]:
    with running(build_rack(*SERVERS)) as one:
        yield one


def drop(rig: Rig) -> None:
    """What any program of a user would do: a folder into incoming/, then a file into jobs/."""
    folder = f"{SPOOL}/incoming/backtest-1"
    rig.host.exec(["mkdir", "-p", f"{folder}/data"], user="ann")
    for name, text in (("data/backtest.py", EXAMPLE.read_text()), ("staged.py", STAGED)):
        rig.host.exec(["sh", "-c", f"cat > {folder}/{name}"], user="ann", stdin=text)
    beside = f"{SPOOL}/jobs/.sweep.new"
    rig.host.exec(["sh", "-c", f"cat > {beside} && mv {beside} {SPOOL}/jobs/sweep.yaml"], user="ann", stdin=JOB)


def view(rig: Rig) -> dict[str, Any]:
    """The sweep; empty before there is one, and while no controller answers."""
    found = rig.ask("sweeps")
    return (rig.ask(f"sweeps/{found[0]['id']}") if found else None) or {}


def has_in_memory(rig: Rig, name: str) -> bool:
    """Whether a node's runner has said that it has the data in memory."""
    return any(one["node"] == name and one["ram"] and one["ram"]["checksum"] for one in view(rig).get("nodes", ()))


def stored_progress(rig: Rig) -> dict[str, Any]:
    """The sweep's progress, as the store has it."""
    done = rig.host.exec([sys.executable, "-c", PROGRESS, f"{SPOOL}/racksack.db"], user="racksack")
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def is_memory_empty(rig: Rig, name: str) -> bool:
    return not rig.rack[name].exec(["ls", "/dev/shm"]).stdout


def reached(rig: Rig, done: int) -> None:
    try:
        until(lambda: view(rig).get("done", 0) >= done, f"{done} points are done", TIMEOUT_S)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{view(rig)}\n{rig.log()}") from None


def plain() -> list[tuple[int, float]]:
    """Point and metric from one process that knows nothing of sweeps, best first."""
    argv = [sys.executable, "-c", PLAIN, str(EXAMPLE.parent), json.dumps(list(FAST)), json.dumps(list(SLOW))]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    pairs = [(int(point), float(value)) for point, value in map(str.split, lines)]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def test_a_backtest_survives_a_power_cut_and_a_dead_controller(rig: Rig) -> None:
    drop(rig)
    reached(rig, POINTS // 10)
    until(lambda: has_in_memory(rig, "r2"), "r2 has the data in memory")
    assert rig.rack["r2"].power_cut()
    reached(rig, POINTS // 4)
    rig.kill()
    rig.rack["r2"].power_on()
    rig.rack["r2"].wait_up()
    assert is_memory_empty(rig, "r2")
    rig.start()
    until(lambda: rig.rack["r2"].exec(IN_MEMORY, check=False).stdout, "r2 has the data in memory again")
    until(lambda: view(rig).get("state") not in (None, "running"), "the sweep is over", TIMEOUT_S)
    end = stored_progress(rig)
    assert (end["state"], end["done"], end["failed"]) == ("done", POINTS, 0), rig.log()
    assert len({one["checksum"] for one in end["in_ram"].values()}) == 1, "the same data on all servers"
    for name in SIZES:
        until(partial(is_memory_empty, rig, name), f"the memory of {name} is free")
    with (rig.returned(1) / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["point"]) for row in rows] == list(range(POINTS)), "each point exactly once"
    assert [(int(row["fast"]), int(row["slow"])) for row in rows] == list(itertools.product(FAST, SLOW))
    ranked = sorted(((int(row["point"]), float(row["sharpe"])) for row in rows), key=lambda pair: (-pair[1], pair[0]))
    assert ranked == plain()
    best = json.loads((rig.returned(1) / "best.json").read_text())
    assert [one["point"] for one in best] == [point for point, _ in ranked[: len(best)]]
