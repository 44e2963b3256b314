"""docs/examples/backtest as a sweep: every point once, and the ranking of a plain run in one process."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy

from racksack_controller.sweeps.results import ledger, ranking
from racksack_controller.sweeps.search.numbering import numbered
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.spec import Environment
from racksack_jobspecs.sweep.expressions import leaves_in
from racksack_jobspecs.sweep.spec import params_of, point_numbers
from tests import sizes
from tests.sweeps.rig import Rig

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "backtest"
SMALL = ("5:23:3", "12:60:8")
FULL = ("1:256:1", "2:512:2")  # 65,536 points


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("backtest", EXAMPLE / "backtest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_ranking_is_that_of_a_plain_run(rig: Rig) -> None:
    is_full = sizes.FULL
    fast, slow = FULL if is_full else SMALL
    where = "" if is_full else ", where: fast < slow"
    job = parse_job(
        "project: up\nentrypoint: backtest.py\n"
        f"sweep: {{function: evaluate, params: {{fast: '{fast}', slow: '{slow}'}}, metric: sharpe:max{where}}}\n"
    )
    assert job.sweep is not None
    spec, evaluate = job.sweep, example().evaluate
    numbers = [
        point for point in range(point_numbers(spec)) if not where or leaves_in(spec.where, params_of(spec, point))
    ]
    plain = {point: evaluate(**params_of(spec, point)) for point in numbers}
    # numpy comes from the packages of this test's own Python, not from a venv that would have to be filled.
    packages = Path(numpy.__file__).parents[1]
    number = await rig.submit_folder(
        EXAMPLE, spec, numbered(spec), env={"PYTHONPATH": str(packages)}, environment=Environment(kind="none")
    )
    await rig.ended(number, timeout_s=3600.0 if is_full else 60.0)
    assert await rig.results(number) == plain, "each point once, to the last digit"
    found = await rig.app.store.read(lambda connection: ledger.sweep_by_id(connection, number))
    assert found is not None
    ranked = await rig.app.store.read(lambda connection: ranking.rank(connection, *found, count=len(plain)))
    best = sorted(plain, key=lambda point: (-plain[point]["sharpe"], point))
    assert [row["point"] for row in ranked.rows] == best
