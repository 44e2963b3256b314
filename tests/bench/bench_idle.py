"""(c) What the controller costs while nothing happens: CPU and resident memory, with its page up and nodes watched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from tests.bench import ours, processes, project, sshd
from tests.bench.harness import Report, say
from tests.bench.peers import hyperqueue, slurm
from tests.bench.setting import Setting, leaving_out


def watch(report: Report, name: str, pids: Sequence[int], seconds: float) -> None:
    """CPU share and memory of some processes over a while."""
    say(f"idle: {name}, {seconds:.0f} s")
    before_s = sum(map(processes.cpu_s, pids))
    time.sleep(seconds)
    used_s = sum(map(processes.cpu_s, pids)) - before_s
    report.add(f"{name}: CPU", "% of a core", [100 * used_s / seconds])
    report.add(f"{name}: memory", "MiB", [sum(map(processes.rss_bytes, pids)) / 2**20])


def run(setting: Setting) -> list[Report]:
    """The controller, what it has as children (ssh, agents), and what runs on the node, each on its own line."""
    seconds = 5.0 if setting.is_quick else 60.0
    report = Report("Idle")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd.running(setting.folder / "ssh"))
        nodes = {"remote": ours.ssh_node(server, 64), "here": ours.local_node(64)}
        rack = stack.enter_context(ours.running(setting.folder / "racksack", nodes, listen="127.0.0.1:8470"))
        rack.throughput(rack.upload(project.one_shot(setting.folder / "nothing")), "remote", 50)
        time.sleep(seconds / 4)
        pid = rack.process.pid
        watch(report, "racksack controller (two nodes, 50 jobs done)", [pid], seconds)
        watch(report, "its children (the local node's agent)", processes.children(pid), seconds)
        if setting.wants("slurm"):
            with leaving_out(report, "Slurm"), slurm.running(setting.folder / "slurm") as batch:
                watch(report, "slurmctld", batch.pids[:1], seconds)
                watch(report, "slurmd", batch.pids[1:], seconds)
        if setting.wants("hyperqueue"):
            place = setting.folder / "hyperqueue"
            with leaving_out(report, "HyperQueue"), hyperqueue.running(place, setting.hyperqueue) as queue:
                watch(report, "HyperQueue, server and worker in one process", [queue.driver.pid], seconds)
    return [report]
