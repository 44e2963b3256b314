"""A node whose power is cut while programs save: they go on from what was complete, and their results are right."""

from __future__ import annotations

import random
import subprocess
import time

import pytest

from tests.chaos import disk, power_cuts
from tests.chaos.power_cuts import CutRig
from tests.end_to_end.site import until
from tests.rack.probe import missing
from tests.sizes import FULL

pytestmark = [pytest.mark.rack, pytest.mark.timeout(3600 if FULL else 300)]
STEPS = 300
# Counts, and saves in two files: as CURRENT names them, or over each other with a mark.
COUNTER = """
import hashlib, json, os, sys, time
from racksack_checkpoint import checkpoint
how, steps = sys.argv[1], int(sys.argv[2])
place = os.environ["RACKSACK_CHECKPOINT_DIR"]

def put(path, value):
    data = json.dumps(value).encode() * 300
    with open(path, "wb") as file:
        file.write(hashlib.sha256(data).hexdigest().encode() + data)

def got(path):
    data = open(path, "rb").read()
    assert hashlib.sha256(data[64:]).hexdigest().encode() == data[:64], "BROKEN CHECKPOINT"
    return json.loads(data[64 : 64 + len(data[64:]) // 300])

folder = place
if how == "current" and os.path.exists(place + "/CURRENT"):
    folder = place + "/" + open(place + "/CURRENT").read()
step = total = 0
if os.path.exists(folder + "/step"):
    step, total = got(folder + "/step"), got(folder + "/total")
    assert total == sum(x * x for x in range(step + 1)), "BROKEN CHECKPOINT"
print("begin", step, flush=True)
while step < steps:
    step += 1
    total += step * step
    time.sleep(0.03)
    if step % 10 == 0:
        if how == "current":
            folder = place + f"/{step}"
            os.makedirs(folder, exist_ok=True)
        put(folder + "/step", step)
        put(folder + "/total", total)
        if how == "current":
            with open(place + "/new", "w") as file:
                file.write(str(step))
            os.replace(place + "/new", place + "/CURRENT")
        else:
            checkpoint()
open(os.environ["RACKSACK_RETURN_DIR"] + "/result", "w").write(str(total))
"""


def one_round(rig: CutRig, seed: int, cuts: int) -> int:
    """Runs under cuts; how many of them went on from a checkpoint at last."""
    dice, name = random.Random(seed), f"counter{seed}"
    folder = rig.laptop.home() / name
    folder.mkdir()
    (folder / "main.py").write_text(COUNTER)
    subprocess.run(["chown", "-R", f"{rig.laptop.uid()}:{rig.laptop.uid()}", folder], check=True)
    size = ("--cpus", "0.5", "--ram", "64M", "--checkpoint", "ckpt", "--checkpoint-every", "1s")
    jobs = [rig.submit(name, *size, "--", how, STEPS) for how in ("current", "marked") for _ in range(2)]
    for job in jobs:
        until(lambda job=job: (rig.job(job) or {}).get("state") == "running", f"job {job} runs")  # type: ignore[misc]
    rig.disk.flush()  # the machine has been there for longer than the jobs: its keys are on its disk
    for _ in range(cuts):
        time.sleep(dice.uniform(2.0, 5.0))
        rig.cut()
    resumed = 0
    for job in jobs:
        rig.wait_for(job, "done", timeout_s=240)
        returned = rig.returned(job)
        assert (returned / "result").read_text() == str(sum(x * x for x in range(STEPS + 1)))
        assert not [log for log in returned.rglob("stderr.log") if "BROKEN" in log.read_text()]
        resumed += (returned / "stdout.log").read_text() != "begin 0\n"
    return resumed


def test_what_was_complete_survives_cuts() -> None:
    if reason := missing() or disk.why_not("ext4"):
        pytest.skip(reason)
    with power_cuts.running("ext4") as rig:
        resumed = [one_round(rig, seed, 3 if FULL else 1) for seed in (range(6) if FULL else range(1))]
    assert sum(resumed) > 0
    if FULL:
        print(f"{4 * len(resumed)} runs, 3 cuts each; {sum(resumed)} went on from a checkpoint after the last one")
