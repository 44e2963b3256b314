"""Hands points out: chunks as leases, saved before a runner hears of them; and tells runners when to end."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence

import msgspec

from racksack_controller.core.sweeps import rules, sizes
from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.core.sweeps.records import Chunk, Failure
from racksack_controller.nodes.errors import NodeError
from racksack_controller.nodes.node import Node
from racksack_controller.store import Store, StoreError
from racksack_controller.sweeps.active import Active, Lease, RunnerAttempt
from racksack_controller.sweeps.results import ledger
from racksack_jobspecs.sweep.spec import Params, SweepSpec, arguments_of, params_of

log = logging.getLogger("racksack.sweeps")

AHEAD = 2  # chunks of a runner
STEAL_ABOVE_S = 1.0  # what a chunk must still take to be worth asking for
SHARE_ABOVE_S = 3.0  # ... to be worth another runner


async def hand_out(active: Active, runners: Sequence[RunnerAttempt], store: Store, now: float) -> bool:
    """Give each of these runners what it should have next; whether anything was handed out. Raises StoreError.

    The caller holds the lock.
    """
    leases: list[Lease] = []
    all_slots = sum(active.slots_on(runner.node) for runner in runners) or active.slots
    for turn in range(AHEAD):
        for runner in runners:
            if runner.finish or len(active.leases_of(runner.attempt)) > turn:
                continue
            lease = _lease(active, runner, all_slots, now, is_second=turn > 0)
            if lease is not None:
                leases.append(lease)
    if not leases:
        return False
    started_at_s = active.progress.started_at_s or now
    progress = active.snapshot(chunks=active.progress.chunks, started_at_s=started_at_s)

    def save(connection: sqlite3.Connection) -> None:
        for lease in leases:
            ledger.add_chunk(connection, active.id, lease.record())
        ledger.save_progress(connection, active.id, progress)

    await written(active, store, save)
    return True


async def written(active: Active, store: Store, save: Callable[[sqlite3.Connection], None]) -> None:
    """Save; what could not be saved did not happen. Raises StoreError."""
    try:
        await store.write(save)
    except StoreError:
        active.is_stale = True
        raise


def _lease(active: Active, runner: RunnerAttempt, all_slots: int, now: float, *, is_second: bool) -> Lease | None:
    progress = active.progress
    speed = sizes.known_speed(progress.speeds, runner.names)
    if not active.waiting or (is_second and speed is None):
        return None
    has_suspects = any(lease.chunk.losses for lease in active.leases_of(runner.attempt))
    if is_second and (has_suspects or not active.pending):
        return None  # suspects are alone with their runner
    age_s = now - progress.started_at_s if progress.started_at_s else 0.0
    points, losses = _take(active, runner.node, speed, all_slots, age_s)
    chunk = Chunk(
        number=progress.chunks + 1,
        run=progress.run,
        attempt=runner.attempt,
        node=runner.node,
        ranges=points.pairs(),
        points=points.size,
        handed_at_s=now,
        losses=losses,
    )
    active.progress = msgspec.structs.replace(progress, chunks=chunk.number)
    lease = active.leases[chunk.number] = Lease(chunk, points)
    return lease


def _take(active: Active, node: str, speed: float | None, all_slots: int, age_s: float) -> tuple[Ranges, int]:
    if active.pending:
        size = sizes.chunk_points(
            active.spec.chunking,
            waiting=active.pending.size,
            slots=active.slots_on(node),
            speed=speed,
            all_slots=all_slots,
            age_s=age_s,
        )
        if active.is_given:
            size = min(size, sizes.GIVEN_POINTS_MAX)
        return active.pending.take(size), 0
    ranges, losses = active.suspects[0]
    points = ranges.take(rules.suspect_points(losses, ranges.size))
    if not ranges:
        active.suspects.pop(0)
    return points, losses


async def feed(active: Active, runner: RunnerAttempt, node: Node, store: Store) -> None:
    """Send a runner the chunks that it may not have. Raises NodeError, StoreError."""
    leases = [lease for lease in active.leases_of(runner.attempt) if not lease.is_fed]
    if not leases:
        return
    for lease in leases:
        lease.is_fed = True
    try:
        await node.feed(runner.attempt, [await _message(active, lease, store) for lease in leases])
    except (NodeError, StoreError):
        for lease in leases:
            lease.is_fed = False
        raise


async def _message(active: Active, lease: Lease, store: Store) -> Mapping[str, object]:
    message: dict[str, object] = {"chunk": lease.chunk.number, "run": lease.chunk.run}
    if not active.is_given:
        return {**message, "ranges": [list(pair) for pair in lease.chunk.ranges]}
    points = [point for low, high in lease.chunk.ranges for point in range(low, high)]
    if active.spec.scripts:
        devices = [active.spec.scripts[point].gpu_id for point in points]
        values = [script_values(active.spec, point) for point in points]
        return {**message, "points": points, "values": values, "devices": devices}
    if not active.is_sampled:
        return {**message, "points": points, "values": [_arguments(active.spec, point) for point in points]}
    pairs = lease.chunk.ranges

    def read(connection: sqlite3.Connection) -> list[Params]:
        return [
            params for low, high in pairs for params in ledger.params_between(connection, active.id, low, high).values()
        ]

    return {**message, "points": points, "values": await store.read(read)}


def _arguments(spec: SweepSpec, point: int) -> Params:
    return arguments_of(spec, params_of(spec, point))


def script_values(spec: SweepSpec, point: int) -> dict[str, object]:
    """One entry of a list of jobs, as a worker starts it."""
    script = spec.scripts[point]
    return {"script": script.script, "args": list(script.args)}


async def control(active: Active, runner: RunnerAttempt, node: Node) -> None:
    """Tell a runner what is wanted of it, unless it knows. Raises NodeError."""
    asked = [lease.chunk.number for lease in active.leases_of(runner.attempt) if lease.is_asked_back]
    back = tuple(sorted(asked))
    verdicts = tuple((point, rungs, stop) for point, (rungs, stop) in sorted(runner.verdicts.items()))
    wanted = (runner.finish, back, verdicts)
    if runner.told == wanted or (runner.told is None and wanted == (False, (), ())):
        return
    runner.told = wanted
    try:
        await node.control(runner.attempt, finish=runner.finish, back=back, verdicts=verdicts)
    except NodeError:
        runner.told = None
        raise


def ask_back(active: Active, runners: Sequence[RunnerAttempt]) -> None:
    """When somebody has nothing to do, ask those with most for what they have not begun."""
    idle = [runner for runner in runners if not active.leases_of(runner.attempt) and not runner.finish]
    if active.waiting or not idle:
        return
    asked = sum(1 for lease in active.leases.values() if lease.is_asked_back)
    for lease in sorted(active.leases.values(), key=lambda one: one.left.size, reverse=True):
        if asked >= len(idle):
            return
        if not lease.is_asked_back and lease.is_fed and _left_s(active, lease) > STEAL_ABOVE_S:
            lease.is_asked_back = True
            asked += 1


def to_share(active: Active) -> int:
    """How many points that runners have not begun are worth another runner, once no others wait."""
    if active.waiting:
        return 0
    found = 0
    for lease in active.leases.values():
        if not lease.has_given_back and _left_s(active, lease) > SHARE_ABOVE_S:
            found += lease.left.size - active.slots_on(lease.chunk.node)
    return found


def _left_s(active: Active, lease: Lease) -> float:
    """How long a chunk will still take; 0 when nobody knows, or when all of it has begun."""
    runner = active.runners.get(lease.chunk.attempt)
    speed = sizes.known_speed(active.progress.speeds, runner.names) if runner is not None else None
    slots = active.slots_on(lease.chunk.node)
    if speed is None or lease.left.size <= slots:
        return 0.0
    return lease.left.size / (speed * slots)


def free_of(active: Active, leases: Sequence[Lease], now: float, *, is_loss: bool) -> list[Failure]:
    """The points of leases whose runner is gone wait again; those that were alone too often fail for good."""
    failures = []
    for lease in leases:
        active.leases.pop(lease.chunk.number, None)
        losses = lease.chunk.losses + 1
        if not is_loss:
            active.pending.update(lease.left)
        elif len(leases) == 1 and rules.lost_for_good(active.spec, losses, lease.left.size):
            point = next(iter(lease.left))[0]
            failures.append(rules.lost(point, losses, lease.chunk.node, now))
            active.tries.pop(point, None)
        else:
            active.suspects.append((lease.left, losses))
    return failures


def unfeed(active: Active, node: str) -> None:
    """A connection is new: what was sent over the old one may not have arrived."""
    for runner in active.runners.values():
        if runner.node == node:
            runner.told = None
            runner.news.set()
            for lease in active.leases_of(runner.attempt):
                lease.is_fed = False
