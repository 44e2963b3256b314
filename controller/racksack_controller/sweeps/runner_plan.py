"""Which runner jobs a sweep should have now, and which of those that it has are not wanted. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from racksack_controller.core.records import Job
from racksack_controller.core.state import State
from racksack_controller.core.sweeps import backoff as sweep_backoff
from racksack_controller.core.sweeps import rules
from racksack_controller.sweeps import leases, runner_jobs
from racksack_controller.sweeps.active import Active
from racksack_jobspecs.states import JobState

SOON_S = 30.0  # a retry that is due within this keeps a runner


class Runners:
    """The runner jobs of one sweep, as they are and as they should be. `jobs`: those that are not over."""

    def __init__(self, active: Active, state: State, jobs: Mapping[int, Job], now: float) -> None:
        self._active = active
        self._nodes = list(state.nodes.values())
        self._draft, self._trials = _drafts(active, state, now)
        finishing = {int(one.attempt.partition(".")[0]) for one in active.runners.values() if one.finish}
        queued = {number: job for number, job in jobs.items() if job.state is JobState.QUEUED}
        trials = {_aim(draft): draft for draft in self._trials}
        aims = {_aim(self._draft), *trials}
        self.outdated = [number for number, job in queued.items() if _aim(job) not in aims]
        """Not started, and for other nodes than a new one would be."""
        live = {number: job for number, job in jobs.items() if number not in finishing and number not in self.outdated}
        for job in live.values():
            trials.pop(_aim(job), None)
        wanted = self._how_many(now)
        untried = list(trials.values())[: max(0, wanted - len(self._trials) + len(trials))]
        surplus = max(0, len(live) + len(untried) - wanted)  # trials go first: what waits may wait for long
        unstarted = sorted((number for number in live if number in queued), key=lambda one: self._is_trial(live[one]))
        self.needless = unstarted[:surplus]
        """Not started, and more than are needed."""
        count = max(0, wanted - len(live) + len(self.needless))
        self.missing = [*untried, *[self._draft] * count][:count]
        """Drafts of those to be submitted."""

    def _is_trial(self, job: Job) -> bool:
        return _aim(job) != _aim(self._draft)

    def _how_many(self, now: float) -> int:
        if not self._trials and not sweep_backoff.has_node(self._draft, self._nodes):
            return 0  # all nodes are backing off
        active = self._active
        due = active.retries_before(now + SOON_S)
        return rules.runners_wanted(
            active.spec,
            waiting=active.waiting + due + active.to_draw + leases.to_share(active),
            slots=active.slots,
            rack_places=len(self._trials) + rules.places(self._draft, self._nodes),
            working=len({lease.chunk.attempt for lease in active.leases.values()}),
        )


def _aim(job: Job) -> tuple[Sequence[str], Sequence[str]]:
    """For which nodes a runner job is."""
    return job.spec.nodes, job.spec.exclude


def _drafts(active: Active, state: State, now: float) -> tuple[Job, list[Job]]:
    """A runner job for all nodes without a backoff, and one for each that is to be tried again."""
    backoffs = active.progress.backoffs
    trials = [runner_jobs.draft(active.sweep, now, only=name) for name in sweep_backoff.to_try(backoffs, now)]
    able = [draft for draft in trials if sweep_backoff.has_node(draft, state.nodes.values())]
    return runner_jobs.draft(active.sweep, now, exclude=sorted(backoffs)), able


def has_node(active: Active, state: State, now: float) -> bool:
    """Whether there is a node that is not backing off, and could have a runner on some day."""
    draft = runner_jobs.draft(active.sweep, now, exclude=sweep_backoff.backing_off(active.progress.backoffs, now))
    return sweep_backoff.has_node(draft, state.nodes.values())
