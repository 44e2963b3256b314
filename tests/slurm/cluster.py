"""A real Slurm on this machine: munged, slurmctld and several slurmd on loopback, each with ports of its own.

Slurm's daemons from Debian can be told apart by node (`slurmd -N n1`). Nodes pretend CPUs and memory. There is no
accounting, as on the smallest clusters. Processes are tracked by their parents (`proctrack/linuxproc`), so that a
job's processes are found in whatever session they are.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
ENOUGH_S = 60.0

CONFIG = """\
ClusterName=rehearsal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
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
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,default_queue_depth=1000,bf_interval=5,\
bf_max_job_test=500
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
GresTypes=gpu
MaxJobCount=20000
MinJobAge={min_job_age_s}
KillWait=5
InactiveLimit=0
MessageTimeout=2
MessageTimeout=2
SlurmdTimeout={slurmd_timeout_s}
ReturnToService=2
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=1-0 State=UP PriorityTier=10
PartitionName=gpu Nodes=n1 MaxTime=2:00:00 State=UP PriorityTier=10
PartitionName=urgent Nodes=ALL MaxTime=1-0 State=UP PriorityTier=100
PartitionName=low Nodes=ALL MaxTime=1-0 State=UP PriorityTier=1
"""


class CannotRunError(Exception):
    """Slurm cannot be run here; the message says what is missing."""


def missing() -> str:
    """What keeps Slurm from being run here, in a few words; empty when nothing does."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root here"


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(what: Callable[[], object], called: str, limit_s: float = ENOUGH_S, every_s: float = 0.05) -> None:
    """Until `what` is true. Raises CannotRunError."""
    give_up_s = time.monotonic() + limit_s
    while not what():
        if time.monotonic() > give_up_s:
            raise CannotRunError(f"waited {limit_s:.0f} s in vain for {called}")
        time.sleep(every_s)


@dataclass
class Cluster:
    """A running cluster."""

    folder: Path
    nodes: tuple[str, ...]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        """slurm.conf, for $SLURM_CONF."""
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def run(self, *argv: str) -> str:
        """What a command of Slurm prints. Raises CalledProcessError."""
        done = subprocess.run(
            argv, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CannotRunError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    def squeue(self, states: str = "all") -> dict[str, str]:
        """The state of each job that slurmctld knows, by its id."""
        lines = self.run("squeue", "-h", "-t", states, "-o", "%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def living(self) -> list[str]:
        """The ids of jobs that have not ended."""
        return list(self.squeue("PD,R,CG,CF,S"))

    def start(self, name: str) -> None:
        """Start `slurmctld`, or the slurmd of a node."""
        argv = ["slurmctld", "-D"] if name == "slurmctld" else ["slurmd", "-D", "-N", name]
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen([*argv, "-f", str(self.conf)], stdout=out, stderr=out)

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End a daemon; its jobs go on."""
        daemon = self.daemons.pop(name)
        daemon.kill() if kill else daemon.terminate()
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def answers(self) -> bool:
        """Whether slurmctld answers and all its nodes can take jobs."""
        try:
            states = self.run("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N %t").splitlines()
        except CannotRunError:
            return False
        return len(states) == len(self.nodes) and all(line.split()[1] in ("idle", "mix", "alloc") for line in states)

    def close(self) -> None:
        """End the daemons, the jobs first."""
        with contextlib.suppress(CannotRunError):
            for job in self.living():
                self.run("scancel", job)
            wait_for(lambda: not self.living(), "the end of all jobs", 20)
        for name in reversed(list(self.daemons)):
            self.stop(name)


def _munge(folder: Path) -> subprocess.Popen[bytes]:
    place = folder / "munge"
    place.mkdir(mode=0o755)
    (place / "key").write_bytes(secrets.token_bytes(128))
    (place / "key").chmod(0o400)
    options = [f"--socket={place}/munge.sock", f"--key-file={place}/key", f"--pid-file={place}/pid"]
    options += [f"--seed-file={place}/seed", f"--log-file={place}/log"]
    return subprocess.Popen(["munged", "--foreground", "--force", *options], stderr=subprocess.DEVNULL)


def _config(folder: Path, nodes: tuple[str, ...], cpus: int, min_job_age_s: int, slurmd_timeout_s: int) -> str:
    host = socket.gethostname().split(".")[0]
    ports = free_ports(1 + len(nodes))
    lines = [
        f"NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs={cpus} RealMemory=64000 State=UNKNOWN"
        + (" Gres=gpu:a100:4" if name == "n1" else "")
        for name, port in zip(nodes, ports[1:], strict=True)
    ]
    return CONFIG.format(
        folder=folder, host=host, port=ports[0], nodes="\n".join(lines), min_job_age_s=min_job_age_s,
        slurmd_timeout_s=slurmd_timeout_s,
    )  # fmt: skip


@contextlib.contextmanager
def running(
    folder: Path, nodes: int = 2, cpus: int = 64, *, min_job_age_s: int = 60, slurmd_timeout_s: int = 300
) -> Iterator[Cluster]:
    """A cluster whose nodes take jobs. Raises CannotRunError."""
    problem = missing()
    if problem:
        raise CannotRunError(problem)
    names = tuple(f"n{number + 1}" for number in range(nodes))
    folder.mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(_config(folder, names, cpus, min_job_age_s, slurmd_timeout_s))
    (folder / "gres.conf").write_text(f"NodeName=n1 Name=gpu Type=a100 File={folder}/gpu[0-3]\n")
    for number in range(4):
        (folder / f"gpu{number}").touch()
    cluster = Cluster(folder, names)
    cluster.daemons["munged"] = _munge(folder)
    try:
        wait_for((folder / "munge" / "munge.sock").exists, "the socket of munged", 10)
        for name in ("slurmctld", *names):
            cluster.start(name)
        wait_for(cluster.answers, "nodes that take jobs")
        yield cluster
    finally:
        cluster.close()
