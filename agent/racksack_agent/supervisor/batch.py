"""The supervisor as a batch job of Slurm: `batch FOLDER NAME`, started by the script that sbatch was given.

Whatever starts twice (a job submitted twice, requeued by Slurm or by hand), an attempt runs once: the first one claims
it. The lock of other supervisors is not used, since not every shared file system has one across machines.
"""

from __future__ import annotations

import os
import sys
import time
from typing import List

from racksack_agent import boot, process_title, processes, records
from racksack_agent.home import AttemptFolder
from racksack_agent.slurm import folder as files
from racksack_agent.slurm import states
from racksack_agent.supervisor import signals, supervise
from racksack_agent.supervisor.panes import Pane

_APPEAR_S = 60.0  # so long a new folder may take to appear on this machine


def main(arguments: List[str]) -> None:
    """Supervise the attempt, unless it is not there any more, or another start of it came first."""
    boot.share_home()
    folder, name = AttemptFolder(arguments[0]), arguments[1]
    order = _order(folder)
    if order is None or (order.get("slurm") or {}).get("job_name") != name or os.path.exists(folder.exit):
        return
    if not files.claim(folder):
        _came_second(folder, order)
        return
    signals.block()
    process_title.set_title(f"racksack-supervisor {folder.name}")
    processes.become_subreaper()
    processes.take_mark(processes.mark_of(folder.path))
    if order["gpus"]:
        order["gpus"] = _granted(order["gpus"])
    supervise.Supervisor(folder, order, Pane(os.devnull, 0), under_scheduler=True).supervise()


def _order(folder: AttemptFolder) -> supervise.Order | None:
    """The order of the attempt; None when it has been removed. A shared file system may show it late."""
    give_up_s = time.monotonic() + _APPEAR_S
    while True:
        order = records.read(folder.launch)
        if order is not None or time.monotonic() > give_up_s:
            return order
        if not os.path.isdir(os.path.dirname(folder.path)):
            sys.exit(
                f"{folder.path} cannot be seen from this machine: the agent's home must be on a shared file system"
            )
        time.sleep(1.0)


def _came_second(folder: AttemptFolder, order: supervise.Order) -> None:
    """Another start has the attempt, or had it. Of the same job that one is over, since Slurm starts a job again only
    when it has ended: it is lost, and whether it runs again is for the controller to decide.
    """
    mine, first = files.this_start(), files.claim_of(folder) or {}
    if not mine["job"] or mine["job"] != first.get("job") or mine["restarts"] == first.get("restarts"):
        return
    report = {**(records.read(folder.state) or supervise.first_report(order)), "state": "ended"}
    report.update(outcome=states.REQUEUED[0], reason=states.REQUEUED[1], ended_at_s=time.time(), at_fault="node")
    report.update(output_files=0, output_bytes=0, output_digest="")
    if not os.path.exists(folder.exit):
        records.replace(folder.exit, records.encode(report))
        records.tell(folder.home.run, folder.name)


def _granted(asked: list[dict[str, object]]) -> list[dict[str, object]]:
    """The devices that Slurm gave, by their index, in place of those that the controller counted."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("ROCR_VISIBLE_DEVICES") or ""
    indices = [word for word in visible.split(",") if word.strip()]
    vendor = str(asked[0].get("vendor", "nvidia")) if asked else "nvidia"
    return [
        {"uuid": word, "index": int(word) if word.isdigit() else at, "vendor": vendor}
        for at, word in enumerate(indices)
    ] or asked
