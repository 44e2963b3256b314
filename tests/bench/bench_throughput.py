"""(b) One-shot jobs of one project through one node with 64 slots, until every result is back; and how that grows."""

from __future__ import annotations

import contextlib

from tests.bench import ours, processes, project, sshd
from tests.bench.harness import Contender, Report, say
from tests.bench.peers import hyperqueue, plain, slurm
from tests.bench.setting import Setting, leaving_out

SLOTS = 64
SLURM = f"Slurm, tuned, {SLOTS} slots (no results pulled)"


def run(setting: Setting) -> list[Report]:
    """Ours as 1,000 job files and as much staging as there is; the others as their manuals advise."""
    jobs = 100 if setting.is_quick else 1000
    report = Report(f"{jobs:,} one-shot jobs through one node (jobs/s)", reference=SLURM)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd.running(setting.folder / "ssh"))
        nodes = {"remote": ours.ssh_node(server, SLOTS), "here": ours.local_node(SLOTS)}
        rack = stack.enter_context(ours.running(setting.folder / "racksack", nodes))
        uploaded = rack.upload(project.one_shot(setting.folder / "nothing"))
        contenders = [
            Contender("racksack, ssh node", lambda: rack.throughput(uploaded, "remote", jobs)),
            Contender("racksack, local node", lambda: rack.throughput(uploaded, "here", jobs)),
            *_peers(setting, report, stack, jobs),
        ]
        report.take_turns(contenders, "jobs/s", max(3, setting.rounds // 3), warm_ups=1)
    return [report]


def _peers(setting: Setting, report: Report, stack: contextlib.ExitStack, jobs: int) -> list[Contender]:
    found = []
    if setting.wants("slurm"):
        with leaving_out(report, "Slurm"):
            batch = stack.enter_context(slurm.running(setting.folder / "slurm", SLOTS))
            found.append(Contender(SLURM, lambda: batch.throughput(jobs)))
    if setting.wants("parallel"):
        with leaving_out(report, "GNU parallel"):
            plain.parallel(1, setting.folder)
            found += [
                Contender("GNU parallel over an open ssh", lambda: plain.parallel(jobs, setting.folder, "bench-open")),
                Contender("GNU parallel here", lambda: plain.parallel(jobs, setting.folder)),
            ]
    if setting.wants("hyperqueue"):
        with leaving_out(report, "HyperQueue"):
            queue = stack.enter_context(hyperqueue.running(setting.folder / "hyperqueue", setting.hyperqueue, SLOTS))
            found.append(Contender("HyperQueue, tasks of one job", lambda: queue.throughput(jobs)))
    if setting.wants("task-spooler"):
        with leaving_out(report, "task-spooler"):
            spooler = stack.enter_context(plain.task_spooler(setting.folder / "task-spooler", SLOTS))
            found.append(Contender("task-spooler", lambda: spooler.throughput(jobs)))
    found.append(Contender("xargs -P, no record kept", lambda: plain.xargs(jobs)))
    return found


def run_growth(setting: Setting) -> list[Report]:
    """The same with queues of 100 to 10,000, and what the controller needs for them."""
    sizes = [50, 100] if setting.is_quick else [100, 1000, 10_000]
    speed, memory = Report("Throughput as the queue grows (ssh node)"), Report("Controller as the queue grows")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd.running(setting.folder / "ssh"))
        nodes = {"remote": ours.ssh_node(server, SLOTS)}
        rack = stack.enter_context(ours.running(setting.folder / "racksack", nodes))
        uploaded = rack.upload(project.one_shot(setting.folder / "nothing"))
        rack.throughput(uploaded, "remote", 20)
        for size in sizes:
            say(f"growth: {size} jobs")
            before_s = processes.cpu_s(rack.process.pid)
            speed.add(f"{size:,} jobs", "jobs/s", [rack.throughput(uploaded, "remote", size)])
            each_ms = (processes.cpu_s(rack.process.pid) - before_s) / size * 1000
            memory.add(f"{size:,} jobs: CPU of the controller", "ms a job", [each_ms])
            memory.add(f"{size:,} jobs: memory afterwards", "MiB", [processes.rss_bytes(rack.process.pid) / 2**20])
    return [speed, memory]
