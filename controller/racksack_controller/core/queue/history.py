"""What earlier runs tell: how long a job will take, and how much memory it will need.

The prediction of a run time is the mean of the last two runs of the same owner, name and entrypoint, never above the
time limit: the predictor of Tsafrir, Etsion and Feitelson, "Backfilling using system-generated predictions rather than
user runtime estimates", IEEE TPDS 18(6), 2007. It is as good as elaborate ones, and needs two numbers a program.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from racksack_controller.core.records import Ending, Job
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState

RUNS_KEPT = 2  # for predictions
USES_KEPT = 12  # for advice
PROGRAMS_KEPT = 10_000  # those that ran last
ERROR_WEIGHT = 0.1  # of the latest run
SHORT_S = 10.0  # below this, differences do not matter
UNKNOWN_S = -1.0
_TELLING = frozenset({JobState.DONE, JobState.FAILED, JobState.OOM, JobState.TIMEOUT})
_NUMBER = re.compile(r"[0-9]+")

HistoryKey = tuple[str, str, str]


class RunUse(msgspec.Struct, frozen=True):
    """What one run asked for and what it used."""

    outcome: JobState
    run_s: float
    ram_bytes: int
    ram_peak_bytes: int | None
    cpus: float
    cpu_s: float | None


class RunHistory(msgspec.Struct, frozen=True):
    """The last runs of one owner's program."""

    owner: str
    name: str  # of the job, with every number in it as `#`
    entrypoint: str
    runs_s: tuple[float, ...] = ()  # the latest last
    ram_peak_bytes: int = 0  # the highest of all runs
    runs: int = 0
    prediction_error: float = 0.0  # mean |ln(predicted / real)| of late, and the same of the time limit
    limit_error: float = 0.0
    uses: tuple[RunUse, ...] = ()  # the latest last

    @property
    def key(self) -> HistoryKey:
        """What it is about."""
        return (self.owner, self.name, self.entrypoint)


def history_key(job: Job) -> HistoryKey:
    """Whose earlier runs tell about this job. Numbers in the name do not matter: `fold3` is as `fold4`."""
    return history_key_of(job.owner, job.spec)


def history_key_of(owner: str, spec: JobSpec) -> HistoryKey:
    """The same for a job that has not been submitted yet."""
    return (owner, _numberless(spec.name), spec.entrypoint)


@lru_cache(maxsize=4096)
def _numberless(name: str) -> str:
    return _NUMBER.sub("#", name)


class History:
    """All that is remembered of earlier runs."""

    def __init__(self, records: Iterable[RunHistory] = ()) -> None:
        self.records = {record.key: record for record in records}

    def predict_s(self, key: HistoryKey) -> float:
        """The expected run time in seconds, or -1 when nothing is known or time limits have told better."""
        record = self.records.get(key)
        if record is None or record.prediction_error > record.limit_error:
            return UNKNOWN_S
        return _mean(record.runs_s)

    def add(self, job: Job, ending: Ending) -> RunHistory | None:
        """Remember a run that ended; the changed record. Runs that were cancelled or lost tell nothing."""
        if ending.outcome not in _TELLING or ending.started_at_s is None or ending.ended_at_s is None:
            return None
        key = history_key(job)
        old = self.records.get(key) or RunHistory(*key)
        run_s = max(0.0, ending.ended_at_s - ending.started_at_s)
        peak = max(old.ram_peak_bytes, ending.ram_peak_bytes or 0)
        errors = _errors(old, job.spec.time_limit_s, run_s)
        wants = job.spec.resources
        use = RunUse(ending.outcome, run_s, wants.ram_bytes, ending.ram_peak_bytes, wants.cpus, ending.cpu_s)
        uses = (*old.uses, use)[-USES_KEPT:]
        new = RunHistory(*key, (*old.runs_s, run_s)[-RUNS_KEPT:], peak, old.runs + 1, *errors, uses)
        self.records.pop(key, None)
        self.records[key] = new  # the latest last
        if len(self.records) > PROGRAMS_KEPT:
            del self.records[next(iter(self.records))]
        return new


def _errors(old: RunHistory, limit_s: float | None, run_s: float) -> tuple[float, float]:
    """How far predictions and time limits were off of late, this run included."""
    if not old.runs_s or limit_s is None:
        return old.prediction_error, old.limit_error
    predicted = _off_by(min(_mean(old.runs_s), limit_s), run_s)
    limit = _off_by(limit_s, run_s)
    weight = 1.0 if old.runs < RUNS_KEPT else ERROR_WEIGHT
    return (
        old.prediction_error + weight * (predicted - old.prediction_error),
        old.limit_error + weight * (limit - old.limit_error),
    )


def _off_by(expected_s: float, real_s: float) -> float:
    return abs(math.log(max(expected_s, SHORT_S) / max(real_s, SHORT_S)))


def _mean(runs_s: tuple[float, ...]) -> float:
    return sum(runs_s) / len(runs_s) if runs_s else UNKNOWN_S
