"""Slurm from Debian: slurmctld, slurmd and munge on loopback, one node with pretended CPUs, tuned for short latency.

The tuning is the best found: no delay between submission and a scheduling pass. Completed jobs are recorded by
jobcomp/filetxt, whose lines are what counts as finished.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.harness import CannotMeasureError, stamp_of, wait_for

TUNED = (
    "batch_sched_delay=0,sched_min_interval=0,sched_interval=5,default_queue_depth=1000,"
    "bf_interval=5,bf_max_job_test=1000"
)
CONFIG = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
{tuning}
MaxJobCount=100000
MaxArraySize=20001
MinJobAge=10
ReturnToService=2
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port=26818 CPUs={slots} RealMemory=1000000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Slurm:
    """A running Slurm."""

    folder: Path
    pids: tuple[int, ...]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def environment(self) -> dict[str, str]:
        """What its commands need."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def sbatch(self, script: str, *options: str) -> None:
        """Submit one job. Raises CannotMeasureError when it is refused."""
        command = ["sbatch", "--quiet", "--ntasks=1", "--mem=10", "--output=/dev/null", *options, f"--wrap={script}"]
        ended = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise CannotMeasureError(f"sbatch: {ended.stderr.strip()}")

    def first_line(self) -> float:
        """Seconds from the start of sbatch to the first line of the job."""
        path = self.folder / f"first-line-{next(self.numbers)}"
        time.sleep(random.random())
        started_s = time.time()
        self.sbatch(f"date +%s.%N > {path}.new; mv {path}.new {path}")
        return stamp_of(path) - started_s

    def finished(self) -> int:
        """Jobs recorded as finished since the start."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "jobcomp.txt").read_bytes().count(b"\n")
        return 0

    def throughput(self, jobs: int) -> float:
        """Jobs a second: an array of jobs that do nothing, until all are recorded finished."""
        before = self.finished()
        started_s = time.monotonic()
        self.sbatch("sh -c :", f"--array=0-{jobs - 1}")
        wait_for(lambda: self.finished() - before >= jobs, f"the end of {jobs} jobs", 1800, every_s=0.02)
        return jobs / (time.monotonic() - started_s)

    def queue(self) -> None:
        """`squeue`."""
        subprocess.run(["squeue"], env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def idle(self) -> bool:
        """Whether the node answers and has nothing to do."""
        ended = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env=self.environment, capture_output=True, text=True, check=False
        )
        return ended.stdout.strip() == "idle"


def _munge(folder: Path) -> subprocess.Popen[bytes]:
    place = folder / "munge"
    place.mkdir(mode=0o755)
    (place / "key").write_bytes(secrets.token_bytes(128))
    (place / "key").chmod(0o400)
    options = [f"--socket={place}/munge.sock", f"--key-file={place}/key", f"--pid-file={place}/pid"]
    options += [f"--seed-file={place}/seed", f"--log-file={place}/log"]
    return subprocess.Popen(["munged", "--foreground", "--force", *options], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def running(folder: Path, slots: int = 64, *, tuned: bool = True) -> Iterator[Slurm]:
    """A Slurm that has run its first job (which alone takes seconds).

    Raises CannotMeasureError where it is not installed.
    """
    for program in ("slurmctld", "slurmd", "munged", "sbatch"):
        if shutil.which(program) is None:
            raise CannotMeasureError(f"{program} is not installed (Debian: slurm-wlm, munge)")
    folder.mkdir(parents=True)
    (folder / "state").mkdir()
    tuning = f"SchedulerParameters={TUNED}" if tuned else ""
    config = CONFIG.format(folder=folder, host=socket.gethostname().split(".")[0], slots=slots, tuning=tuning)
    (folder / "slurm.conf").write_text(config)
    daemons = [_munge(folder)]
    try:
        wait_for((folder / "munge" / "munge.sock").exists, "the socket of munged", 10)
        for name, *options in (("slurmctld", "-D", "-c"), ("slurmd", "-D", "-N", "n1")):
            command = [name, *options, "-f", str(folder / "slurm.conf")]
            with (folder / f"{name}.out").open("wb") as out:
                daemons.append(subprocess.Popen(command, stdout=out, stderr=out))
        slurm = Slurm(folder, tuple(daemon.pid for daemon in daemons[1:]))
        wait_for(slurm.idle, "an idle node", 30, every_s=0.2)
        slurm.first_line()
        yield slurm
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(15)
            daemon.kill()
