"""(a) From the job file renamed into jobs/ to the first line of the job: idle and warm, staging and venv included."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

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
        contenders += _ours(rack, source)
        contenders += _peers(setting, report, stack)
        contenders.append(Contender(f"ssh, new connection ({NOTE})", lambda: plain.ssh_alone("bench")))
        contenders.append(Contender(f"ssh, open connection ({NOTE})", lambda: plain.ssh_alone("bench-open")))
        report.take_turns(contenders, "s", setting.rounds, warm_ups=2)
    return [report]


def _ours(rack: ours.Racksack, source: Path) -> list[Contender]:
    """On each kind of node a project that is there already, and one with a changed file, which has to be sent."""
    uploaded = rack.upload(source)

    def changed(node: str) -> Callable[[], float]:
        def measure() -> float:
            (source / "data.txt").write_text(f"{time.time_ns()}\n")
            return rack.first_line(rack.upload(source), node)

        return measure

    return [
        Contender("racksack, ssh node, changed project", changed("remote")),
        Contender("racksack, ssh node, project known there", lambda: rack.first_line(uploaded, "remote")),
        Contender("racksack, local node, changed project", changed("here")),
        Contender("racksack, local node, project known there", lambda: rack.first_line(uploaded, "here")),
    ]


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
