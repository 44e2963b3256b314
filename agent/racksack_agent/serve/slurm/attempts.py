"""What is known of attempts that are batch jobs. Their folders on the shared home are the truth where they say
something; where they do not, Slurm is asked, and silence alone proves nothing.

An attempt that has an exit record has ended. One without is lost only when Slurm says that its job has ended and the
record still has not come (files appear late on a shared file system), or when Slurm has not known its job for minutes
on end. While Slurm does not answer, nothing is concluded.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Set

from racksack_agent import boot, records
from racksack_agent.home import AttemptFolder, Home
from racksack_agent.serve import attempt_records
from racksack_agent.serve.attempts import Attempts, remove_torn
from racksack_agent.serve.slurm.commands import Commands, SlurmError, SlurmJob
from racksack_agent.serve.slurm.queue import Picture, Queue
from racksack_agent.slurm import folder as files
from racksack_agent.slurm import states
from racksack_agent.supervisor import outputs

Report = Dict[str, Any]

_CANCEL_AGAIN_S = 20.0
_END_REASON_S = 60.0  # how long Slurm may take to say why it ended a job


class Patience(NamedTuple):
    """How long to wait, in seconds, before something is concluded from what is not there."""

    record_s: float = 20.0  # after Slurm's own word a record may still appear on a shared file system
    absent_s: float = 300.0  # Slurm does not know a job
    again_s: float = 5.0  # between two looks that both found nothing of what may have been submitted


class SlurmAttempts(Attempts):
    """The attempts of one home."""

    def __init__(self, home: Home, commands: Commands, queue: Queue, patience: Patience) -> None:
        super().__init__(home, boot.SHARED, None)
        self._commands = commands
        self._queue = queue
        self._patience = patience
        self._claimed_s: Dict[str, float] = {}  # when each was first seen to have begun
        self.submitting: Set[str] = set()
        self.submitted_s: Dict[str, float] = {}  # when sbatch ended (monotonic seconds), of what we submitted
        self._since: Dict[str, float] = {}  # by attempt: since when Slurm has not known it, or has said that it ended
        self._cancelled: Dict[int, float] = {}
        self.unsubmitted: Dict[str, float] = {}  # since when nothing of a submission has been found

    def living_processes(self) -> Dict[str, List[int]]:
        """None: they are on other machines."""
        return {}

    def poke(self, name: str) -> None:
        """A stop was asked for: take a waiting job out of the queue, tell a running one's supervisor."""
        folder = self._home.attempt(name)
        number = files.job_of(folder)
        self._queue.expect_change()
        if not number:
            return  # its supervisor will find the request before it does anything
        try:
            if files.claim_of(folder) is None:
                self._commands.cancel(number, "--state=PENDING")
            self._commands.cancel(number, "--batch", "--signal=USR1")
        except SlurmError:
            return  # the supervisor looks at the request every few seconds, and `settle` cancels what waits

    def report(self, name: str) -> Optional[Report]:
        """See Attempts. An end that Slurm caused is told once Slurm has said why."""
        found = super().report(name)
        if found is None or found["state"] != "ended" or not found.get("by_scheduler"):
            return found
        folder = self._home.attempt(name)
        ended = self._verdict(folder)
        if ended is None and self._waited_s(name) < _END_REASON_S:
            self._ended.pop(name, None)  # so that the next look comes here again
            self._queue.expect_change()
            return attempt_records.state_of(folder) or self._announced(folder)
        outcome, reason = ended or ("lost", "Slurm ended it without saying why")
        final = {
            **found,
            "outcome": outcome,
            "reason": reason,
            "at_fault": states.fault_of(outcome),
            "by_scheduler": False,
        }
        records.replace(folder.exit, records.encode(final))
        self._ended[name] = final
        return final

    def settle(self, name: str) -> None:
        """See Attempts: write the record of one that is lost, by what Slurm says."""
        folder = self._home.attempt(name)
        if attempt_records.final_of(folder) is not None:
            return
        launch = attempt_records.launch_of(folder)
        if attempt_records.is_torn(folder) or launch is None or "job_name" not in launch.get("slurm", {}):
            if folder.exists():
                remove_torn(folder.exit)
                self._close(folder, "lost", "its records were damaged on the shared file system")
            return
        picture = self._queue.picture
        if picture is not None:
            self._settle(folder, launch, picture)

    def _settle(self, folder: AttemptFolder, launch: Report, picture: Picture) -> None:
        name, claim, number = folder.name, files.claim_of(folder), files.job_of(folder)
        jobs = picture.jobs.get(launch["slurm"]["job_name"], [])
        living = [job for job in jobs if job.state in states.LIVING]
        if jobs and not number:
            number = min(job.id for job in jobs)
            files.note_submitted(folder, number)
        if jobs:
            self.unsubmitted.pop(name, None)
        if living:
            self._since.pop(name, None)
            self._tend(folder, claim, living, picture)
        elif jobs:
            self._has_ended(folder, jobs[-1].state, picture)
        elif claim is None and not number:
            self._may_be_unsubmitted(folder, picture)
        elif self._shows(picture, name):
            self._is_absent(folder, number, picture)

    def _tend(self, folder: AttemptFolder, claim: Optional[Report], living: list[SlurmJob], picture: Picture) -> None:
        """Slurm has jobs of it that live: take away what must not run. A job that waits although it has begun was
        put back; a picture from before it began does not say that.
        """
        number = files.job_of(folder)
        claimed_s = self._claimed_s.setdefault(folder.name, time.monotonic()) if claim is not None else 0.0
        for job in living:
            waits = job.state in states.WAITING
            taken = claim is not None and claim.get("job", job.id) != job.id
            if taken or (claim is None and job.id != number):
                self._cancel_once(job)  # submitted twice; the claim lets only one of them run
            elif waits and claim is not None and picture.asked_s > claimed_s:
                self._cancel_once(job)
                self._close(folder, *states.REQUEUED)
                return
            elif waits and records.read(folder.stop) is not None:
                self._cancel_once(job)

    def _cancel_once(self, job: SlurmJob) -> None:
        """Cancel a job, again if it is still there after a while."""
        if time.monotonic() - self._cancelled.get(job.id, float("-inf")) < _CANCEL_AGAIN_S:
            return
        self._cancelled[job.id] = time.monotonic()
        self._queue.expect_change()
        try:
            self._commands.cancel(job.id)
        except SlurmError:
            self._cancelled.pop(job.id, None)

    def _has_ended(self, folder: AttemptFolder, state: str, picture: Picture) -> None:
        """Slurm says that it is over, and there is no record yet."""
        since_s = self._since.setdefault(folder.name, picture.asked_s)
        self._queue.expect_change()
        was_waiting = files.claim_of(folder) is None and records.read(folder.stop) is not None
        if was_waiting or time.monotonic() - since_s >= self._patience.record_s:
            see_anew(folder)
            if not attempt_records.final_of(folder):
                self._close(folder, *self._end(folder, state))

    def _end(self, folder: AttemptFolder, state: str) -> tuple[str, str]:
        """Outcome and reason of an attempt that Slurm ended before it could write its record."""
        request = records.read(folder.stop)
        if request is not None:
            return ("timeout" if request.get("reason") == "timeout" else "cancelled"), "it was cancelled"
        if states.base_state(state) == "CANCELLED":
            state = self._commands.accounted(files.job_of(folder)) or state
        outcome, reason = states.end_of(state)
        words = last_words(folder) if states.base_state(state) in states.UNEXPLAINED else ""
        return outcome, f"{reason}: {words}" if words else reason

    def _shows(self, picture: Picture, name: str) -> bool:
        """Whether a picture is late enough to show what was submitted for an attempt."""
        return name not in self.submitting and picture.asked_s > self.submitted_s.get(name, float("-inf"))

    def _may_be_unsubmitted(self, folder: AttemptFolder, picture: Picture) -> None:
        """Its `serve` may have died before sbatch had done its work: seen so twice, it is submitted again. Should the
        first job turn up late all the same, the claim lets one of the two run.
        """
        name = folder.name
        if not self._shows(picture, name):
            self.unsubmitted.pop(name, None)
            return
        since_s = self.unsubmitted.setdefault(name, picture.asked_s)
        self._queue.expect_change()
        if picture.asked_s - since_s < self._patience.again_s:
            return
        if records.read(folder.stop) is not None:
            self._close(folder, *self._end(folder, "CANCELLED"))
        else:
            self.left_behind.add(name)

    def _is_absent(self, folder: AttemptFolder, number: int, picture: Picture) -> None:
        """Slurm does not know its job."""
        since_s = self._since.setdefault(folder.name, picture.asked_s)
        state = self._commands.accounted(number) if number else None
        if state and states.base_state(state) in states.LIVING:
            self._since[folder.name] = picture.asked_s
        elif state and picture.asked_s - since_s >= self._patience.record_s:
            self._close(folder, *self._end(folder, state))
        elif picture.asked_s - since_s >= self._patience.absent_s:
            self._close(folder, *states.NEVER_KNOWN)
        else:
            self._queue.expect_change()

    def _verdict(self, folder: AttemptFolder) -> Optional[tuple[str, str]]:
        """Outcome and reason of an attempt that Slurm told to end; None while Slurm has not said how."""
        launch, picture = attempt_records.launch_of(folder), self._queue.picture
        jobs = picture.jobs.get(launch["slurm"]["job_name"], []) if launch and picture else []
        asked_s = picture.asked_s if picture else 0.0
        for job in jobs:
            if job.state in states.WAITING and asked_s > self._since.get(folder.name, asked_s):
                self._cancel_once(job)
                return states.REQUEUED
        if jobs and jobs[-1].state not in states.LIVING:
            outcome, reason = self._end(folder, jobs[-1].state)
            return outcome, ("Slurm ended it" if jobs[-1].state == "COMPLETED" else reason)
        self._queue.expect_change()
        state = None if jobs else self._commands.accounted(files.job_of(folder))
        return states.end_of(state) if state and states.base_state(state) not in states.LIVING else None

    def _waited_s(self, name: str) -> float:
        return time.monotonic() - self._since.setdefault(name, time.monotonic())

    def awaits_word(self, name: str) -> bool:
        """Whether it has ended because Slurm told it to, and Slurm has not said why."""
        final = attempt_records.final_of(self._home.attempt(name)) if name not in self._ended else None
        return bool(final and final.get("by_scheduler"))

    def give_up(self, folder: AttemptFolder, reason: str) -> None:
        """Slurm will not take an attempt."""
        self._close(folder, "prepare_failed", reason)

    def _close(self, folder: AttemptFolder, outcome: str, reason: str) -> None:
        """Write the record of an attempt whose supervisor will not."""
        launch = attempt_records.launch_of(folder) or attempt_records.stand_in(folder)
        report = attempt_records.state_of(folder) or {"attempt": folder.name, "epoch": launch.get("epoch", "")}
        gathered = outputs.gather(folder, outputs.Wanted((), launch["max_output_bytes"], "none", "", 0))
        report.update(gathered.facts(), state="ended", outcome=outcome, reason=reason, ended_at_s=time.time())
        report.update(boot_id=boot.SHARED, at_fault=states.fault_of(outcome))
        records.replace_at_last(folder.exit, records.encode(report), [lambda: records.remove_file(folder.reserve)])
        self._since.pop(folder.name, None)
        self._queue.expect_change()
        records.tell(self._home.run, folder.name)

    def has_let_go(self, folder: AttemptFolder) -> bool:
        """See Attempts. A supervisor that has written its record touches nothing that matters any more."""
        return True

    def rescan(self) -> list[str]:
        """See Attempts; batch jobs of attempts that were removed are cancelled."""
        changed = super().rescan()
        picture = self._queue.picture
        for name, jobs in picture.jobs.items() if picture else ():
            living = [job for job in jobs if job.state in states.LIVING]
            if living and not self._home.attempt(attempt_of(name)).exists():
                for job in living:
                    self._cancel_once(job)
        return changed

    def forget(self, name: str) -> None:
        """See Attempts."""
        super().forget(name)
        self.submitted_s.pop(name, None)
        self._claimed_s.pop(name, None)
        self._since.pop(name, None)
        self.unsubmitted.pop(name, None)

    def _announced(self, folder: AttemptFolder) -> Optional[Report]:
        """See Attempts, with what its job waits for."""
        report = super()._announced(folder)
        launch = attempt_records.launch_of(folder)
        picture = self._queue.picture
        if report is None or launch is None or picture is None:
            return report
        jobs = picture.jobs.get(launch["slurm"]["job_name"], [])
        waiting = next((job for job in jobs if job.state in states.WAITING), None)
        if waiting is not None:
            report["reason"] = waits_for(waiting)
        elif self._queue.problem:
            report["reason"] = f"Slurm does not answer: {self._queue.problem}"
        return report


def attempt_of(job_name: str) -> str:
    """The attempt in the name of a batch job; see `script.new_name`."""
    return job_name.split("-")[2]


def see_anew(folder: AttemptFolder) -> None:
    """Have a network file system look at a folder again: a change by this machine makes it forget what it remembers,
    also that a file is not there. On a full disk there is nothing to do but to believe it.
    """
    probe = f"{folder.path}/.look-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.unlink(probe)
    except OSError:
        return


def waits_for(job: SlurmJob) -> str:
    """Why a job has not started, in Slurm's words, and when Slurm expects it to."""
    when = f", expected to start at {job.starts_at}" if job.starts_at not in ("", "N/A", "(null)") else ""
    return f"waits in Slurm's queue as job {job.id} ({job.reason}{when})"


def last_words(folder: AttemptFolder) -> str:
    """The last line that its batch job printed beside the program's logs: why Python did not start, for example."""
    try:
        with open(folder.path + "/slurm.log", "rb") as file:
            lines = file.read(1 << 16).decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return " ".join(lines[-1].split())[:300] if lines else ""
