"""What must hold, whatever breaks. Worked out from what the machines did and what lies in the spool, not from what the
controller believes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable

from racksack_controller.app import App
from racksack_controller.core.records import Job
from racksack_controller.core.state import Changes
from racksack_controller.simulate.invariants import BrokenInvariantError, check
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import FINAL, JobState
from tests.simulation.world.machine import Machine


class BrokenLawError(Exception):
    """A promise that was not kept: a fault of racksack."""


class Laws:
    """Checks after every step that was saved, whenever a program begins, and at the end."""

    def __init__(self, machines: dict[str, Machine], spool: Spool, reaches: Callable[[str], bool]) -> None:
        """`reaches`: whether the line to a machine is whole just now."""
        self._machines, self._spool, self._reaches = machines, spool, reaches
        self.cancelled: set[int] = set()  # ids of jobs that somebody wanted to end
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

    def before_program(self, app: App | None, machine: Machine, attempt: str, epoch: str) -> None:
        """A program is about to begin: no other one of its job runs, unless it was lost sight of."""
        job, number = _of(attempt)
        for other in self._machines.values():
            for run in other.living():
                its_job, its_number = _of(run.order.attempt)
                same = (its_job, run.order.epoch, its_number) == (job, epoch, number)
                if its_job == job and not same and run.state == "running" and self._is_in_sight(app, other):
                    self._breaks(f"{attempt} begins on {machine.name} while {run.order.attempt} runs on {other.name}")
        if app is not None:
            wanted = [
                run.order.cpus
                for run in machine.living()
                if run.state == "running" and run.order.attempt in app.state.attempts
            ]
            if sum(wanted) > machine.cpus:
                self._breaks(f"{machine.name} has {machine.cpus} CPUs and runs programs for {sum(wanted):g}")

    def _is_in_sight(self, app: App | None, machine: Machine) -> bool:
        """Whether the controller can know what runs there."""
        return app is not None and self._reaches(machine.name) and app.state.nodes[machine.name].connected

    def _breaks(self, sentence: str) -> None:
        self.broken = self.broken or BrokenLawError(sentence)

    def _check_end(self, job: Job) -> None:
        if job.state is JobState.DONE:
            self._check_done(job)
        if job.state is JobState.CANCELLED and job.id not in self.cancelled and not job.spec.after and not job.after:
            raise BrokenLawError(f"job {job.id} is cancelled, and nobody wanted that")

    def _check_done(self, job: Job) -> None:
        """What is done ran to its end, and its results are there, whole and of that attempt."""
        result = json.loads((self._spool.returned(job.id) / "result.json").read_text())
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
            if len(ids) != (0 if was_refused else 1):
                raise BrokenLawError(f"the file {key} became {len(ids)} jobs")
        for job in jobs.values():
            if job.state not in FINAL:
                raise BrokenLawError(f"job {job.id} is still {job.state}: {job.reason or 'no reason'}")
            self._check_returned(job)
        for machine in self._machines.values():
            if machine.runs:
                raise BrokenLawError(f"{machine.name} still has {', '.join(sorted(machine.runs))}")

    def _check_returned(self, job: Job) -> None:
        folder = self._spool.returned(job.id)
        if not (folder / "result.json").is_file():
            raise BrokenLawError(f"job {job.id} ended as {job.state} and has no return folder")
        said = json.loads((folder / "result.json").read_text())["state"]
        if said != str(job.state):
            raise BrokenLawError(f"job {job.id} ended as {job.state}, and its result.json says {said}")
        if job.state is JobState.DONE:
            self._check_done(job)


def _of(attempt: str) -> tuple[str, str]:
    """`42.3@1` -> (42, 3): a job and which of its attempts."""
    job, _, rest = attempt.partition(".")
    return job, rest.partition("@")[0]


def sure_of(jobs: Iterable[Job]) -> dict[int, Job]:
    """By id."""
    return {job.id: job for job in jobs}
