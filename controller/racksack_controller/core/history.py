"""What earlier runs tell: how long a job will take, and how much memory it will need.

The prediction of a run time is the mean of the last two runs of the same owner, name and entrypoint, never above the
time limit: the predictor of Tsafrir, Etsion and Feitelson, "Backfilling using system-generated predictions rather than
user runtime estimates", IEEE TPDS 18(6), 2007. It is as good as elaborate ones, and needs two numbers a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from racksack_controller.core.records import Ending, Job
from racksack_jobspecs.states import JobState

RUNS_KEPT = 2
UNKNOWN_S = -1.0
_TELLING = frozenset({JobState.DONE, JobState.FAILED, JobState.OOM, JobState.TIMEOUT})
_NUMBER = re.compile(r"[0-9]+")

HistoryKey = tuple[str, str, str]


class RunHistory(msgspec.Struct, frozen=True):
    """The last runs of one owner's program."""

    owner: str
    name: str  # of the job, with every number in it as `#`
    entrypoint: str
    runs_s: tuple[float, ...] = ()  # the latest last
    ram_peak_bytes: int = 0  # the highest of all runs
    runs: int = 0

    @property
    def key(self) -> HistoryKey:
        """What it is about."""
        return (self.owner, self.name, self.entrypoint)


def history_key(job: Job) -> HistoryKey:
    """Whose earlier runs tell about this job. Numbers in the name do not matter: `fold3` is as `fold4`."""
    return (job.owner, _numberless(job.spec.name), job.spec.entrypoint)


@lru_cache(maxsize=4096)
def _numberless(name: str) -> str:
    return _NUMBER.sub("#", name)


class History:
    """All that is remembered of earlier runs."""

    def __init__(self, records: Iterable[RunHistory] = ()) -> None:
        self.records = {record.key: record for record in records}

    def predict_s(self, key: HistoryKey) -> float:
        """The expected run time in seconds, or -1 when nothing is known."""
        record = self.records.get(key)
        return sum(record.runs_s) / len(record.runs_s) if record is not None and record.runs_s else UNKNOWN_S

    def add(self, job: Job, ending: Ending) -> RunHistory | None:
        """Remember a run that ended; the changed record. Runs that were cancelled or lost tell nothing."""
        if ending.outcome not in _TELLING or ending.started_at_s is None or ending.ended_at_s is None:
            return None
        key = history_key(job)
        old = self.records.get(key) or RunHistory(*key)
        run_s = max(0.0, ending.ended_at_s - ending.started_at_s)
        peak = max(old.ram_peak_bytes, ending.ram_peak_bytes or 0)
        new = RunHistory(*key, (*old.runs_s, run_s)[-RUNS_KEPT:], peak, old.runs + 1)
        self.records[key] = new
        return new
