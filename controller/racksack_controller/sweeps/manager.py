"""All sweeps of one controller: takes them in, keeps those that are not over moving, does what their owners wish."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.records import DataMount, Job, Wait
from racksack_controller.core.state import Attempt, Changes
from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.core.sweeps.records import CONTROL, MAIN, Progress, Sweep
from racksack_controller.loop import Loop
from racksack_controller.nodes.node import Node
from racksack_controller.store import Store, StoreError
from racksack_controller.sweeps import leases, runner_jobs
from racksack_controller.sweeps.active import Active, Ended, RunnerAttempt, load
from racksack_controller.sweeps.drawn import what_was_drawn
from racksack_controller.sweeps.follower import Follower
from racksack_controller.sweeps.results import ledger, reports, reuse
from racksack_controller.sweeps.search import warm_start
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_controller.sweeps.search.protocol import Drawer, MakeDrawer
from racksack_controller.sweeps.step import Stepper
from racksack_controller.threads import Threads
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import FINAL, JobState
from racksack_jobspecs.sweep.states import SWEEP_FINAL, SweepState

log = logging.getLogger("racksack.sweeps")

STEP_EVERY_S = 0.005
WAKE_S = 5.0
STORE_RETRY_S = 2.0
SWEEP_THREADS = 8  # draw points and write results' folders
_WITH_RESULTS = frozenset({JobState.RUNNING, JobState.COLLECTING})

Finisher = Callable[[Sweep, Progress], Callable[[], None]]


class SweepError(Exception):
    """A wish that cannot be met; the sentence says why."""


class Sweeps:
    """The sweeps that are not over, and the way to the others."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        nodes: Mapping[str, Node],
        *,
        take_ids: Callable[[int], int],
        finisher: Finisher,
        make_drawer: MakeDrawer | None = None,
        on_change: Callable[[Active], None] = lambda active: None,
        on_end: Callable[[Sweep, Progress], None] = lambda sweep, progress: None,
    ) -> None:
        self.active: dict[int, Active] = {}
        self._on_change, self._on_end = on_change, on_end
        self._loop, self._store = loop, store
        self._take_ids = take_ids
        self._make_drawer = make_drawer
        self._drawers: dict[int, Drawer] = {}
        self._threads = Threads("sweep", SWEEP_THREADS)
        self._stepper = Stepper(
            loop, store, self._threads, take_ids, lambda active: finisher(active.sweep, active.progress)
        )
        self._follower = Follower(nodes, store, self._changed)
        self._follower.on_nonsense = self._give_up
        self._jobs: dict[int, dict[int, Job]] = {}  # runner jobs that are not over, by sweep
        self._ended: dict[int, list[Ended]] = {}
        self._steps: dict[int, asyncio.Task[None]] = {}  # under way
        self._again: set[int] = set()  # those that are to step once more
        self._set_aside: set[int] = set()  # those that nothing can be done with, until somebody resumes them
        self._restoring: dict[int, asyncio.Task[None]] = {}
        self._told_end: set[int] = set()
        self._wake = asyncio.Event()
        loop.listen(self._saved)

    # Life

    async def open(self) -> None:
        """Load what is not over; a sweep that cannot be loaded is left alone and logged. Raises StoreError."""
        for job in self._loop.state.jobs.values():
            if job.spec.runner_of is not None:
                self._jobs.setdefault(job.spec.runner_of, {})[job.id] = job
        for number in await self._store.read(ledger.live_numbers):
            try:
                await self._load(number)
            except StoreError:
                raise
            except Exception:
                log.exception("sweep=%s cannot be loaded; it is skipped until the next start", number)

    async def run(self) -> None:
        """Until cancelled. Sweeps step side by side: one that takes long holds up no other."""
        while True:
            try:
                async with asyncio.timeout(self._delay_s()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            for active in list(self.active.values()):
                self._begin_step(active)
            self._dismiss_strays()
            await asyncio.sleep(STEP_EVERY_S)

    def _begin_step(self, active: Active) -> None:
        """Step now, or once more after the step that is under way."""
        if active.id in self._set_aside:
            return
        if active.id in self._steps:
            self._again.add(active.id)
            return
        task = self._steps[active.id] = asyncio.create_task(self._step(active), name=f"sweep {active.id}")
        task.add_done_callback(lambda _task: self._stepped(active.id))

    def _stepped(self, number: int) -> None:
        del self._steps[number]
        if number in self._again:
            self._again.discard(number)
            self._wake.set()

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to compute."""
        return any(active.progress.state is SweepState.RUNNING for active in self.active.values())

    def unfinished_of(self, owner: str) -> int:
        """How many sweeps of a user are not over, large ones counting as several."""
        return sum(active.spec.weight for active in self.active.values() if active.sweep.owner == owner)

    async def close(self) -> None:
        """Stop following; runners go on."""
        tasks = [one.following for active in self.active.values() for one in active.runners.values() if one.following]
        tasks += [*self._steps.values(), *self._restoring.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.close()

    def _delay_s(self) -> float | None:
        if not self.active and not self._jobs:
            return None
        now = time.time()
        due = [at_s for active in self.active.values() for at_s in active.wakes_at_s(now)]
        return min([WAKE_S, *(max(0.0, at_s - now) for at_s in due)])

    async def _step(self, active: Active) -> None:
        try:
            if active.is_stale:
                await self._reload(active)
                return
            self._meet(active)
            ended = self._ended.pop(active.id, [])
            jobs = dict(self._jobs.get(active.id, {}))  # what is saved meanwhile is the next step's
            await self._stepper.step(active, jobs, ended, self._drawers.get(active.id))
        except StoreError as error:
            log.error("sweep=%s: %s; retrying", active.id, error)
            await asyncio.sleep(STORE_RETRY_S)
            self._wake.set()
            return
        except Exception as error:
            log.exception("sweep=%s cannot go on", active.id)
            await self._stop_faulty(active, error)
            return
        self._follow_new(active)
        self._on_change(active)
        if active.progress.state in SWEEP_FINAL:
            self._tell_end(active)
            if not self._jobs.get(active.id) and not active.runners:
                self.active.pop(active.id, None)
                self._drop_drawer(active.id)

    async def _stop_faulty(self, active: Active, error: Exception) -> None:
        """One sweep that nobody foresaw stops, with its reason; one that cannot even stop is left alone."""
        reason = (
            f"stopped by an error in the controller ({type(error).__name__}), see its log; "
            f"`racksack sweep resume {active.id}` tries again"
        )
        try:
            if active.progress.state is SweepState.RUNNING:
                await self._stepper.change(active, SweepState.STOPPED, reason, reason)
                return
        except Exception:
            log.exception("sweep=%s cannot be stopped", active.id)
        self._set_aside.add(active.id)

    def _tell_end(self, active: Active) -> None:
        if active.id not in self._told_end:
            self._told_end.add(active.id)
            self._loop.post(ev.DependencyEnded(((active.id, False),)))
            self._on_end(active.sweep, active.progress)

    async def _reload(self, active: Active) -> None:
        """Begin again from what is stored. Raises StoreError, and then the stale memory stays, to be loaded later."""
        async with active.lock:  # nobody is between a write and what follows from it
            for runner in active.runners.values():
                if runner.following is not None:
                    runner.following.cancel()
            await self._load(active.id)
        self._wake.set()

    async def _load(self, number: int) -> Active:
        def read(connection: sqlite3.Connection) -> tuple[Active, list[str]]:
            found = ledger.sweep_by_id(connection, number)
            assert found is not None  # noqa: S101 - it was listed, or it was just saved
            return load(connection, *found), ledger.open_streams(connection, number)

        active, streams = await self._store.read(read)
        for attempt in streams:
            if attempt not in self._loop.state.attempts:  # it ended and went while nobody looked
                active.runners[attempt] = RunnerAttempt(attempt, "", ())
        self.active[number] = active
        self._drop_drawer(number)
        if active.is_sampled and self._make_drawer is not None:
            before = self._restoring.pop(number, None)
            if before is not None:
                before.cancel()
            work = self._restore_drawer(active, self._make_drawer)
            self._restoring[number] = asyncio.create_task(work, name=f"search of sweep {number}")
        self._wake.set()
        return active

    async def _restore_drawer(self, active: Active, make: MakeDrawer) -> None:
        """Bring a search to where it was, beside everything else: a long one takes a while."""
        try:
            drawn, outcomes, known = await self._store.read(lambda connection: what_was_drawn(connection, active))
            async with self._stepper.searching.of(active.sweep.owner):
                drawer = await self._threads.run(make, active.sweep, drawn, outcomes, known)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("sweep=%s: its search cannot go on", active.id)
            await self._stop_faulty(active, error)
            return
        if self.active.get(active.id) is active:
            self._drawers[active.id] = drawer
            self._restoring.pop(active.id, None)
            self._wake.set()
        else:
            drawer.close()

    def _drop_drawer(self, number: int) -> None:
        drawer = self._drawers.pop(number, None)
        if drawer is not None:
            drawer.close()

    # Runners

    def _meet(self, active: Active) -> None:
        """Know the attempts of runner jobs that may tell results."""
        jobs = self._jobs.get(active.id, {}).values()
        attempts = [one for job in jobs if (one := self._loop.state.attempts.get(job.attempt_key)) is not None]
        active.preparing = frozenset(one.node for one in attempts if one.state is JobState.PREPARING)
        for attempt in attempts:
            if attempt.state not in _WITH_RESULTS or attempt.key in active.runners:
                continue
            position = self._store.look(lambda connection, key=attempt.key: ledger.stream_position(connection, key))  # type: ignore[misc]
            if position is None:
                continue  # it was settled before
            node = self._loop.state.nodes.get(attempt.node)
            names = runner_jobs.speed_names(node, attempt.allocation)
            runner = RunnerAttempt(attempt.key, attempt.node, names, position, heard_s=time.monotonic())
            active.runners[attempt.key] = runner

    def _follow_new(self, active: Active) -> None:
        for runner in active.runners.values():
            if runner.following is None and runner.node:
                work = self._follower.follow(active, runner)
                runner.following = asyncio.create_task(work, name=f"runner {runner.attempt}")
                runner.news.set()

    def results_grew(self, node: str, attempt: str, size_bytes: int) -> None:
        """A node says that a runner has written more: `size_bytes` by now."""
        for active in self.active.values():
            runner = active.runners.get(attempt)
            if runner is not None and runner.node == node and runner.position + len(runner.buffer) < size_bytes:
                runner.news.set()

    async def before_collect(self, attempt: Attempt) -> None:
        """Take all results of a runner that has ended, before its folder goes. Raises NodeError, StoreError."""
        job = self._loop.state.jobs.get(attempt.job)
        active = self.active.get(job.spec.runner_of or 0) if job is not None else None
        if active is None:
            return
        self._meet(active)
        runner = active.runners.get(attempt.key)
        if runner is not None and not runner.is_drained:
            await self._follower.drain(active, runner)

    def plan_of(self, job: Job, node: str) -> dict[str, object] | None:
        """What the runner of this job is to do on a node; None for an ordinary job. Raises StoreError."""
        number = job.spec.runner_of
        if number is None:
            return None
        active = self.active.get(number)
        if active is not None:
            return runner_jobs.plan_of(active.sweep, node)
        found = self._store.look(lambda connection: ledger.sweep_by_id(connection, number))
        return runner_jobs.plan_of(found[0], node) if found is not None else None

    def _give_up(self, active: Active, runner: RunnerAttempt, sentence: str) -> None:
        log.error("sweep=%s runner=%s %s", active.id, runner.attempt, sentence)
        self._loop.post(ev.Preempted(int(runner.attempt.partition(".")[0]), sentence))

    def _dismiss_strays(self) -> None:
        """Runner jobs of a sweep that is over end; a restart may have come between its end and theirs."""
        for number in [number for number in self._jobs if number not in self.active]:
            for job in self._jobs[number].values():
                attempt = self._loop.state.attempts.get(job.attempt_key)
                if attempt is None or attempt.stop is None:
                    self._loop.post(ev.CancelRequested(job.id, "its sweep is over"))

    def _saved(self, changes: Changes) -> None:
        """A listener of the loop."""
        wakes = False
        attempts = {attempt.key: attempt for attempt in changes.attempts}  # the state may have forgotten them
        for job in changes.jobs:
            number = job.spec.runner_of
            if number is None:
                continue
            wakes = True
            live = self._jobs.setdefault(number, {})
            if job.state in FINAL:
                live.pop(job.id, None)
                self._ended.setdefault(number, []).append(Ended(job, attempts.get(job.attempt_key)))
                if not live:
                    del self._jobs[number]
            else:
                live[job.id] = job
        for node in changes.nodes:
            for active in self.active.values():
                wakes = True
                if node.connected:
                    leases.unfeed(active, node.name)
        if wakes or (self.active and changes.jobs):
            self._wake.set()

    def _changed(self, active: Active) -> None:
        self._wake.set()

    # Wishes

    async def accept(
        self,
        spec: JobSpec,
        owner: str,
        snapshot: str,
        waits_for: tuple[Wait, ...],
        pending: Ranges,
        data: tuple[DataMount, ...] = (),
    ) -> int:
        """Take a sweep in; its id. `pending`: the numbers of its points. Raises StoreError, WarmStartError.

        What an earlier sweep of the same owner has computed with the same code and parameters is taken over.
        """
        assert spec.sweep is not None  # noqa: S101 - what makes a job a sweep
        source = await self._store.read(lambda connection: warm_start.source_of(connection, spec, owner))
        sweep = Sweep(
            warm_from=source,
            id=self._take_ids(1),
            owner=owner,
            spec=spec,
            snapshot=snapshot,
            submitted_at_s=time.time(),
            code=code_of(spec, snapshot, data),
            data=data,
            points_total=pending.size,
            waits_for=waits_for,
            key=secrets.token_hex(8),
        )
        drawn = is_drawn(spec.sweep)
        progress = Progress(
            state=SweepState.STOPPED if spec.hold else SweepState.RUNNING,
            reason=f"held by {owner}" if spec.hold else "",
            points=pending.size,
            pending=() if drawn else pending.pairs(),
        )

        learns = "" if source is None else f"; its search starts from the results of sweep {source}"
        sentence = f"submitted by {owner}: {pending.size:,} points{learns}"

        def save(connection: sqlite3.Connection) -> None:
            ledger.add_sweep(connection, sweep, progress)
            ledger.tell(connection, sweep.id, sweep.submitted_at_s, sentence)

        await self._store.write(save)
        if not drawn:
            await reuse.take_over(self._store, sweep, progress)
        await self._load(sweep.id)
        log.info("sweep=%s accepted owner=%s points=%s", sweep.id, owner, pending.size)
        return sweep.id

    async def stop(self, number: int, sentence: str) -> None:
        """Compute nothing more until it is resumed. Raises SweepError, StoreError."""
        await self._stepper.change(self._live(number), SweepState.STOPPED, sentence, sentence)
        self._wake.set()

    async def cancel(self, number: int, sentence: str) -> None:
        """Stop a sweep; keep what was computed. Raises SweepError, StoreError."""
        await self._stepper.change(self._live(number), SweepState.CANCELLED, sentence, sentence)
        self._wake.set()

    async def resume(self, number: int, sentence: str) -> None:
        """Go on with what is missing: after a stop, or after it ended with points that have no outcome."""
        await self._revive(number, sentence, retries_failed=False)

    async def retry_failed(self, number: int, sentence: str) -> int:
        """Run exactly the points that failed for good once more; how many. Raises SweepError, StoreError."""
        return await self._revive(number, sentence, retries_failed=True)

    async def _revive(self, number: int, sentence: str, *, retries_failed: bool) -> int:
        active = self.active.get(number)
        if active is not None:
            async with active.lock:
                count = await self._store.write(lambda connection: _again(connection, number, sentence, retries_failed))
                active.is_stale = True
        else:
            count = await self._store.write(lambda connection: _again(connection, number, sentence, retries_failed))
            await self._load(number)
        self._told_end.discard(number)
        self._set_aside.discard(number)
        self._wake.set()
        return count

    def _live(self, number: int) -> Active:
        active = self.active.get(number)
        if active is None:
            raise SweepError(f"sweep {number} is over, or there is none")
        return active


def _again(connection: sqlite3.Connection, number: int, sentence: str, retries_failed: bool) -> int:
    """Make a sweep running again; with `retries_failed` its failed points wait once more. How many do."""
    found = ledger.sweep_by_id(connection, number)
    if found is None:
        raise SweepError(f"there is no sweep {number}")
    sweep, progress = found
    if retries_failed and progress.run == CONTROL and not progress.failed and progress.state in SWEEP_FINAL:
        progress = _back_to_main(connection, sweep, progress)
    pending, count = Ranges(progress.pending), 0
    if retries_failed:
        failures = ledger.failures_of(connection, number, progress.run, waiting=False)
        ledger.remove_failures(connection, number, progress.run, [one.point for one in failures])
        for failure in failures:
            pending.add(failure.point, failure.point + 1)
        count = len(failures)
        progress = replace(progress, failed=progress.failed - count)
    progress = replace(
        progress, state=SweepState.RUNNING, reason="", ended_at_s=None, faults=0, backoffs={}, pending=pending.pairs()
    )
    ledger.save_progress(connection, number, progress)
    ledger.tell(connection, number, time.time(), sentence)
    return count


def _back_to_main(connection: sqlite3.Connection, sweep: Sweep, progress: Progress) -> Progress:
    """The main run goes on with what failed in it; afterwards the control run begins anew, with what is best then."""
    ledger.remove_run(connection, sweep.id, CONTROL)
    reports.remove_reports(connection, sweep.id, CONTROL)
    failed = progress.main_failed
    return replace(
        progress,
        run=MAIN,
        points=sweep.points_total,
        done=sweep.points_total - failed,
        failed=failed,
        main_failed=0,
        reused=0,
    )


def code_of(spec: JobSpec, snapshot: str, data: tuple[DataMount, ...] = ()) -> str:
    """A hash of all that decides what a point with given parameters comes to."""
    assert spec.sweep is not None  # noqa: S101 - what makes a job a sweep
    parts: Sequence[object] = (
        snapshot, spec.sweep.target, spec.env, spec.environment, spec.stage_in_ram, spec.sweep.ramdisk,
        spec.sweep.range, [(script.script, script.args) for script in spec.sweep.scripts],
    )  # fmt: skip
    if spec.sweep.stop is not None:
        parts = (*parts, spec.sweep.stop)  # outcomes of points that were stopped stand for no others
    if data:
        parts = (*parts, data)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
