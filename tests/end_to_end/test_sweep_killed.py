"""`kill -9` of the controller while a sweep runs, again and again, wherever it is just then: each point counts once."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.site import CONFIG, Site, UnreachableError, until
from tests.sizes import sized

MakeSite = Callable[..., Site]
POINTS = 1200
CODE = """
import time
def f(x):
    time.sleep(0.004)
    if x % 97 == 5: raise ValueError("no good")
    return {"y": x}
"""
JOB = f"""
name: killed
project: killed-1
entrypoint: f.py
environment: none
cpus: 2
ram: 256M
sweep: {{function: f, params: {{x: "0:{POINTS - 1}:1"}}, metric: y, retries: 1, backoff: 0.1s, chunk: {{target: 1s}}}}
"""


def drop(site: Site) -> None:
    project = site.spool / "incoming/killed-1"
    project.mkdir()
    (project / "f.py").write_text(CODE)
    beside = site.spool / "jobs/.sweep.new"
    beside.write_text(JOB)
    beside.rename(site.spool / "jobs/sweep.yaml")


def state(site: Site) -> str:
    """Of the sweep, as the store has it."""
    with contextlib.closing(sqlite3.connect(f"file:{site.spool}/racksack.db?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT state FROM sweeps").fetchone()
    return row[0] if row else ""


@pytest.mark.parametrize("seed", [1])
def test_at_random(make_site: MakeSite, seed: int) -> None:
    site = make_site(CONFIG)
    chance = random.Random(int(os.environ.get("RACKSACK_SEED", seed)))
    site.start()
    drop(site)
    until(lambda: state(site) == "running", "the sweep is accepted")
    for _ in range(int(os.environ.get("RACKSACK_KILLS", sized("3", "12")))):
        time.sleep(chance.uniform(0.05, 0.9))  # the moment of the blow is the point: no condition is waited for
        with contextlib.suppress(ValueError, FileNotFoundError):
            site.kill()
        site.launch()
    site.answering()
    until(lambda: state(site) != "running", "the sweep is over")
    assert state(site) == "done", site.log()
    assert_each_once(site.spool / "returns/1/results.csv")
    until(lambda: not _jobs(site), "its runners have ended")


def _jobs(site: Site) -> bool:
    try:
        return bool(site.ask("jobs"))
    except UnreachableError:
        return True


def assert_each_once(path: Path) -> None:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    bad = {x for x in range(POINTS) if x % 97 == 5}
    assert sorted(int(row["point"]) for row in rows) == list(range(POINTS))
    assert {int(row["point"]) for row in rows if row["failure"]} == bad
    assert all(row["y"] == row["x"] == row["point"] for row in rows if not row["failure"])
