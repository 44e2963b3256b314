"""A store with a sweep of very many points, and how long it takes to rank them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.store import Store, open_database
from racksack_controller.sweeps.results import ledger, ranking
from racksack_controller.sweeps.results.plots import plots
from racksack_controller.sweeps.results.segments import POINTS_MAX, build
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.spec import Axis, Metric, SweepSpec, Target


def make(path: Path, points: int) -> Store:
    """A sweep over two parameters with three metrics, all of it done."""
    rows = -(-points // 1000)
    axes = (Axis("a", tuple(range(rows))), Axis("b", tuple(range(1000))))
    wanted = SweepSpec(target=Target(file="f.py", name="f"), axes=axes, metrics=(Metric("score", "max"),))
    spec = JobSpec(name="many", project="p", entrypoint="f.py", sweep=wanted, submission="many")
    sweep = Sweep(
        id=1, owner="root", spec=spec, snapshot="0" * 64, submitted_at_s=0.0, code="c", points_total=points
    )  # fmt: skip
    chance = np.random.default_rng(1)
    connection = open_database(path)
    connection.execute("BEGIN")
    ledger.add_sweep(connection, sweep, Progress(points=points, done=points))
    for low in range(0, points, POINTS_MAX):
        numbers = np.arange(low, min(points, low + POINTS_MAX), dtype=np.int64)
        metrics = {name: chance.standard_normal(len(numbers)) for name in ("score", "drawdown", "profit")}
        part = build(numbers, np.full(len(numbers), 0.001, dtype=np.float32), metrics)
        ledger.add_segments(connection, 1, 0, 0, [part])
    connection.execute("COMMIT")
    connection.close()
    return Store(path)


def seconds_to_rank(store: Store, by: str) -> float:
    """How long the ten best take."""
    began_s = time.perf_counter()

    def read(connection: object) -> None:
        found = ledger.sweep_by_id(connection, 1)  # type: ignore[arg-type]
        assert found is not None
        ranked = ranking.rank(connection, *found, by=by, count=10)  # type: ignore[arg-type]
        assert len(ranked.rows) == 10

    store.look(read)
    return time.perf_counter() - began_s


def seconds_to_draw(store: Store, by: str) -> float:
    """How long the twenty best and all plots take, when nothing of them is kept from before."""
    began_s = time.perf_counter()

    def read(connection: object) -> None:
        found = ledger.sweep_by_id(connection, 1)  # type: ignore[arg-type]
        assert found is not None
        results = ranking.results_of(connection, found[0])  # type: ignore[arg-type]
        ranking.rank_of(connection, *found, results, by=by, count=20)  # type: ignore[arg-type]
        assert plots(connection, found[0], results, by) is not None  # type: ignore[arg-type]

    store.look(read)
    return time.perf_counter() - began_s
