"""`make slurm-demo` (root): two servers of one's own and a Slurm cluster, on this machine, in a minute.

Sixty jobs are more than the two servers can do soon, so that many of them go to the cluster. Its slurmctld, slurmd and
munged are real, on loopback, and with everything else they are taken away again at the end, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tests.end_to_end.site import Site  # noqa: E402 - the checkout is not installed
from tests.slurm import cluster  # noqa: E402

JOBS = 60
LIMIT_S = 300.0
CONFIG = """\
web: {{listen: "off"}}
nodes:
  r1: {{local: {{home: {root}/r1}}, cpus: 2, ram: 4G, gpus: []}}
  r2: {{local: {{home: {root}/r2}}, cpus: 2, ram: 4G, gpus: []}}
  campus:
    slurm: {{local: {{}}, home: {root}/shared, conf: {conf}, partitions: {{cpu: {{}}}}, max_jobs: 40}}
    cost: 1.5
"""
PROGRAM = """\
import hashlib, os, time
text = os.environ.get("RACKSACK_ARRAY_INDEX", "0")
for _ in range(1000):
    text = hashlib.sha256(text.encode()).hexdigest()
time.sleep(3)
with open(os.path.join(os.environ["RACKSACK_RETURN_DIR"], "hash"), "w") as file:
    file.write(text)
"""


def main() -> int:
    """Show it; the exit code."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    reason = cluster.missing()
    if not reason and not (shutil.which("tmux") or shutil.which("screen")):
        reason = "neither tmux nor screen is installed"
    if reason:
        print(f"make slurm-demo cannot run here: {reason}.")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="rs-slurm-", dir="/tmp") as folder:
            print("Starting munged, slurmctld and two slurmd on loopback ...")
            with cluster.running(Path(folder) / "cluster", cpus=8) as slurm:
                return _show(slurm)
    except (cluster.CannotRunError, AssertionError) as problem:
        print(f"the demo failed: {problem}")
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything was taken away again.")
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(slurm: cluster.Cluster) -> int:
    site = Site(None)
    try:
        (site.home / "racksack.yaml").write_text(CONFIG.format(root=site.root, conf=slurm.conf))
        project = site.work / "project"
        project.mkdir()
        (project / "main.py").write_text(PROGRAM)
        site.start()
        _say(site, "racksack", "node", "check", "campus", "--config", str(site.home / "racksack.yaml"))
        # One run first, so that it is known how long such a job takes.
        site.wait_for(site.submit(project, "--name", "hash0", "--ram", "100M"), "done")
        began_s = time.monotonic()
        first = site.submit(project, "--name", "hash1", "--ram", "100M", "--array", f"1-{JOBS}")
        time.sleep(4)
        _say(site, "racksack", "status")
        _say(site, "racksack", "nodes")
        _say(site, "racksack", "why", str(first + JOBS - 1))
        jobs = [site.wait_for(number, "done", timeout_s=LIMIT_S) for number in range(first, first + JOBS)]
        return _judge(site, jobs, time.monotonic() - began_s, slurm)
    finally:
        site.close()


def _say(site: Site, program: str, *words: str) -> None:
    print(f"\n$ {program} {' '.join(words)}", flush=True)
    print(site.cli(program, *words).stdout.rstrip())


def _judge(site: Site, jobs: list[dict[str, Any]], took_s: float, slurm: cluster.Cluster) -> int:
    """Whether all results are what they should be, whichever machine computed them."""
    where: Counter[str] = Counter()
    wrong = []
    for job in jobs:
        number = int(job["id"])
        where[job["attempts"][-1]["node"]] += 1
        text = str(job["array_index"])
        for _ in range(1000):
            text = hashlib.sha256(text.encode()).hexdigest()
        if (site.returned(number) / "hash").read_text() != text:
            wrong.append(number)
    print(f"\n{len(jobs)} jobs in {took_s:.0f} s: " + ", ".join(f"{count} on {node}" for node, count in where.items()))
    print("every result is right" if not wrong else f"these results are wrong: {wrong}")
    left = slurm.living()
    print("nothing is left in Slurm's queue" if not left else f"left in Slurm's queue: {left}")
    return int(bool(wrong or left or "campus" not in where))


if __name__ == "__main__":
    sys.exit(main())
