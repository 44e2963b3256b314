"""Recurring jobs: each time once, whatever happens to the controller, and clock changes as cron treats them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from racksack_controller.intake import recurring_table as table
from racksack_controller.intake.recurring import OF_ONE_MAX, RecurrenceError, Recurring, next_after
from racksack_controller.intake.recurring_table import RecurringJob
from racksack_controller.store import Store, StoreError, snapshots_in_use
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.recurrence import Recurrence
from racksack_jobspecs.spec import Dependency, JobSpec
from racksack_jobspecs.yamltext import Problem

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


class World:
    """A clock, and what was submitted."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = at("2026-06-01T00:30")
        self.taken: dict[str, JobSpec] = {}
        self.unfinished: set[int] = set()
        self.problem: Exception | None = None
        self.recurring = self.restarted()

    def restarted(self) -> Recurring:
        return Recurring(self.store, self.submit, lambda number: number not in self.unfinished, lambda: self.now)

    async def submit(self, _one: RecurringJob, spec: JobSpec) -> tuple[int, ...]:
        if self.problem is not None:
            raise self.problem
        self.taken.setdefault(spec.submission, spec)  # the same submission twice is one job
        return (100 + list(self.taken).index(spec.submission),)

    async def add(self, cron: str = "0 2 * * *", **changes: str) -> int:
        every = replace(Recurrence(cron, "Europe/Berlin"), **changes)
        spec = JobSpec(name="nightly", project="p", entrypoint="m.py", every=every, submission=f"ann:{cron}")
        return await self.recurring.add(spec, "ann", "d" * 64, ())

    async def until(self, text: str) -> None:
        self.now = at(text)
        await self.recurring.submit_due()

    async def found(self, number: int = 1) -> RecurringJob:
        one = await self.recurring.by_id(number)
        assert one is not None
        return one


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store(tmp_path / "racksack.db")
    yield World(store)
    store.close()


async def test_it_is_submitted_when_it_is_due_and_not_before(world: World) -> None:
    await world.add()
    await world.until("2026-06-01T01:59")
    assert world.taken == {}
    await world.until("2026-06-01T02:00")
    await world.until("2026-06-01T02:01")
    [spec] = world.taken.values()
    assert (spec.name, spec.every) == ("nightly", None)
    one = await world.found()
    assert (one.runs, one.last_jobs, one.due_at_s) == (1, (100,), at("2026-06-02T02:00"))


async def test_a_kill_between_submitting_and_noting_makes_one_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add()

    def full(*_args: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(table, "save", full)
        with pytest.raises(StoreError):
            await world.until("2026-06-01T02:00")
    world.recurring = world.restarted()
    await world.until("2026-06-01T02:05")
    assert len(world.taken) == 1
    assert (await world.found()).runs == 1


async def test_of_many_missed_runs_the_first_due_one_is_made_up_for(world: World) -> None:
    await world.add()
    await world.until("2026-06-09T12:00")
    await world.until("2026-06-09T12:01")
    assert len(world.taken) == 1
    assert (await world.found()).due_at_s == at("2026-06-10T02:00")


async def test_a_run_that_is_not_over_is_left_alone_or_waited_for(world: World) -> None:
    await world.add()
    await world.add("0 3 * * *", overlap="queue")
    world.unfinished = {100, 101}
    for day in ("01", "02"):
        await world.until(f"2026-06-{day}T02:00")
        await world.until(f"2026-06-{day}T03:00")
    assert len(world.taken) == 3
    assert (await world.found(1)).left_out == 1
    last = list(world.taken.values())[-1]
    assert last.after == (Dependency("any", "101"),)


@pytest.mark.parametrize(
    ("cron", "day", "runs"),
    [
        ("30 2 * * *", "2026-03-29", ["2026-03-29T03:00"]),  # 02:30 does not exist: at once after the gap
        ("30 2 * * *", "2026-10-25", ["2026-10-25T02:30"]),  # 02:30 appears twice: once
        ("*/30 * * * *", "2026-10-25", []),
    ],
)
def test_clock_changes(cron: str, day: str, runs: list[str]) -> None:
    now, found = at(f"{day}T00:00"), []
    while (now := next_after(Recurrence(cron, "Europe/Berlin"), now)) < at(f"{day}T00:00") + 26 * 3600:
        found.append(now)
    local = [
        datetime.fromtimestamp(one, BERLIN)
        for one in found
        if datetime.fromtimestamp(one, BERLIN).date().isoformat() == day
    ]
    if runs:
        assert [one.strftime("%Y-%m-%dT%H:%M") for one in local] == runs
    else:
        assert len(local) == 49, "half-hourly runs go on through the hour that appears twice"


async def test_what_cannot_be_submitted_is_told_and_tried_at_the_next_time(world: World) -> None:
    await world.add()
    world.problem = JobFileError([Problem(0, "ram", "no node has that")], "")
    await world.until("2026-06-01T02:00")
    assert "no node has that" in (await world.found()).problem
    world.problem = None
    await world.until("2026-06-02T02:00")
    one = await world.found()
    assert (one.problem, one.runs) == ("", 1)


async def test_pause_resume_run_and_remove(world: World) -> None:
    number = await world.add()
    await world.recurring.act(number, "pause")
    await world.until("2026-06-05T02:00")
    assert world.taken == {}
    await world.recurring.act(number, "resume")
    assert (await world.found()).due_at_s == at("2026-06-06T02:00")
    await world.recurring.act(number, "run")
    assert len(world.taken) == 1
    assert (await world.found()).due_at_s == at("2026-06-06T02:00"), "its times stay"
    await world.recurring.act(number, "remove")
    assert await world.recurring.by_id(number) is None
    assert await world.recurring.act(number, "run") is None
    assert await world.add("1 1 * * *") == number + 1, "ids are never given out again"


async def test_its_content_is_kept_and_there_is_a_limit(world: World) -> None:
    await world.add()
    assert "d" * 64 in await world.store.read(lambda connection: snapshots_in_use(connection, 1e11))
    for minute in range(1, OF_ONE_MAX):
        await world.add(f"{minute % 60} {3 + minute // 60} * * *")
    with pytest.raises(RecurrenceError, match="200 recurring jobs"):
        await world.add("0 0 1 1 *")


async def test_a_time_that_never_comes_is_refused(world: World) -> None:
    with pytest.raises(RecurrenceError, match="never comes"):
        await world.add("0 0 31 2 *")
