"""What must hold, whatever breaks. Worked out from what the machines did and what lies in the spool, not from what the
controller believes.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from racksack_controller.app import App
from racksack_controller.core.jobs.requeue import LOSSES_MAX
from racksack_controller.core.records import Job
from racksack_controller.core.state import Changes
from racksack_controller.simulate.invariants import BrokenInvariantError, check
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import FINAL, JobState
from tests.simulation.world.machine import Machine

MOMENT_S = 1.0  # what was asked of other nodes before is carried out meanwhile
NOBODYS_FAULT = (JobState.LOST, JobState.STAGE_FAILED, JobState.PREPARE_FAILED)


class BrokenLawError(Exception):
    """A promise that was not kept: a fault of racksack."""


class Laws:
    """Checks after every step that was saved, whenever a program begins, and at the end."""

    def __init__(self, machines: dict[str, Machine], spool: Spool, reaches: Callable[[str], bool]) -> None:
        """`reaches`: whether the line to a machine is whole just now."""
        self._machines, self._spool, self._reaches = machines, spool, reaches
        self.cancelled: set[int] = set()  # ids of jobs that somebody wanted to end
        self.over: set[int] = set()  # of those, the ones whose cancel was saved: no program of theirs begins any more
        self.held: set[int] = set()  # ids of jobs that are held
        self.drained: dict[str, set[str]] = {}  # node -> the attempts that it had when it was drained
        self.after: dict[int, int] = {}  # job -> the one that it waits for
        self.broken: BrokenLawError | None = None

    def after_step(self, app: App, changes: Changes) -> None:
        """A step was saved; called by the application's own loop, which must not be stopped by what is found."""
        try:
            check(app.state)
            for job in changes.jobs:
                if job.ended_at_s is not None:
                    self._check_end(job)
        except (BrokenLawError, BrokenInvariantError) as error:
            self.broken = self.broken or BrokenLawError(str(error))

    def before_launch(self, app: App | None, machine: Machine, attempt: str, epoch: str, cpus: float) -> None:
        """An attempt is about to be prepared: there is room for it beside whatever is there, and no other one of its
        job runs, unless it was lost sight of.
        """
        if int(_of(attempt)[0]) in self.over:
            self._breaks(f"{attempt} comes to {machine.name}, and its job was cancelled")
        in_use = sum(run.order.cpus for run in machine.living())
        if in_use + cpus > machine.cpus:
            self._breaks(f"{attempt} comes to {machine.name}, where {in_use:g} of {machine.cpus} CPUs are in use")
        job, number = _of(attempt)
        for other in self._machines.values():
            for run in other.living():
                its_job, its_number = _of(run.order.attempt)
                same = (its_job, run.order.epoch, its_number) == (job, epoch, number)
                if its_job == job and not same and run.state == "running" and self._is_in_sight(app, other):
                    self._breaks(f"{attempt} comes to {machine.name} while {run.order.attempt} runs on {other.name}")

    def before_program(self, app: App | None, machine: Machine, attempt: str) -> None:
        """A program is about to begin: it may, and there is room for it."""
        if app is not None and attempt in app.state.attempts:
            self._check_leave(machine, attempt, int(_of(attempt)[0]))
        if app is not None:
            wanted = [
                run.order.cpus
                for run in machine.living()
                if run.state == "running" and run.order.attempt in app.state.attempts
            ]
            if sum(wanted) > machine.cpus:
                self._breaks(f"{machine.name} has {machine.cpus} CPUs and runs programs for {sum(wanted):g}")

    def _check_leave(self, machine: Machine, attempt: str, job: int) -> None:
        """Whether this program may begin at all."""
        if job in self.held:
            self._breaks(f"{attempt} begins, and its job is held")
        if machine.name in self.drained and attempt not in self.drained[machine.name]:
            self._breaks(f"{attempt} begins on {machine.name}, which is drained")
        first = self.after.get(job)
        if first is not None and not self._has_run(f"{first}."):
            self._breaks(f"{attempt} begins before job {first} is done")
        for other in self._machines.values():
            for run in other.living():
                same = run.order.attempt.partition("@")[0] == attempt.partition("@")[0]
                if same and run.state == "preparing" and run.order.attempt != attempt:
                    self._breaks(f"{attempt} begins while {run.order.attempt} is not prepared")

    def _has_run(self, prefix: str) -> bool:
        return any(key.startswith(prefix) for machine in self._machines.values() for key, _ in machine.completed)

    def _is_in_sight(self, app: App | None, machine: Machine) -> bool:
        """Whether the controller knows what runs there, and has had a moment to act on it."""
        if app is None or not self._reaches(machine.name):
            return False
        node = app.state.nodes[machine.name]
        return node.connected and time.time() - node.connection_since_s > MOMENT_S

    def _breaks(self, sentence: str) -> None:
        self.broken = self.broken or BrokenLawError(sentence)

    def _check_end(self, job: Job) -> None:
        if job.state is JobState.DONE:
            self._check_done(job)
        if job.state is JobState.CANCELLED and job.id not in self.cancelled and not job.spec.after:
            raise BrokenLawError(f"job {job.id} is cancelled, and nobody wanted that")
        if job.state is JobState.FAILED and not any(
            key.startswith(f"{job.id}.") for machine in self._machines.values() for key in machine.failed
        ):
            raise BrokenLawError(f"job {job.id} is failed, and no program of it was")
        if job.state in NOBODYS_FAULT and job.losses < LOSSES_MAX:
            raise BrokenLawError(f"job {job.id} is given up as {job.state} after {job.losses} losses: {job.reason}")

    def _check_done(self, job: Job) -> None:
        """What is done ran to its end, and its results are there, whole and of that attempt."""
        result = self._result(job)
        if result["attempt"] != job.attempt:
            raise BrokenLawError(
                f"job {job.id} is done in attempt {job.attempt}, its results are of {result['attempt']}"
            )
        ranks = range(job.spec.gang)
        for rank in ranks:
            attempt = f"{job.id}.{result['attempt']}" + (f"@{rank}" if rank else "")
            ran = [
                (machine, epoch)
                for machine in self._machines.values()
                for key, epoch in machine.completed
                if key == attempt
            ]
            epochs = {epoch for _machine, epoch in ran}
            if result.get("epoch", "") not in epochs:
                raise BrokenLawError(f"job {job.id} is done, and {attempt} never ran to its end")
            folder = self._spool.returned(job.id) / (f"rank-{rank}" if rank else "")
            payload = (folder / "payload").read_bytes() if (folder / "payload").is_file() else b""
            lines = Counter(payload.split(b"\n")[:-1])
            [(line, count)] = lines.most_common(1) or [(b"", 0)]
            if count != 20 or len(lines) != 1 or line.decode().split()[:2] != [attempt, result["epoch"]]:
                raise BrokenLawError(
                    f"job {job.id} is done, and its results are not those of {attempt}: {payload[:80]!r}"
                )

    def at_the_end(self, jobs: dict[int, Job], submitted: dict[str, list[int]]) -> None:
        """Nothing breaks any more and all had their time. Raises BrokenLawError."""
        for key, ids in submitted.items():
            was_refused = (self._spool.rejected / f"{key}.yaml").is_file()
            if was_refused and "never be met" not in (said := (self._spool.rejected / f"{key}.yaml.error").read_text()):
                raise BrokenLawError(f"the file {key} was refused, and it is good: {said}")
            if len(ids) != (0 if was_refused else 1):
                raise BrokenLawError(f"the file {key} became {len(ids)} jobs")
        for job in jobs.values():
            if job.state not in FINAL:
                raise BrokenLawError(f"job {job.id} is still {job.state}: {job.reason or 'no reason'}")
            self._check_returned(job)
        for machine in self._machines.values():
            if machine.runs:
                raise BrokenLawError(f"{machine.name} still has {', '.join(sorted(machine.runs))}")

    def _result(self, job: Job) -> dict[str, Any]:
        path = self._spool.returned(job.id) / "result.json"
        if not path.is_file():
            raise BrokenLawError(f"job {job.id} ended as {job.state} and has no return folder")
        return dict(json.loads(path.read_text()))

    def _check_returned(self, job: Job) -> None:
        said = self._result(job)["state"]
        if said != str(job.state):
            raise BrokenLawError(f"job {job.id} ended as {job.state}, and its result.json says {said}")
        if job.state is JobState.DONE:
            self._check_done(job)


def _of(attempt: str) -> tuple[str, str]:
    """`42.3@1` -> (42, 3): a job and which of its attempts."""
    job, _, rest = attempt.partition(".")
    return job, rest.partition("@")[0]
