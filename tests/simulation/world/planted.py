"""Bugs that are planted on purpose: each has to be found by the laws, or the simulation is not to be trusted.

Each is one deliberate mistake in production code, of the kind that people make: a fence that is left out, a decision
that is acted on before it is saved, an id that is given out again, a size that is believed. `tests/simulation/
test_planted.py` runs them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from typing import Any
from unittest import mock

from msgspec.structs import replace

from racksack_controller import app, loop, returns, store
from racksack_controller.core import apply, decide, events, state
from racksack_controller.core.actions import Remove
from racksack_controller.core.jobs import reports, requeue
from racksack_controller.core.rack import amounts
from racksack_controller.core.records import Orphan
from racksack_controller.effects import attempts as effects
from racksack_controller.effects import connector
from racksack_controller.intake import adding, ids, spool, watcher
from racksack_controller.nodes import collecting
from racksack_controller.nodes.node import CollectReply
from racksack_jobspecs.states import FINAL, JobState

Bug = contextlib.AbstractContextManager[Any]
BUGS: dict[str, Callable[[], Bug]] = {}
NOT_FOUND = {"successor_does_not_wait_for_the_fence"}  # within so many seeds: it takes a cut, a queue and a moment


def bug(plant: Callable[[], Bug]) -> Callable[[], Bug]:
    """Note one under its name."""
    BUGS[plant.__name__] = plant
    return plant


def nothing(*_arguments: Any, **_options: Any) -> None:
    """In the place of something that is to be done."""


def handler(event: type[events.Event], instead: Callable[..., None]) -> Bug:
    """An event is applied in another way."""
    return mock.patch.dict(apply._HANDLERS, {event: instead})


# What the core decides


@bug
def fence_left_out() -> Bug:
    """Attempts that were given up are left running."""
    return mock.patch.object(decide, "_about_orphans", return_value=())


@bug
def successor_does_not_wait_for_the_fence() -> Bug:
    """The next attempt starts while the one before still runs."""
    return mock.patch.object(decide, "_being_fenced", return_value=())


@bug
def what_is_missing_is_not_lost() -> Bug:
    """A node that knows nothing of an attempt is believed to run it."""
    return mock.patch.object(apply, "_lose_the_missing", nothing)


@bug
def all_is_lost_at_a_new_connection() -> Bug:
    """The reports of a node that comes back are not looked at."""
    real = apply._lose_the_missing
    return mock.patch.object(apply, "_lose_the_missing", lambda one, node, _reports, now: real(one, node, {}, now))


@bug
def removed_before_it_is_collected() -> Bug:
    """The node's copy of the results goes first."""
    real = decide._next_step

    def early(one: Any, attempt: Any, *others: Any) -> Any:
        if attempt.state is JobState.COLLECTING and not attempt.collected:
            return Remove(attempt.node, attempt.key)
        return real(one, attempt, *others)

    return mock.patch.object(decide, "_next_step", early)


@bug
def lost_results_are_done() -> Bug:
    """Results that cannot be had whole end as they were reported."""

    def done(one: Any, attempt: Any, sentence: str, now: float) -> None:
        outcome = attempt.ending.outcome if attempt.ending is not None else JobState.LOST
        requeue.end_attempt(one, attempt, outcome, sentence, now)

    return mock.patch.object(apply, "give_up_results", done)


@bug
def a_lost_attempt_is_not_repeated() -> Bug:
    """A power cut of a node ends the job."""
    real = requeue._job_after

    def after(job: Any, attempt: Any, outcome: JobState, now: float, at_fault: str) -> Any:
        return None if outcome is JobState.LOST else real(job, attempt, outcome, now, at_fault)

    return mock.patch.object(requeue, "_job_after", after)


@bug
def a_cancelled_job_is_queued_again() -> Bug:
    """What its owner ended counts as preempted."""
    real = requeue._job_after

    def after(job: Any, attempt: Any, outcome: JobState, now: float, at_fault: str) -> Any:
        if outcome is JobState.CANCELLED:
            return replace(job, state=JobState.QUEUED)
        return real(job, attempt, outcome, now, at_fault)

    return mock.patch.object(requeue, "_job_after", after)


@bug
def a_failed_job_is_repeated_for_ever() -> Bug:
    """Retries are not counted."""
    real = requeue._job_after

    def after(job: Any, attempt: Any, outcome: JobState, now: float, at_fault: str) -> Any:
        if outcome is JobState.FAILED:
            return replace(job, state=JobState.QUEUED)
        return real(job, attempt, outcome, now, at_fault)

    return mock.patch.object(requeue, "_job_after", after)


@bug
def every_end_is_a_success() -> Bug:
    """What a program ended with is not looked at."""
    return mock.patch.object(apply, "outcome_of", return_value=JobState.DONE)


@bug
def every_end_is_a_failure() -> Bug:
    """What a program ended with is not looked at."""
    return mock.patch.object(apply, "outcome_of", return_value=JobState.FAILED)


@bug
def own_attempts_are_taken_for_strangers() -> Bug:
    """Reports of our own attempts are not recognised."""
    return mock.patch.object(reports, "is_of", return_value=False)


@bug
def ranks_do_not_wait_for_each_other() -> Bug:
    """A rank starts when it is prepared, not when all are."""
    return mock.patch.object(decide, "may_start", return_value=True)


@bug
def a_release_is_forgotten() -> Bug:
    """A held job stays held."""
    return handler(events.ReleaseRequested, nothing)


@bug
def a_cancel_is_forgotten() -> Bug:
    """A job that nobody wants goes on."""
    return handler(events.CancelRequested, nothing)


@bug
def results_that_did_not_come_count_as_come() -> Bug:
    """A transfer that failed ends the job as its program ended."""
    return handler(
        events.CollectFailed,
        lambda one, event, now: apply._collected(one, events.Collected(event.attempt, ""), now),
    )


@bug
def a_node_is_twice_as_large() -> Bug:
    """Its CPUs are counted twice."""
    real = amounts.capacity

    def twice(node: Any) -> Any:
        cpus, *others = real(node)
        return (2 * cpus, *others)

    return mock.patch("racksack_controller.core.rack.rack.capacity", twice)


@bug
def the_delay_never_ends() -> Bug:
    """What failed is tried again in 30 years."""
    return mock.patch.object(requeue, "backoff_s", return_value=1e9)


@bug
def dependents_are_not_told() -> Bug:
    """Who waits for a job that has ended waits for ever."""
    in_both = contextlib.ExitStack()
    in_both.enter_context(mock.patch("racksack_controller.core.jobs.dependencies.settle_more", nothing))
    in_both.enter_context(mock.patch.object(apply, "settle_more", nothing))
    return in_both


@bug
def an_orphan_counts_as_ended() -> Bug:
    """What a node still runs is noted as if it did not, so nobody ends it."""
    real = state.State.put_orphan

    def ended(self: Any, node: str, attempt: str, orphan: Orphan) -> None:
        real(self, node, attempt, replace(orphan, running=False))

    return mock.patch.object(state.State, "put_orphan", ended)


# The loop and the store


@bug
def a_failed_save_is_skipped() -> Bug:
    """What could not be saved is forgotten."""

    async def once(self: Any, changes: Any) -> None:
        with contextlib.suppress(store.StoreError):
            if changes:
                await self._store.save(changes)
        for listener in self._listeners if changes else ():
            listener(changes)

    return mock.patch.object(loop.Loop, "_save", once)


@bug
def acknowledges_before_it_saves() -> Bug:
    """Whoever waits for an event to be saved does not."""

    async def at_once(self: Any, posted: Any) -> None:
        for event in posted:
            self.post(event)

    return mock.patch.object(loop.Loop, "submit_all", at_once)


@bug
def saves_one_step_late() -> Bug:
    """Changes are written with those of the next step."""
    real = store.Store.save
    kept: dict[int, Any] = {}

    async def late(self: Any, changes: Any) -> None:
        before = kept.pop(id(self), None)
        kept[id(self)] = changes
        if before is not None:
            await real(self, before)

    return mock.patch.object(store.Store, "save", late)


@bug
def a_start_forgets_what_was_held() -> Bug:
    """Held jobs are loaded as queued."""
    return _loads(lambda job: replace(job, state=JobState.QUEUED) if job.state is JobState.HELD else job)


@bug
def a_start_begins_all_jobs_again() -> Bug:
    """What runs is loaded as queued, without its attempts."""
    real = state.State.load

    def load(self: Any, jobs: Any, _attempts: Any, *others: Any) -> None:
        queued = [job if job.state in (*FINAL, JobState.HELD) else replace(job, state=JobState.QUEUED) for job in jobs]
        real(self, queued, [], *others)

    return mock.patch.object(state.State, "load", load)


def _loads(change: Callable[[Any], Any]) -> Bug:
    real = state.State.load

    def load(self: Any, jobs: Any, *others: Any) -> None:
        real(self, [change(job) for job in jobs], *others)

    return mock.patch.object(state.State, "load", load)


@bug
def ids_begin_again() -> Bug:
    """Each start gives out the ids of the one before."""
    return mock.patch.object(ids.Ids, "__init__", lambda self, _last: setattr(self, "_next", 1))


@bug
def two_controllers_may_share_a_spool() -> Bug:
    """Nobody locks."""
    return mock.patch.object(spool.SpoolLock, "_lock", nothing)


@bug
def the_last_event_of_a_step_is_dropped() -> Bug:
    """Of many that arrive together one is lost."""
    real = loop.Loop._take_posted

    def fewer(self: Any) -> Any:
        posted = real(self)
        return posted[:-1] if len(posted) > 1 and posted[-1][1] is None else posted

    return mock.patch.object(loop.Loop, "_take_posted", fewer)


# What comes in


@bug
def the_folder_is_not_looked_through_again() -> Bug:
    """A file of which the kernel did not tell is never found."""
    real = watcher._list
    calls: list[int] = []

    def once(folder: Any) -> Any:
        calls.append(1)
        began_s, found = real(folder)
        return began_s, found if len(calls) < 20 else {}

    return mock.patch.object(watcher, "_list", once)


@bug
def a_file_goes_before_its_job_is_saved() -> Bug:
    """The file is removed, then the job is made."""
    real = adding.Adding.add

    async def add(self: Any, spec: Any, origin: Any) -> Any:
        name = spec.submission.partition(":")[2]
        (self._spool.jobs / f"{name}.yaml").unlink(missing_ok=True)
        return await real(self, spec, origin)

    return mock.patch.object(adding.Adding, "add", add)


@bug
def nobody_waits_for_anybody() -> Bug:
    """Dependencies are read and dropped."""
    from racksack_controller.intake import dependencies

    async def none(*_arguments: Any) -> Any:
        return ()

    return mock.patch.object(dependencies.Dependencies, "resolve", none)


# Results


@bug
def a_size_is_believed() -> Bug:
    """The bytes that came are not compared, their number is."""
    real = collecting._check
    return mock.patch.object(
        collecting, "_check", lambda target, report, notes: real(target, replace(report, output_digest=""), notes)
    )


@bug
def what_came_is_what_there_was() -> Bug:
    """Nothing that came is compared."""
    return mock.patch.object(collecting, "_check", return_value=CollectReply(True, 1, 1))


@bug
def earlier_results_are_good_enough() -> Bug:
    """A return folder that exists is taken for this attempt's."""
    return mock.patch.object(returns, "already_placed", lambda place, job, _attempt: place.returned(job.id).exists())


@bug
def a_start_tidies_too_much() -> Bug:
    """What is in returns/ of jobs that are over is removed."""

    def tidy(place: Any, live: Any) -> None:
        for entry in place.returns.iterdir():
            if entry.is_dir() and f"{entry.name}.1" not in live:
                shutil.rmtree(entry)

    return mock.patch.object(app.returns, "remove_stale", tidy)


@bug
def only_results_make_a_return_folder() -> Bug:
    """A job that ended without any has none."""
    return mock.patch.object(returns, "ensure_returned", nothing)


@bug
def results_are_not_put_in_place() -> Bug:
    """They are received and left there."""
    return mock.patch.object(effects.AttemptEffects, "_complete", return_value={})


@bug
def each_result_says_done() -> Bug:
    """result.json is not what the store says."""
    real = returns.result_of
    return mock.patch.object(returns, "result_of", lambda *given, **named: {**real(*given, **named), "state": "done"})


# The line


@bug
def a_lost_connection_is_not_made_again() -> Bug:
    """Once is enough."""

    async def for_ever(*_arguments: Any) -> None:
        import asyncio

        await asyncio.sleep(1e9)

    return mock.patch.object(connector.Connector, "_wait_to_call", for_ever)


@bug
def reports_get_lost() -> Bug:
    """Every fifth report is dropped, on a line that loses none."""
    real = connector.Connector._report
    count: list[int] = []

    def some(self: Any, report: Any) -> None:
        count.append(1)
        if len(count) % 5:
            real(self, report)

    return mock.patch.object(connector.Connector, "_report", some)


@bug
def a_stop_is_only_noted() -> Bug:
    """The node is not asked to end anything."""

    async def noted(self: Any, _node: Any, group: Any) -> None:
        for action in group:
            self._loop.post(events.StopSent(action.node, action.attempt))

    return mock.patch.object(effects.AttemptEffects, "_stop", noted)


@bug
def a_removal_is_only_noted() -> Bug:
    """The node keeps what it has."""

    async def noted(self: Any, _node: Any, group: Any) -> None:
        for action in group:
            self._loop.post(events.Removed(action.node, action.attempt))

    return mock.patch.object(effects.AttemptEffects, "_remove", noted)


@bug
def a_go_is_only_noted() -> Bug:
    """Prepared ranks wait for nobody's word."""

    async def noted(self: Any, _node: Any, group: Any) -> None:
        for action in group:
            self._loop.post(events.GoSent(action.node, action.attempt))

    return mock.patch.object(effects.AttemptEffects, "_go", noted)
