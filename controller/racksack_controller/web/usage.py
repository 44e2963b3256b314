"""What jobs used of what they asked for: one job, and all runs of each program. Plain values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from racksack_controller.core.advice import advise
from racksack_controller.core.queue.history import History, HistoryKey, history_key
from racksack_controller.core.rack.amounts import CPUS, GPUS, demand_of
from racksack_controller.core.state import Attempt, Job
from racksack_controller.web.views import View, gpu_text
from racksack_jobspecs.states import JobState

MILLI_HOURS = 3_600_000.0  # thousandths times seconds, in one hour of one


def job_usage(job: Job, ranks: Sequence[Attempt], history: History, now: float) -> View:
    """One job's latest attempt: one record, or the ranks of a gang. Efficiencies are parts of 1; None: not known yet.

    Of a gang memory is that of the rank that used most, CPU time that of all.
    """
    attempt = ranks[0] if ranks else None
    wants, ending = job.spec.resources, attempt.ending if attempt else None
    endings = [rank.ending for rank in ranks if rank.ending is not None]
    started = attempt.started_at_s if attempt else None
    wall_s = None if attempt is None or started is None else max(0.0, _ended_s(attempt, now) - started)
    cpu_s = sum(one.cpu_s or 0.0 for one in endings) if endings else None
    peak = max((one.ram_peak_bytes for one in endings if one.ram_peak_bytes is not None), default=None)
    limit_s = job.spec.time_limit_s
    return {
        "job": job.id,
        "name": job.spec.name,
        "owner": job.owner,
        "entrypoint": job.spec.entrypoint,
        "state": str(job.state),
        "node": ",".join(rank.node for rank in ranks) or None,
        "attempt": job.attempt,
        "exit_code": ending.exit_code if ending else None,
        "cpus": wants.cpus,
        "ram_bytes": wants.ram_bytes,
        "gpus": gpu_text(wants),
        "time_limit_s": limit_s,
        "waited_s": max(0.0, (started or job.ended_at_s or now) - job.submitted_at_s),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "ram_peak_bytes": peak,
        "cpu_efficiency": _part(cpu_s, wants.cpus * len(ranks) * wall_s if wall_s else None),
        "ram_efficiency": _part(peak, wants.ram_bytes),
        "time_efficiency": _part(wall_s, limit_s),
        "advice": list(advise(history, job.owner, job.spec)),
    }


def _ended_s(attempt: Attempt, now: float) -> float:
    if attempt.ending is not None and attempt.ending.ended_at_s is not None:
        return attempt.ending.ended_at_s
    return now if attempt.ended_at_s is None else attempt.ended_at_s


def _part(used: float | None, of: float | None) -> float | None:
    return None if used is None or not of else round(used / of, 4)


class Program(msgspec.Struct):
    """Sums over all attempts of one owner's program."""

    owner: str
    name: str  # every number in it as `#`
    entrypoint: str
    runs: int = 0
    failed: int = 0
    wall_s: float = 0.0
    cpu_hours_asked: float = 0.0
    cpu_hours_used: float = 0.0
    gpu_hours: float = 0.0
    ram_bytes: int = 0  # the most that was asked for
    ram_peak_bytes: int = 0  # the most that was used
    advice: tuple[str, ...] = ()

    def add(self, job: Job, attempt: Attempt) -> None:
        """One more run that has ended, or one rank of it: what it used counts, the run only once."""
        ending = attempt.ending
        wall_s = max(0.0, _ended_s(attempt, 0.0) - (attempt.started_at_s or attempt.placed_at_s))
        if attempt.rank == 0:
            self.runs += 1
            self.failed += attempt.state is not JobState.DONE
            self.wall_s += wall_s
        held = demand_of(attempt.allocation)
        self.cpu_hours_asked += held[CPUS] * wall_s / MILLI_HOURS
        self.gpu_hours += held[GPUS] * wall_s / MILLI_HOURS
        self.ram_bytes = max(self.ram_bytes, job.spec.resources.ram_bytes)
        if ending is not None:
            self.cpu_hours_used += (ending.cpu_s or 0.0) / 3600.0
            self.ram_peak_bytes = max(self.ram_peak_bytes, ending.ram_peak_bytes or 0)


def program_usage(runs: Iterable[tuple[Job, Attempt]], history: History, project: str | None) -> list[View]:
    """A sum for each program, the largest user of CPU time first. `project`: only jobs of this name, numbers aside."""
    programs: dict[HistoryKey, Program] = {}
    for job, attempt in runs:
        key = history_key(job)
        if project is None or project in (job.spec.name, key[1]):
            program = programs.setdefault(key, Program(*key))
            program.add(job, attempt)
            program.advice = advise(history, job.owner, job.spec)
    found = sorted(programs.values(), key=lambda program: -program.cpu_hours_asked)
    return [msgspec.to_builtins(program) for program in found]
