"""A rack of one node whose power is cut at random instants, with the loss of what was not on its disk, while it works.

`python -m tests.chaos.power_cuts --kind ext4 --seeds 40` prints the figures of docs/reliability.md. Whether each job's
result is right is decided here, from its number alone, by nothing of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.chaos import disk
from tests.chaos.disk import Disk
from tests.end_to_end.rig import SPOOL, Rig, python_path
from tests.end_to_end.site import until
from tests.rack import Rack, ServerSpec
from tests.rack.layout import RackSpec

SERVERS = (
    ServerSpec("laptop", role="laptop", users=("ann",)),
    ServerSpec("controller", role="controller", users=("racksack", "ann")),
    ServerSpec("r1"),
)
DONE_S = 240.0
KINDS = ("plain", "mapped", "many", "replaced")

# Each job writes bytes that follow from its number, in one of the ways in which programs write.
JOB = """
import hashlib, mmap, os, pathlib, sys, time
number, size, kind, seconds = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
block = b"".join(hashlib.sha256(b"%d %d" % (number, at)).digest() for at in range(1024))
data = (block * (size // len(block) + 1))[:size]
out = pathlib.Path(os.environ["RACKSACK_RETURN_DIR"])
project = hashlib.sha256(pathlib.Path("ballast").read_bytes()).hexdigest()
time.sleep(seconds)
if kind == "plain":
    (out / "payload").write_bytes(data)
elif kind == "mapped":
    with open(out / "payload", "w+b") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as memory:
            memory[:] = data
elif kind == "many":
    for at in range(100):
        (out / f"part-{at:02}").write_bytes(data[at * size // 100 : (at + 1) * size // 100])
else:
    (out / "beside").write_bytes(data)
    os.replace(out / "beside", out / "payload")
print("wrote", number, project)
"""

# On the laptop: one process with the Python API, as a person's script would.
SUBMIT = """
import json, sys, racksack
size = {"cpus": 0.5, "ram": "64M"}
print(json.dumps([racksack.submit(p, "main.py", args=a, name="cut", **size).id for p, a in json.load(sys.stdin)]))
"""


class CutRig(Rig):
    """A controller whose disk is whole, and a node whose disk is not."""

    def __init__(self, rack: Rack, node_disk: Disk) -> None:
        super().__init__(rack)
        self.node = rack["r1"]
        self.disk = node_disk

    def prepare(self) -> None:
        """Switch all on and install the configuration."""
        self.rack.up()
        nodes = self.rack.nodes_config()
        nodes["r1"].update({"cpus": 4, "ram": "4G"})
        nodes["r1"]["ssh"]["keepalive"] = "1s"
        config = {
            "spool": SPOOL,
            "group": "racksack",
            "web": {"listen": "off"},
            "defaults": {"lost_after": "20s"},
            "nodes": nodes,
        }
        self.host.install("/etc/racksack.yaml", yaml.safe_dump(config))
        self.host.exec(["install", "-d", "-o", "racksack", "-g", "racksack", SPOOL], user="root")

    def cut(self) -> None:
        """The power of the node goes and comes back."""
        for process in self.node.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)  # else they would go on during the cut, which no machine does
        self.disk.cut()
        self.node.power_cut("test")
        self.disk.mount_again()
        self.node.power_on("test")

    def submit_all(self, projects: dict[int, str], jobs: dict[int, list[str]]) -> dict[int, int]:
        """Submit jobs by their number; the ids that they got."""
        wanted = [[projects[number], jobs[number]] for number in jobs]
        done = self.laptop.exec(
            [sys.executable, "-P", "-c", SUBMIT],
            stdin=json.dumps(wanted),
            env={"RACKSACK_CONTROLLER": "controller", **python_path()},
            timeout_s=120,
        )
        return dict(zip(jobs, json.loads(done.stdout), strict=True))


@contextlib.contextmanager
def running(kind: str) -> Iterator[CutRig]:
    """A rack of the controller and one node with such a disk."""
    rack = Rack.build(RackSpec(SERVERS))
    try:
        folder = Path(tempfile.mkdtemp(prefix="rs-cut-"))
        with disk.mounted(folder, rack["r1"].disk / "home", kind) as node_disk:
            rig = CutRig(rack, node_disk)
            try:
                rig.prepare()
                rig.start()
                yield rig
            finally:
                rig.close()
                rack["r1"].power_cut("end")
        folder.rmdir()
    finally:
        rack.remove()


def project(rig: CutRig, name: str, ballast: bytes) -> str:
    """A project in a home on the laptop; its digest of ballast is what each of its jobs prints."""
    folder = rig.laptop.home() / name
    folder.mkdir()
    (folder / "main.py").write_text(JOB)
    (folder / "ballast").write_bytes(ballast)
    subprocess.run(["chown", "-R", f"{rig.laptop.uid()}:{rig.laptop.uid()}", folder], check=True)
    return name


def expected(number: int, size: int) -> bytes:
    """What a job writes."""
    block = b"".join(hashlib.sha256(b"%d %d" % (number, at)).digest() for at in range(1024))
    return (block * (size // len(block) + 1))[:size]


def written(folder: Path, kind: str) -> bytes:
    """What came back."""
    if kind == "many":
        return b"".join((folder / f"part-{at:02}").read_bytes() for at in range(100))
    return (folder / "payload").read_bytes()


def one_round(rig: CutRig, seed: int, jobs: int, cuts: int) -> Counter[str]:
    """Run jobs under cuts at random instants; raises AssertionError unless each job's one result is whole and right."""
    dice = random.Random(seed)
    first = seed * 10_000
    numbers = range(first, first + jobs)
    ballast = {name: dice.randbytes(size) for name, size in ((f"s{seed}", 5_000), (f"l{seed}", 600_000))}
    names = {number: dice.choice(list(ballast)) for number in numbers}
    for name, data in ballast.items():
        project(rig, name, data)
    shapes = {number: (dice.choice((2_000, 300_000, 6_000_000)), dice.choice(KINDS)) for number in numbers}
    arguments = {
        number: [str(number), str(size), kind, f"{dice.choice((0.0, 0.5, 2.0, 6.0)):g}"]
        for number, (size, kind) in shapes.items()
    }
    ids = rig.submit_all(names, arguments)
    for _ in range(cuts):
        time.sleep(dice.uniform(0.0, 6.0))
        if dice.random() < 0.3:
            rig.disk.flush()  # half a minute passes in a moment: what was written before is on the disk
            time.sleep(dice.uniform(0.0, 1.0))
        rig.cut()
    tally: Counter[str] = Counter(jobs=jobs, cuts=cuts)
    for number, job_id in ids.items():
        job = rig.wait_for(job_id, "done", "failed", "lost", "prepare_failed", "stage_failed", timeout_s=DONE_S)
        size, kind = shapes[number]
        folder = rig.returned(job_id)
        said = (folder / "stdout.log").read_text() if (folder / "stdout.log").exists() else ""
        assert job["state"] == "done", (seed, number, job)
        assert said == f"wrote {number} {hashlib.sha256(ballast[names[number]]).hexdigest()}\n", (seed, number, said)
        assert written(folder, kind) == expected(number, size), (seed, number, size, kind)
        tally["attempts"] += job["attempt"]
    attempts = rig.disk.place / "racksack/.racksack"
    until(lambda: not list(attempts.glob("*/attempts/[0-9]*")), "nothing is left on the node", 60)
    return tally


def main() -> None:
    """Print what many rounds came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=sorted(disk.MAKERS), default="ext4")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--cuts", type=int, default=5)
    options = parser.parse_args()
    whole: Counter[str] = Counter()
    with running(options.kind) as rig:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            whole += one_round(rig, seed, options.jobs, options.cuts)
            print(options.kind, "seed", seed, dict(whole), flush=True)


if __name__ == "__main__":
    main()
