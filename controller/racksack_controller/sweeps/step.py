"""One step of a sweep: compares what its runners have with what they should have, and acts on the difference.

It looks at levels, not edges: a step that is made twice does nothing the second time, one after a restart goes on.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from racksack_controller.core import events as ev
from racksack_controller.core.records import Job
from racksack_controller.core.state import Attempt, State
from racksack_controller.core.sweeps import backoff, rules
from racksack_controller.core.sweeps.ranges import ranges_of
from racksack_controller.core.sweeps.records import CONTROL, MAIN
from racksack_controller.loop import Loop
from racksack_controller.returns import ReturnsError
from racksack_controller.store import Store, StoreError
from racksack_controller.sweeps import leases as handing
from racksack_controller.sweeps import receive, runner_jobs, runner_plan
from racksack_controller.sweeps.active import Active, Ended, RunnerAttempt
from racksack_controller.sweeps.results import ledger, tables
from racksack_controller.sweeps.search.protocol import Drawer, Outcome
from racksack_controller.sweeps.search.samplers import SearchError
from racksack_controller.threads import Threads
from racksack_controller.turns import Turns
from racksack_jobspecs.states import FINAL, JobState
from racksack_jobspecs.sweep.spec import Params
from racksack_jobspecs.sweep.states import SWEEP_FINAL, SweepState

log = logging.getLogger("racksack.sweeps")

SEARCHES_AT_ONCE, SEARCHES_OF_ONE = 6, 1  # of all and of one user; other threads write results meanwhile
_LOSSES = frozenset({JobState.LOST, JobState.OOM, JobState.FAILED, JobState.TIMEOUT})
_FAULTS = _LOSSES | {JobState.PREPARE_FAILED, JobState.STAGE_FAILED}


class Stepper:
    """What a step needs of the controller around it."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        threads: Threads,
        take_ids: Callable[[int], int],
        finish: Callable[[Active], Callable[[], None]],
    ) -> None:
        self._loop = loop
        self._store = store
        self._threads = threads
        self._take_ids = take_ids
        self._finish = finish  # gives what writes the results' folder, to be run in a thread
        self.searching = Turns(SEARCHES_AT_ONCE, SEARCHES_OF_ONE)
        self._clock: Callable[[], float] = time.time

    @property
    def _state(self) -> State:
        return self._loop.state

    async def step(
        self, active: Active, jobs: Mapping[int, Job], ended: Sequence[Ended], drawer: Drawer | None
    ) -> None:
        """`jobs`: its runner jobs that are not over; `ended`: those that ended since the last step.

        Raises StoreError.
        """
        async with active.lock:
            if active.is_stale:
                return
            now = self._clock()
            await self._settle_gone(active, now)
            if active.progress.state is SweepState.RUNNING:
                await self._run(active, jobs, ended, drawer, now)
            if active.progress.state is not SweepState.RUNNING:
                self._dismiss(active, jobs)
        for runner in active.runners.values():
            runner.news.set()

    async def _run(
        self, active: Active, jobs: Mapping[int, Job], ended: Sequence[Ended], drawer: Drawer | None, now: float
    ) -> None:
        reason = await self._judge(active, ended, now)
        if reason:
            await self._end(active, SweepState.FAILED, reason, now)
            return
        active.take_due(now)
        if drawer is not None:
            await self._draw(active, drawer, max(1, len(active.runners)))
            if active.progress.state is not SweepState.RUNNING:
                return
        missing = rules.metric_missing(active.spec, active.progress, now, is_complete=active.is_complete)
        if missing:
            await self._end(active, SweepState.FAILED, missing, now)
            return
        if active.is_complete:
            await self._complete(active, now)
            if active.progress.state is not SweepState.RUNNING:
                return
        ready = [runner for runner in active.runners.values() if self._is_with_us(runner)]
        self._make_room(active, ready, now)
        handing.ask_back(active, ready)
        await handing.hand_out(active, ready, self._store, now)
        self._finish_idle(active, ready, now)
        self._give_up_silent(active, ready)
        await self._keep_runners(active, jobs, now)

    def _is_with_us(self, runner: RunnerAttempt) -> bool:
        attempt = self._state.attempts.get(runner.attempt)
        node = self._state.nodes.get(runner.node)
        if attempt is None or node is None:
            return False
        return attempt.state is JobState.RUNNING and attempt.stop is None and node.connected

    # Runners that are gone

    async def _settle_gone(self, active: Active, now: float) -> None:
        for runner in list(active.runners.values()):
            attempt = self._state.attempts.get(runner.attempt)
            if not runner.is_drained and attempt is not None and attempt.state not in FINAL:
                continue
            await self._settle(active, runner, now, is_loss=attempt is not None and _outcome(attempt) in _LOSSES)

    async def _settle(self, active: Active, runner: RunnerAttempt, now: float, *, is_loss: bool) -> None:
        leases = active.leases_of(runner.attempt)
        failures = handing.free_of(active, leases, now, is_loss=is_loss)
        faults = active.progress.faults + runner.is_refused
        progress = active.snapshot(failed=active.progress.failed + len(failures), faults=faults)

        def save(connection: sqlite3.Connection) -> None:
            receive.settle(connection, active, runner.attempt, leases)
            ledger.put_failures(connection, active.id, progress.run, failures)
            ledger.save_progress(connection, active.id, progress)

        await handing.written(active, self._store, save)
        del active.runners[runner.attempt]
        if runner.following is not None:
            runner.following.cancel()
        back = sum(lease.left.size for lease in leases)
        if back:
            log.info("sweep=%s runner=%s ended with %s points, which are queued again", active.id, runner.attempt, back)

    async def _judge(self, active: Active, ended: Sequence[Ended], now: float) -> str:
        """Why the sweep ends now; empty when it goes on."""
        never = next((one.job.reason for one in ended if one.job.unsatisfiable), "")
        if never:
            return never
        faults = [one for one in ended if one.job.state in _FAULTS]
        for one in faults:
            job = one.job
            log.warning("sweep=%s runner=%s ended as %s: %s", active.id, job.id, job.state, job.reason)
            reason = self._judge_fault(active, one, now)
            if reason:
                return reason
        if faults:
            await self._save_progress(active)
        return rules.too_many_failed(active.spec, active.progress)

    def _judge_fault(self, active: Active, one: Ended, now: float) -> str:
        """Why a runner that ended badly ends the sweep; empty when others are tried, on other nodes if need be."""
        job, reason = one.job, one.job.reason
        if job.state is JobState.PREPARE_FAILED and one.attempt is not None:
            active.snapshot(backoffs=backoff.after_failure(active.progress.backoffs, one.attempt.node, reason, now))
            if one.is_node_at_fault:
                if runner_plan.has_node(active, self._state, now):
                    return ""
                reason = backoff.sentence(active.progress.backoffs)
        active.snapshot(faults=active.progress.faults + 1)
        return rules.ended_badly(active.progress, job.state, reason, was_ready=active.was_ready)

    async def _save_progress(self, active: Active) -> None:
        progress = active.progress
        await handing.written(
            active, self._store, lambda connection: ledger.save_progress(connection, active.id, progress)
        )

    # Points

    async def _draw(self, active: Active, drawer: Drawer, runners: int) -> None:
        """Have the search draw as many points as keep all workers busy."""
        most = active.slots * runners * (1 if active.spec.is_adaptive else 2 * handing.AHEAD)
        outstanding = active.waiting + sum(lease.left.size for lease in active.leases.values())
        if active.spec.is_adaptive is False:
            most, outstanding = max(most, active.to_draw), active.waiting
        count = min(active.to_draw, most - outstanding)
        told, active.outcomes = active.outcomes, []
        try:
            async with self.searching.of(active.sweep.owner):
                drawn = await self._threads.run(_drawn, drawer, told, count)
        except SearchError as error:
            await self._end(active, SweepState.FAILED, str(error), self._clock())
            return
        if not drawn:
            return
        first = active.progress.drawn
        active.pending.add(first, first + len(drawn))
        progress = active.snapshot(drawn=first + len(drawn))

        def save(connection: sqlite3.Connection) -> None:
            ledger.add_params(connection, active.id, first, drawn)
            ledger.save_progress(connection, active.id, progress)

        await handing.written(active, self._store, save)

    async def _complete(self, active: Active, now: float) -> None:
        """Every point of the run has an outcome: the control run begins, or the sweep is done."""
        control = active.spec.control
        if active.progress.run == MAIN and control is not None:
            metric = active.spec.metrics[0]
            points = await self._store.read(
                lambda connection: tables.best_points(
                    connection, active.id, metric.name, control.top, is_max=metric.direction == "max"
                )
            )
            if points:
                await self._begin_control(active, points)
                return
        if active.progress.run == MAIN and active.progress.failed and not active.progress.done:
            await self._end(active, SweepState.FAILED, await self._why_all_failed(active), now)
            return
        await self._end(active, SweepState.DONE, "", now)

    async def _why_all_failed(self, active: Active) -> str:
        [first] = await self._store.read(lambda connection: ledger.failures_of(connection, active.id, MAIN, limit=1))
        points = active.progress.failed
        all_of_them = f"all {points:,} points" if points > 1 else "its only point"
        return f"{all_of_them} failed, point {first.point} with: {first.sentence}"

    async def _begin_control(self, active: Active, points: list[int]) -> None:
        active.pending = ranges_of(points)
        failed = active.progress.failed
        active.begin_run()
        active.snapshot(run=CONTROL, points=len(points), done=0, failed=0, stopped=0, reused=0, main_failed=failed)
        await self._save_progress(active)

    async def _end(self, active: Active, state: SweepState, reason: str, now: float) -> None:
        """The folder first: when it is there the sweep is over, and a crash between the two writes it again.

        Raises StoreError where either cannot be written; then the sweep is not over.
        """
        before = active.progress
        progress = active.snapshot(state=state, reason=reason, ended_at_s=now)

        def save(connection: sqlite3.Connection) -> None:
            ledger.save_progress(connection, active.id, progress)
            ledger.tell(connection, active.id, now, f"{state}: {reason}" if reason else str(state))

        try:
            await self._threads.run(self._finish(active))
            await self._store.write(save)
        except (OSError, sqlite3.Error, ReturnsError, StoreError) as error:
            active.progress, active.is_stale = before, True
            raise StoreError(f"the results of sweep {active.id} cannot be written: {error}") from error
        log.info("sweep=%s %s done=%s failed=%s %s", active.id, state, progress.done, progress.failed, reason)

    # Runners

    def _make_room(self, active: Active, ready: Sequence[RunnerAttempt], now: float) -> None:
        """Runners take no more chunks where a job of higher priority waits for their place."""
        draft = runner_jobs.draft(active.sweep, now)
        attempts = [self._state.attempts[runner.attempt] for runner in ready if not runner.is_told_to_yield]
        given = sum(1 for runner in ready if runner.is_told_to_yield)
        for key in rules.yields(self._state, draft, attempts, now)[given:]:
            runner = active.runners[key]
            runner.finish = runner.is_told_to_yield = True
            log.info("sweep=%s runner=%s takes no more chunks: a job of higher priority is waiting", active.id, key)
            for lease in active.leases_of(key)[1:]:
                lease.is_asked_back = True

    def _finish_idle(self, active: Active, ready: Sequence[RunnerAttempt], now: float) -> None:
        """A runner for whom nothing is left ends, so that others can have its place."""
        if active.waiting or active.to_draw or active.retries_before(now + runner_plan.SOON_S):
            return
        if any(lease.may_give_back(active.slots_on(lease.chunk.node)) for lease in active.leases.values()):
            return  # it can be shared
        for runner in ready:
            if not active.leases_of(runner.attempt):
                runner.finish = True

    def _give_up_silent(self, active: Active, ready: Sequence[RunnerAttempt]) -> None:
        now_s = time.monotonic()
        for runner in ready:
            silent_s = now_s - runner.heard_s
            if silent_s > active.spec.stuck_after_s and active.leases_of(runner.attempt):
                sentence = f"its runner on {runner.node} has said nothing for {silent_s:.0f} s"
                self._loop.post(ev.Preempted(int(runner.attempt.partition(".")[0]), sentence))
                runner.heard_s = now_s

    async def _keep_runners(self, active: Active, jobs: Mapping[int, Job], now: float) -> None:
        """Submit runner jobs that are missing, cancel those that are not wanted and have not started."""
        runners = runner_plan.Runners(active, self._state, jobs, now)
        if runners.missing:
            first = self._take_ids(len(runners.missing))
            new = [runner_jobs.numbered(draft, first + index) for index, draft in enumerate(runners.missing)]
            await self._loop.submit_all([ev.JobAccepted(job) for job in new])
        for number in runners.outdated:
            self._loop.post(ev.CancelRequested(number, "the sweep wants other nodes"))
        for number in runners.needless:
            self._loop.post(ev.CancelRequested(number, "the sweep needs no more runners"))

    def _dismiss(self, active: Active, jobs: Mapping[int, Job]) -> None:
        """The sweep computes nothing more: runners end, at once unless all is done."""
        is_done = active.progress.state is SweepState.DONE
        for runner in active.runners.values():
            runner.finish = True
        for number, job in jobs.items():
            attempt = self._state.attempts.get(job.attempt_key)
            ends_by_itself = is_done and attempt is not None and attempt.key in active.runners
            is_asked = attempt is not None and attempt.stop is not None
            if not ends_by_itself and not is_asked:
                self._loop.post(ev.CancelRequested(number, f"the sweep is {active.progress.state}"))

    async def change(self, active: Active, state: SweepState, reason: str, sentence: str) -> None:
        """An owner's wish: stop or cancel; nothing for a sweep that is over or so already. Raises StoreError."""
        async with active.lock:
            if active.is_stale:
                raise StoreError(f"sweep {active.id} is about to be reloaded; ask once more")
            if active.progress.state in SWEEP_FINAL or active.progress.state is state:
                return
            now = self._clock()
            if state in SWEEP_FINAL:
                await self._end(active, state, reason, now)
                return
            progress = active.snapshot(state=state, reason=reason, ended_at_s=None, faults=0, backoffs={})

            def save(connection: sqlite3.Connection) -> None:
                ledger.save_progress(connection, active.id, progress)
                ledger.tell(connection, active.id, now, sentence)

            await handing.written(active, self._store, save)


def _drawn(drawer: Drawer, told: Sequence[Outcome], count: int) -> list[Params]:
    """Tell a search what came of its points and draw others. Raises SearchError, whatever its library raises."""
    try:
        if told:
            drawer.tell(told)
        return drawer.draw(count) if count > 0 else []
    except SearchError:
        raise
    except Exception as error:
        log.exception("the search failed")
        raise SearchError(f"the search failed: {type(error).__name__}: {error}") from error


def _outcome(attempt: Attempt) -> JobState:
    """How an attempt ended, also while its folder is still being fetched."""
    return attempt.ending.outcome if attempt.ending is not None else attempt.state
