"""Meters the nodes whose power is switched: a sample each half minute, joules into the store, shares to the jobs.

A span of a node ends at a tick, at a change of its power, and when results are about to be put in place, so that the
job's figure is complete by then. A crash loses what was not saved since the last tick.

A long gap (the controller was off) becomes one span, an estimate, where the node is known to have been off all the
while, or on in one boot. Nothing is made up about any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from time import time

import msgspec
from msgspec.structs import replace

from racksack_controller.core.state import Attempt, Changes, State
from racksack_controller.energy import store as table
from racksack_controller.energy.joules import (
    ESTIMATED_GAP_S_MAX,
    GAP_S_MAX,
    GPU_AS_CPUS,
    Draw,
    Machine,
    Source,
    draw,
    split,
)
from racksack_controller.energy.store import FRESH_SPAN_S, JobEnergy, Reading, Slice
from racksack_controller.nodes.node import NodeStats
from racksack_controller.store import Store, StoreError

log = logging.getLogger("racksack.energy")

TICK_S = 30.0
FRESH_S = 2.0  # what an agent said so lately is not asked for again
ROLL_UP_EVERY_S = 3600.0
STRETCHES_MAX = 100  # of one node that are remembered until it answers
IDLE_LEARNT_PART = 0.1  # how much of a new idle sample goes into what is known


class Senses(msgspec.Struct, frozen=True):
    """How the meter sees a node: whether it has power, what its sensor says, what its agent says and when.

    `look` asks the agent anew. `unchanged_since` says since when (Unix seconds) a node's power is what it is now, None
    while that cannot be told yet. `is_proven_off` is said by a device, `up_since` by the node itself once it answers.
    """

    is_on: Callable[[str], bool]
    sensor: Callable[[str], float | None]
    stats: Callable[[str], tuple[NodeStats, float] | None]
    look: Callable[[str], Awaitable[object]]
    unchanged_since: Callable[[str], float | None]
    is_proven_off: Callable[[str], bool] = lambda node: True
    up_since: Callable[[str], float | None] = lambda node: None


class Span(msgspec.Struct, frozen=True):
    """A time of a node without a change, its average draw, and whether it was on."""

    since_s: float
    until_s: float
    watts: float
    is_estimate: bool
    was_on: bool

    @property
    def length_s(self) -> float:
        """In seconds."""
        return self.until_s - self.since_s


class Stretch(msgspec.Struct, frozen=True):
    """A time in which a node was taken for off. until_s None: it still is."""

    since_s: float
    until_s: float | None = None


class Pace(msgspec.Struct, frozen=True):
    """How many cores an attempt keeps busy, from the CPU seconds it had used at a moment."""

    cpu_s: float
    at_s: float
    cores: float


class Meter:
    """The energy of all nodes that have a machine here."""

    def __init__(self, state: State, store: Store, senses: Senses, clock: Callable[[], float] = time) -> None:
        self.machines: dict[str, Machine] = {}
        self._state = state
        self._store = store
        self._senses = senses
        self._clock = clock
        self._readings: dict[str, Reading] = {}
        self._was_on: dict[str, bool] = {}
        self._unproven: dict[str, list[Stretch]] = {}  # when nodes were thought to be off, by their silence alone
        self._paces: dict[str, Pace] = {}
        self._counted: set[str] = set()  # attempts whose end was seen
        self._ended: dict[str, list[Attempt]] = {}  # by node: their last part is not accounted for yet
        self._slices: list[tuple[str, Slice]] = []
        self._job_shares: dict[int, JobEnergy] = {}  # not saved yet
        self._job_totals: dict[int, JobEnergy] = {}  # of jobs that are not over

    async def load(self) -> None:
        """Go on from what the store has. Raises StoreError."""
        self._readings = await self._store.read(table.load_readings)
        for job in {attempt.job for attempt in self._state.attempts.values()}:
            found = await self._store.read(partial(table.energy_of_job, job=job))
            if found is not None:
                self._job_totals[job] = found

    async def run(self) -> None:
        """Sample until cancelled, and save what was sampled."""
        rolled_up_s = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.tick()
                if self._clock() - rolled_up_s >= ROLL_UP_EVERY_S:
                    rolled_up_s = self._clock()
                    await self._store.write(lambda connection: table.roll_up(connection, self._clock()))
            except StoreError as error:
                log.error("energy readings are kept in memory until they can be saved: %s", error)
            except Exception:  # what is wrong with one sample must not end the metering
                log.exception("unexpected error of the meter")

    async def tick(self) -> None:
        """Close every node's span and save. Raises StoreError; nothing is forgotten then."""
        for node in self.machines:
            self.close_span(node)
        await self.flush()

    async def flush(self) -> None:
        """Save what is not saved yet. Raises StoreError; nothing is forgotten then."""
        slices, self._slices = self._slices, []
        shares, self._job_shares = self._job_shares, {}
        if not slices and not shares:
            return
        readings = list(self._readings.values())
        try:
            await self._store.write(lambda connection: table.save(connection, slices, shares.values(), readings))
        except StoreError:
            self._slices = slices + self._slices
            for share in shares.values():
                self._share(share)
            raise
        for job in [job for job in self._job_totals if job not in self._state.jobs]:
            del self._job_totals[job]

    def noticed(self, changes: Changes) -> None:
        """What a saved step changed: attempts that ended, and power that came or went."""
        for attempt in changes.attempts:
            if attempt.removed:
                self._counted.discard(attempt.key)
            elif attempt.ending is not None and attempt.node in self.machines and attempt.key not in self._counted:
                self._counted.add(attempt.key)
                self._ended.setdefault(attempt.node, []).append(attempt)
        for node in self.machines:
            if self._was_on.get(node) != self._senses.is_on(node):
                self.close_span(node)

    async def settle(self, node: str, jobs: Sequence[int]) -> dict[int, JobEnergy]:
        """What these jobs used until now, of which an attempt on this node has ended."""
        if node in self.machines:
            known = self._senses.stats(node)
            if known is None or self._clock() - known[1] > FRESH_S:
                await self._senses.look(node)
            self.close_span(node)
        return {job: self._job_totals[job] for job in jobs if job in self._job_totals}

    def of_job(self, job: int) -> JobEnergy | None:
        """What a job that is not over used so far."""
        return self._job_totals.get(job)

    def watts(self, node: str) -> Draw | None:
        """What a node draws now: by its sensor, else by the last sample."""
        reading, machine = self._readings.get(node), self.machines.get(node)
        if reading is None or machine is None:
            return None
        measured = self._senses.sensor(node)
        return Draw(reading.watts, machine.source) if measured is None else Draw(measured, Source.SENSOR)

    def idle_watts(self, node: str) -> float | None:
        """What a node draws when it is on and idle: measured, configured or modelled."""
        reading, machine = self._readings.get(node), self.machines.get(node)
        if reading is not None and reading.idle_watts is not None:
            return reading.idle_watts
        return machine.idle if machine else None

    def close_span(self, node: str) -> None:
        """Account for the time since a node's last sample."""
        machine, now = self.machines.get(node), self._clock()
        before = self._readings.get(node)
        if machine is None or self._waits(node, before, now):
            return
        is_on = self._senses.is_on(node)
        was_on, self._was_on[node] = self._was_on.get(node, is_on), is_on
        since = before.at_s if before else now
        span_s = now - since
        gap = span_s > GAP_S_MAX
        known = before is not None and span_s > 0 and (not gap or self._is_unchanged(node, since, now))
        used = self._used(node, since, now) if known else {}
        self._ended.pop(node, None)
        seen = draw(machine, is_on=was_on, used=sum(used.values()), sensor_watts=self._senses.sensor(node))
        idle = self._idle_after(before, machine, seen, idle=not used and was_on and is_on)
        if known and before is not None:
            watts = (before.watts + seen.watts) / 2 if seen.source is Source.SENSOR else seen.watts
            if gap and seen.is_estimate:
                watts = _gap_watts(before, machine, sum(used.values()), was_on=was_on)
            self._account(node, machine, Span(since, now, watts, gap or seen.is_estimate, was_on), used)
        self._correct(node, machine, now, is_on=is_on)
        if span_s >= 0 or before is None:
            now_draw = draw(machine, is_on=is_on, used=sum(used.values()), sensor_watts=self._senses.sensor(node))
            self._readings[node] = Reading(node=node, at_s=now, watts=now_draw.watts, idle_watts=idle)

    def _correct(self, node: str, machine: Machine, now: float, *, is_on: bool) -> None:
        """Account for what was taken for off and turns out to have been on, as an estimate.

        Without a device only silence tells that a node is off: behind a broken way it may be on all the while. When it
        answers again it says since when it has been running.
        """
        stretches = self._unproven.setdefault(node, [])
        is_open = bool(stretches) and stretches[-1].until_s is None
        if not is_on and self._senses.is_proven_off(node):
            stretches.clear()
        elif not is_on and not is_open:
            stretches.append(Stretch(now))
            del stretches[:-STRETCHES_MAX]
        elif is_on and is_open:
            stretches[-1] = replace(stretches[-1], until_s=now)
        up_since = self._senses.up_since(node) if is_on and stretches else None
        if up_since is not None:
            for one in stretches:
                self._add_as_on(node, machine, max(one.since_s, up_since), one.until_s or now)
            stretches.clear()

    def _add_as_on(self, node: str, machine: Machine, since: float, until: float) -> None:
        """Count a span, which was counted as off, as on and idle."""
        before = self._readings.get(node)
        if before is None or since >= until:
            return
        watts = _gap_watts(before, machine, 0.0, was_on=True)
        off_watts = draw(machine, is_on=False, used=0.0, sensor_watts=None).watts
        joules = max(0.0, watts - off_watts) * (until - since)
        for start_s, part in _pieces(since, until):
            one = Slice(start_s=start_s, joules=joules * part, idle_j=joules * part, on_s=part * (until - since))
            self._slices.append((node, one))

    def _waits(self, node: str, before: Reading | None, now: float) -> bool:
        """Whether a long gap is to be left open, since what happened in it will be known in a moment."""
        is_long = before is not None and GAP_S_MAX < now - before.at_s <= ESTIMATED_GAP_S_MAX
        return is_long and self._senses.unchanged_since(node) is None

    def _is_unchanged(self, node: str, since: float, now: float) -> bool:
        """Whether the power of a node was the same in all of a long gap."""
        unchanged = self._senses.unchanged_since(node)
        return unchanged is not None and unchanged <= since and now - since <= ESTIMATED_GAP_S_MAX

    def _idle_after(self, before: Reading | None, machine: Machine, seen: Draw, *, idle: bool) -> float | None:
        known = before.idle_watts if before else None
        if not idle or seen.source is not Source.SENSOR:
            return known
        return seen.watts if known is None else known + IDLE_LEARNT_PART * (seen.watts - known)

    def _account(self, node: str, machine: Machine, span: Span, used: dict[int, float]) -> None:
        joules = span.watts * span.length_s
        sensor_j = 0.0 if span.is_estimate else joules
        idle_watts = self.idle_watts(node) or 0.0
        parts = split(machine, joules, span.length_s, used, idle_watts)
        for start_s, part in _pieces(span.since_s, span.until_s):
            piece_s = part * span.length_s
            self._slices.append(
                (
                    node,
                    Slice(
                        start_s=start_s,
                        joules=joules * part,
                        sensor_j=sensor_j * part,
                        idle_j=parts.idle_j * part,
                        always_j=joules * part if span.was_on else idle_watts * piece_s,
                        on_s=piece_s if span.was_on else 0.0,
                        known_s=piece_s,
                    ),
                )
            )
        for job, job_j in parts.jobs.items():
            share = JobEnergy(job=job, joules=job_j, sensor_j=0.0 if span.is_estimate else job_j, at_s=span.until_s)
            self._share(share)
            self._job_totals[job] = _sum(self._job_totals.get(job), share)

    def _share(self, share: JobEnergy) -> None:
        self._job_shares[share.job] = _sum(self._job_shares.get(share.job), share)

    def _used(self, node: str, since: float, now: float) -> dict[int, float]:
        """The cores that each job kept busy on the average of the span, its GPUs counted as cores."""
        self._pace(node)
        machine, used = self.machines[node], dict[int, float]()
        running = [attempt for attempt in self._state.on_node(node) if attempt.ending is None]
        for attempt in [*running, *self._ended.get(node, ())]:
            began = attempt.started_at_s or attempt.placed_at_s
            until = min(now, attempt.ending.ended_at_s or now) if attempt.ending else now
            overlap_s = until - max(since, began)
            cores = self._cores(attempt, began, until)
            if attempt.ending is not None:
                self._paces.pop(attempt.key, None)
            if overlap_s > 0:
                gpus = len(attempt.allocation.gpus) * attempt.allocation.gpu_milli / 1000
                busy = min(cores, 1.5 * machine.cpus) + GPU_AS_CPUS * gpus
                used[attempt.job] = used.get(attempt.job, 0.0) + busy * overlap_s / (now - since)
        return used

    def _cores(self, attempt: Attempt, began: float, until: float) -> float:
        pace, ending = self._paces.get(attempt.key), attempt.ending
        if ending is None or ending.cpu_s is None:
            return attempt.allocation.cpus if pace is None else pace.cores
        if pace is None:
            return ending.cpu_s / max(0.1, until - began)
        return max(0.0, ending.cpu_s - pace.cpu_s) / (until - pace.at_s) if until > pace.at_s else pace.cores

    def _pace(self, node: str) -> None:
        """Take what the agent said last into account."""
        found = self._senses.stats(node)
        if found is None:
            return
        stats, at_s = found
        for key, use in stats.attempts.items():
            before, attempt = self._paces.get(key), self._state.attempts.get(key)
            if attempt is None or (before is not None and at_s <= before.at_s):
                continue
            began = attempt.started_at_s or attempt.placed_at_s
            earlier = before or Pace(0.0, began, 0.0)
            cores = max(0.0, use.cpu_s - earlier.cpu_s) / max(0.1, at_s - earlier.at_s)
            self._paces[key] = Pace(use.cpu_s, at_s, cores)


def _gap_watts(before: Reading, machine: Machine, used: float, *, was_on: bool) -> float:
    """What a node drew in a long gap, as far as a sensor taught before it: off, or idle and with so many cores busy."""
    if not was_on:
        return before.watts
    if before.idle_watts is None:
        return machine.watts_at(used)
    most = before.idle_watts + machine.most - machine.idle
    return replace(machine, idle_watts=before.idle_watts, max_watts=most).watts_at(used)


def _sum(first: JobEnergy | None, second: JobEnergy) -> JobEnergy:
    if first is None:
        return second
    return JobEnergy(
        job=second.job,
        joules=first.joules + second.joules,
        sensor_j=first.sensor_j + second.sensor_j,
        at_s=max(first.at_s, second.at_s),
    )


def _pieces(since: float, now: float) -> Iterator[tuple[int, float]]:
    """A span cut at the borders of the table's rows: where each row begins, and its part of the span."""
    start_s = int(since // FRESH_SPAN_S) * FRESH_SPAN_S
    while start_s < now:
        inside_s = min(now, start_s + FRESH_SPAN_S) - max(since, start_s)
        if inside_s > 0:
            yield start_s, inside_s / (now - since)
        start_s += FRESH_SPAN_S
