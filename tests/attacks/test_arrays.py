"""An array of the largest size is taken in parts: the loop goes on, a crash leaves nothing out, and limits hold."""

import os
from pathlib import Path

import msgspec
import pytest

from racksack_controller.app import App
from racksack_controller.config.limits import Limits
from racksack_controller.core.state import Job
from racksack_controller.intake import adding
from racksack_controller.intake.adding import Origin, accepted_jobs
from racksack_controller.users import name_of
from racksack_jobspecs.spec import ArraySpec
from tests.attacks.controllers import GOOD, config_of, drop, refused, running, submitted, until, upload
from tests.lag import watched_loop
from tests.sizes import sized

SIZE = sized(6_000, 100_000)
HELD = GOOD + "name: {name}\nhold: true\narray: 0-{last}\n"
LAG_S = 0.05
ME = name_of(os.geteuid())


def count(app: App, name: str) -> int:
    sql = "SELECT count(*) FROM jobs WHERE name = ?"
    return int(app.store.look(lambda connection: connection.execute(sql, (name,)).fetchone())[0])


async def test_a_large_array_keeps_the_loop_free_and_others_waiting_for_nothing(root: Path) -> None:
    async with running(config_of(root)) as app:
        text = HELD.format(project=upload(app.spool, "up1"), name="many", last=SIZE - 1)
        other = GOOD.format(project=upload(app.spool, "up2")) + "name: other\nhold: true\n"
        async with watched_loop() as lag:
            drop(app.spool, "many", text)
            await until(lambda: count(app, "many") > 0, "the first part is there")
            drop(app.spool, "other", other)
            await until(lambda: submitted(app, "other"), "another job is taken meanwhile")
            before = count(app, "many")
            await until(lambda: count(app, "many") == SIZE, "all of it is there")
        assert before < SIZE, "the other job did not wait for the whole array"
        assert lag.busy_s < LAG_S, lag
        rows = app.store.look(
            lambda connection: connection.execute(
                "SELECT array_index, json_extract(record, '$.array_id') FROM jobs WHERE name = 'many' ORDER BY id"
            ).fetchall()
        )
        assert [index for index, _ in rows] == list(range(SIZE))
        assert len({array for _, array in rows}) == 1
        assert len([path for path in app.spool.projects.iterdir() if path.is_symlink()]) == 2


async def test_an_array_that_a_crash_cut_short_is_made_whole(root: Path) -> None:
    """The file is still in jobs/, and half an array never counts as all of it."""
    config = config_of(root)
    async with running(config) as app:
        drop(app.spool, "first", HELD.format(project=upload(app.spool, "up1"), name="whole", last=499))
        await until(lambda: count(app, "whole") == 500, "it is there")
        key = f"{ME}:cut-1"
        [row] = app.store.look(
            lambda connection: connection.execute("SELECT record FROM jobs WHERE name = 'whole' LIMIT 1").fetchall()
        )
        job = msgspec.json.decode(row[0], type=Job)
        origin = Origin(ME, job.snapshot, ())
        # As after a kill: the size is noted, the first part is saved.
        await app.store.write(lambda connection: adding.save_array(connection, key, 300))
        part = msgspec.structs.replace(job.spec, name="cut", submission=key, array=ArraySpec(tuple(range(120))))
        await app.intake._adding._add_array(part, origin, {})
        assert app.store.look(lambda connection: accepted_jobs(connection, key)) == []
        assert await app.intake.outcome(ME, "cut-1", 0.0) is None
    async with running(config) as app:
        text = HELD.format(project="up1", name="cut", last=299) + "submission: cut-1\n"
        drop(app.spool, "cut", text.replace("project: up1", f"project: snapshot:{job.snapshot}"))
        await until(lambda: count(app, "cut") == 300, "the others are added")
        outcome = await app.intake.outcome(ME, "cut-1", 30.0)
        assert outcome is not None
        assert len(outcome["jobs"]) == 300  # type: ignore[arg-type]
        jobs = [one for one in app.state.jobs.values() if one.spec.name == "cut"]
        assert sorted(one.array_index or 0 for one in jobs) == list(range(300))
        assert len({one.array_id for one in jobs}) == 1


async def test_what_one_user_may_have_is_limited(root: Path) -> None:
    config = msgspec.structs.replace(config_of(root), limits=Limits(jobs=1000, sweeps=1))
    async with running(config) as app:
        upload(app.spool, "up1", "def f(x):\n    return x\n")
        drop(app.spool, "a", HELD.format(project="up1", name="a", last=599))
        await until(lambda: count(app, "a") == 600, "the first fits")
        drop(app.spool, "b", HELD.format(project="up1", name="b", last=599))
        await until(lambda: bool(refused(app.spool, "b")), "the second does not")
        assert f"{ME} has 600 unfinished jobs, and 600 more would be above the 1000" in refused(app.spool, "b")
        assert app.state.unfinished == {ME: 600}
        sweep = (
            "project: up1\nentrypoint: main.py\nname: s{0}\nhold: true\nsweep: {{function: f, params: {{x: 1:9:1}}}}\n"
        )
        drop(app.spool, "s1", sweep.format(1))
        await until(lambda: app.sweeps.unfinished_of(ME) == 1, "a sweep")
        drop(app.spool, "s2", sweep.format(2))
        await until(lambda: bool(refused(app.spool, "s2")), "the second sweep is one too many")
        assert "has 1 unfinished sweeps" in refused(app.spool, "s2")


async def test_sweeps_of_very_many_values_count_as_several(root: Path) -> None:
    """A line of text makes 200,000 values, and all are in memory for as long as the sweep is not over."""
    config = msgspec.structs.replace(config_of(root), limits=Limits(sweeps=12))
    wide = "project: up1\nentrypoint: main.py\nname: {0}\nhold: true\nsweep: {{function: f, params: {{{1}}}, {2}}}\n"
    params, search = "a: 0:99998:1, b: 0:99998:1", "search: {kind: random, count: 10}"
    async with running(config) as app:
        upload(app.spool, "up1", "def f(a, b):\n    return a\n")
        for name in ("w1", "w2"):
            drop(app.spool, name, wide.format(name, params, search))
            await until(
                lambda name=name: app.sweeps.unfinished_of(ME) == 10 and (name == "w1" or refused(app.spool, name)),
                name,
            )
        assert "has 10 unfinished sweeps, and 10 more would be above the 12" in refused(app.spool, "w2")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("after: [{many}]\n", "has 1001 dependencies; 1000 are the most"),
        ("after: [{some}]\narray: 0-9999\n", "has 21 dependencies of 10000 elements each; 1000 are the most"),
    ],
)
async def test_dependencies_have_a_number(root: Path, lines: str, sentence: str) -> None:
    """Each is stored with each job, and judged at each end."""
    lists = {"many": ", ".join(map(str, range(1, 1002))), "some": ", ".join(map(str, range(1, 22)))}
    async with running(config_of(root)) as app:
        text = GOOD.format(project=upload(app.spool, "up1")) + lines.format(**lists)
        drop(app.spool, "one", text)
        await until(lambda: bool(refused(app.spool, "one")), "it is refused")
        assert sentence in refused(app.spool, "one")


async def test_singletons_wait_for_so_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each names all before it: thousands would be millions of dependencies."""
    monkeypatch.setattr("racksack_controller.intake.dependencies.WAITS_MAX", 3)
    async with running(config_of(root)) as app:
        text = GOOD.format(project=upload(app.spool, "up1")) + "name: same\nhold: true\nafter: singleton\n"
        for number in range(5):
            drop(app.spool, f"s{number}", text)
            await until(lambda number=number: not (app.spool.jobs / f"s{number}.yaml").exists(), "it is taken")  # type: ignore[misc]
        assert count(app, "same") == 4
        assert "4 jobs called same have not ended, and a singleton waits for 3 at most" in refused(app.spool, "s4")
