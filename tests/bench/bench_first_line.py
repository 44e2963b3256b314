"""(a) From the job file renamed into jobs/ to the first line of the job: idle and warm, staging and venv included."""

from __future__ import annotations

import contextlib

from tests.bench import ours, project, sshd
from tests.bench.harness import Contender, Report
from tests.bench.peers import hyperqueue, plain, slurm
from tests.bench.setting import Setting, leaving_out

BY_HAND = "by hand: rsync, ssh, uv over an open connection"
NOTE = "no staging, no venv"


def run(setting: Setting) -> list[Report]:
    """All contenders are warm and take turns."""
    report = Report("First line of a job (s)", reference=BY_HAND)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd.running(setting.folder / "ssh"))
        wheels = project.wheel(setting.folder / "wheels").parent
        source = project.with_requirement(setting.folder / "project", wheels)
        contenders = [Contender(BY_HAND, plain.ByHand(setting.folder, source).first_line)]
        nodes = {"remote": ours.ssh_node(server, 64), "here": ours.local_node(64)}
        rack = stack.enter_context(ours.running(setting.folder / "racksack", nodes))
        uploaded = rack.upload(source)
        contenders += [
            Contender("racksack, ssh node", lambda: rack.first_line(uploaded, "remote")),
            Contender("racksack, local node", lambda: rack.first_line(uploaded, "here")),
        ]
        contenders += _peers(setting, report, stack)
        contenders.append(Contender(f"ssh, new connection ({NOTE})", lambda: plain.ssh_alone("bench")))
        contenders.append(Contender(f"ssh, open connection ({NOTE})", lambda: plain.ssh_alone("bench-open")))
        report.take_turns(contenders, "s", setting.rounds, warm_ups=2)
    return [report]


def _peers(setting: Setting, report: Report, stack: contextlib.ExitStack) -> list[Contender]:
    found = []
    if setting.wants("slurm"):
        with leaving_out(report, "Slurm"):
            batch = stack.enter_context(slurm.running(setting.folder / "slurm"))
            found.append(Contender(f"Slurm, tuned ({NOTE})", batch.first_line))
    if setting.wants("hyperqueue"):
        with leaving_out(report, "HyperQueue"):
            queue = stack.enter_context(hyperqueue.running(setting.folder / "hyperqueue", setting.hyperqueue))
            found.append(Contender(f"HyperQueue, open client ({NOTE})", queue.first_line))
    if setting.wants("task-spooler"):
        with leaving_out(report, "task-spooler"):
            spooler = stack.enter_context(plain.task_spooler(setting.folder / "task-spooler"))
            found.append(Contender(f"task-spooler ({NOTE})", spooler.first_line))
    return found
