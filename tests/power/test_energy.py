"""Watts to joules, joules to jobs: the arithmetic, and the meter over a store."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from racksack_controller.core.records import Allocation, Attempt, Ending, Job, Node
from racksack_controller.core.state import Changes, State
from racksack_controller.energy import meter
from racksack_controller.energy import store as energy_store
from racksack_controller.energy.joules import Machine, Source, draw, kwh, split
from racksack_controller.energy.meter import Meter, Senses
from racksack_controller.energy.report import report
from racksack_controller.energy.store import Slice
from racksack_controller.nodes.node import AttemptStats, NodeStats
from racksack_controller.store import Store
from racksack_jobspecs.resources import Inventory
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState

R1 = Machine(cpus=16, idle_watts=100, max_watts=260)
START_S = 1_700_000_100.0  # not at the border of a row


def test_a_sensor_wins_then_the_owner_then_a_model() -> None:
    assert draw(R1, is_on=True, used=8, sensor_watts=171) == draw(R1, is_on=False, used=0, sensor_watts=171)
    assert draw(R1, is_on=True, used=8, sensor_watts=None).watts == pytest.approx(180)
    assert draw(R1, is_on=True, used=8, sensor_watts=None).source is Source.CONFIG
    model = draw(Machine(cpus=16), is_on=True, used=0, sensor_watts=None)
    assert model.source is Source.MODEL
    assert model.is_estimate
    assert draw(R1, is_on=False, used=0, sensor_watts=None).watts == 0


def test_more_than_the_machine_draws_no_more_than_most() -> None:
    assert R1.watts_at(99) == 260
    assert R1.watts_at(-1) == 100


@given(
    joules=st.floats(0, 1e7),
    span_s=st.floats(0.1, 900),
    used=st.dictionaries(st.integers(1, 50), st.floats(0, 64), max_size=8),
    idle=st.floats(0, 400),
)
def test_nothing_is_lost_and_nothing_is_negative(
    joules: float, span_s: float, used: dict[int, float], idle: float
) -> None:
    parts = split(R1, joules, span_s, used, idle)
    assert sum(parts.jobs.values()) + parts.idle_j == pytest.approx(joules, abs=1e-6)
    assert all(share >= -1e-6 for share in (*parts.jobs.values(), parts.idle_j))


def test_a_job_that_fills_the_node_bears_all_of_it_and_a_small_one_its_part() -> None:
    whole = split(R1, 2600, 10, {1: 16}, 100)
    assert whole.jobs[1] == pytest.approx(2600)
    small = split(R1, 1100, 10, {1: 1}, 100)
    assert small.jobs[1] == pytest.approx(1000 / 16 + 100)
    assert small.idle_j == pytest.approx(1000 * 15 / 16)


def test_two_jobs_share_by_what_they_used() -> None:
    parts = split(R1, 1600, 10, {1: 3, 2: 1}, 100)
    assert parts.jobs[1] == pytest.approx(3 * parts.jobs[2])


def test_nobody_used_anything() -> None:
    assert split(R1, 1000, 10, {}, 100).idle_j == 1000


class Bench:
    """A meter over a real store, with senses that a test sets and a clock that it turns."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "racksack.db")
        self.state = State()
        self.state.put_node(Node(name="r1", inventory=Inventory(cpus=16, ram_bytes=2**34, disk_bytes=2**40)))
        self.now_s = START_S
        self.on = True
        self.sensor: float | None = None
        self.stats: tuple[NodeStats, float] | None = None
        self.unchanged_since: float | None = math.inf
        self.is_proven_off = True
        self.up_since: float | None = None
        self.meter = self.make()

    def make(self) -> Meter:
        senses = Senses(
            lambda node: self.on,
            lambda node: self.sensor,
            lambda node: self.stats,
            self.look,
            lambda node: self.unchanged_since,
            lambda node: self.is_proven_off,
            lambda node: self.up_since,
        )
        meter = Meter(self.state, self.store, senses, lambda: self.now_s)
        meter.machines["r1"] = R1
        return meter

    async def look(self, node: str) -> None:
        """The agent has nothing new to say."""

    async def after(self, seconds: float) -> None:
        self.now_s += seconds
        await self.meter.tick()

    async def row(self) -> Slice:
        """All rows of r1 as one."""
        rows = (await self.store.read(lambda connection: energy_store.slices_since(connection, 0)))["r1"]
        fields = ("joules", "sensor_j", "idle_j", "always_j", "on_s", "known_s")
        return Slice(start_s=rows[0].start_s, **{field: sum(getattr(row, field) for row in rows) for field in fields})

    def begin(self, job: int, cpus: float = 4, gpus: tuple[str, ...] = ()) -> Attempt:
        spec = JobSpec(name="j", project="p", entrypoint="main.py", submission=f"s{job}")
        self.state.put_job(Job(id=job, owner="ann", spec=spec, snapshot="d", submitted_at_s=self.now_s, attempt=1))
        attempt = Attempt(
            job=job,
            number=1,
            node="r1",
            state=JobState.RUNNING,
            allocation=Allocation(cpus=cpus, ram_bytes=2**30, gpus=gpus),
            placed_at_s=self.now_s,
            started_at_s=self.now_s,
        )
        self.state.put_attempt(attempt)
        return attempt

    def end(self, attempt: Attempt, cpu_s: float) -> None:
        import msgspec

        ending = Ending(JobState.DONE, ended_at_s=self.now_s, cpu_s=cpu_s)
        ended = msgspec.structs.replace(attempt, state=JobState.COLLECTING, ending=ending)
        self.state.put_attempt(ended)
        self.meter.noticed(self.state.take_changes())

    def use(self, **cpu_s: float) -> None:
        """What the agent says that attempts have used."""
        attempts = {key[1:].replace("_", "."): AttemptStats(0, value) for key, value in cpu_s.items()}
        self.stats = (NodeStats(load1=0, ram_used_bytes=0, disk_free_bytes=0, attempts=attempts), self.now_s)


@pytest.fixture
def bench(tmp_path: Path):
    bench = Bench(tmp_path)
    yield bench
    bench.store.close()


async def test_an_idle_node_by_the_owners_figures(bench: Bench) -> None:
    await bench.after(0)
    for _ in range(20):
        await bench.after(30)
    row = await bench.row()
    assert row.joules == pytest.approx(600 * 100)
    assert row.idle_j == pytest.approx(row.joules)
    assert (row.sensor_j, row.on_s, row.known_s) == (0, pytest.approx(600), pytest.approx(600))


async def test_off_saves_what_idling_would_have_drawn(bench: Bench) -> None:
    await bench.after(0)
    await bench.after(30)
    bench.on = False
    bench.now_s += 10  # ten more seconds on, until the change is noticed
    bench.meter.noticed(Changes((), (), (), ()))
    await bench.after(100)
    row = await bench.row()
    assert row.joules == pytest.approx(40 * 100)
    assert row.always_j == pytest.approx(140 * 100)
    assert row.on_s == pytest.approx(40)


async def test_a_sensor_is_integrated_and_teaches_what_idle_is(bench: Bench) -> None:
    bench.sensor = 80.0
    await bench.after(0)
    await bench.after(30)
    bench.sensor = 120.0
    await bench.after(30)
    row = await bench.row()
    assert row.joules == pytest.approx(30 * 80 + 30 * 100)
    assert row.sensor_j == row.joules
    idle = bench.meter.idle_watts("r1")
    assert idle is not None
    assert 80 < idle < 90


async def test_jobs_get_what_they_used_however_short_they_are(bench: Bench) -> None:
    bench.sensor = 200.0
    await bench.after(0)
    long, short = bench.begin(1), bench.begin(2)
    bench.now_s += 10
    bench.use(a1_1=40, a2_1=20)
    bench.end(short, cpu_s=20)
    used = await bench.meter.settle("r1", [2])
    assert used[2].joules > 0
    bench.now_s += 10
    bench.end(long, cpu_s=80)
    used = await bench.meter.settle("r1", [1])
    first = used[1].joules
    await bench.meter.flush()
    stored = await bench.store.read(lambda connection: energy_store.energy_of_job(connection, 1))
    assert stored is not None
    assert stored.joules == pytest.approx(first)
    assert not stored.is_estimate
    row = await bench.row()
    both = first + (await bench.store.read(lambda c: energy_store.energy_of_job(c, 2))).joules
    assert row.joules == pytest.approx(20 * 200)
    assert row.idle_j == pytest.approx(row.joules - both)
    # In the first half job 1 used twice what job 2 did.
    assert used[1].joules > both - first


async def test_a_gpu_counts_as_many_cores(bench: Bench) -> None:
    bench.meter.machines["r1"] = Machine(cpus=16, gpus=1, idle_watts=100, max_watts=420)
    await bench.after(0)
    bench.begin(1, gpus=("0",))
    bench.begin(2)
    bench.now_s += 30
    bench.use(a1_1=30, a2_1=30)
    await bench.meter.tick()
    first, second = (bench.meter.of_job(job).joules for job in (1, 2))
    assert first == pytest.approx(17 * second)


async def test_a_restart_loses_at_most_what_was_not_saved(bench: Bench) -> None:
    bench.sensor = 100.0
    await bench.after(0)
    await bench.after(30)
    bench.now_s += 20  # not saved: the controller is killed
    bench.meter = bench.make()
    await bench.meter.load()
    await bench.after(10)
    assert (await bench.row()).joules == pytest.approx(60 * 100)  # the gap is short, so it is filled


async def after_a_gap(bench: Bench, seconds: float) -> None:
    """The controller ends after the last sample and is started again so much later."""
    bench.meter = bench.make()
    await bench.meter.load()
    await bench.after(seconds)


@pytest.mark.parametrize(("changed_s", "gap_s"), [(31.0, 7200.0), (math.inf, 7200.0), (-60.0, 8 * 86400.0)])
async def test_nothing_is_made_up_about_a_long_gap(bench: Bench, changed_s: float, gap_s: float) -> None:
    """`changed_s`: when its power changed last, counted from the first sample; a gap of many days is a wrong clock."""
    await bench.after(0)
    await bench.after(30)
    bench.unchanged_since = START_S + changed_s
    await after_a_gap(bench, gap_s)
    assert (await bench.row()).known_s == pytest.approx(30)


async def test_a_long_gap_of_a_node_that_was_off_all_the_while_is_an_estimate(bench: Bench) -> None:
    bench.on, bench.sensor, bench.unchanged_since = False, 9.0, START_S - 60
    await bench.after(0)
    await bench.after(30)
    bench.sensor = None  # it has not been read yet
    await after_a_gap(bench, 7200)
    row = await bench.row()
    assert (row.known_s, row.on_s) == (pytest.approx(7230), 0)
    assert row.joules == pytest.approx(7230 * 9)
    assert row.sensor_j == pytest.approx(30 * 9)
    assert row.always_j == pytest.approx(7230 * 100)


async def test_what_a_sensor_taught_before_a_long_gap_counts_in_it(bench: Bench) -> None:
    """After a start the sensor has not been read yet, when the gap is filled."""
    bench.sensor, bench.unchanged_since = 140.0, START_S - 60
    await bench.after(0)
    await bench.after(30)
    bench.sensor = None
    await after_a_gap(bench, 7200)
    row = await bench.row()
    assert row.joules == pytest.approx(7230 * 140)
    assert row.sensor_j == pytest.approx(30 * 140)


async def test_a_long_gap_of_a_node_that_ran_on_is_an_estimate_and_its_jobs_bear_their_part(bench: Bench) -> None:
    bench.sensor, bench.unchanged_since = 200.0, START_S - 60
    bench.begin(1, cpus=16)
    await bench.after(0)
    await bench.after(30)
    bench.use(a1_1=16 * 30)
    await bench.after(30)
    bench.now_s += 7200
    bench.use(a1_1=16 * 60 + 8 * 7200)
    bench.now_s -= 7200
    await after_a_gap(bench, 7200)
    row = await bench.row()
    assert (row.known_s, row.on_s) == (pytest.approx(7260), pytest.approx(7260))
    assert row.joules == pytest.approx(7260 * 200)
    assert row.sensor_j == pytest.approx(60 * 200)
    used = bench.meter.of_job(1)
    assert used is not None
    assert used.is_estimate
    assert used.joules > 7200 * 100


async def passing(bench: Bench, on: bool, seconds: float) -> None:
    """Some time in which a node is thought to be on, or off."""
    bench.on = on
    bench.meter.noticed(Changes((), (), (), ()))
    while seconds > 0:
        await bench.after(min(30.0, seconds))
        seconds -= 30.0


async def on_and_known_s(bench: Bench) -> tuple[float, float, float]:
    """Seconds on, seconds accounted for, and joules of the node so far."""
    await bench.meter.tick()
    slices = (await bench.store.read(lambda connection: energy_store.slices_since(connection, 0)))["r1"]
    sums = [sum(getattr(one, name) for one in slices) for name in ("on_s", "known_s", "joules")]
    assert sum(one.sensor_j for one in slices) == 0.0, "it is all an estimate"
    return sums[0], sums[1], sums[2]


@pytest.mark.parametrize(
    ("up_since", "on_s"),
    [
        (0.0, 1200.0),  # it was on all the while, behind a broken way
        (400.0, 1100.0),  # it was off for a while
        (900.0, 600.0),  # it came on when it answered
        (None, 600.0),  # it does not say
    ],
)
async def test_what_was_taken_for_off_is_counted_when_the_node_says_since_when_it_is_on(
    bench: Bench, up_since: float | None, on_s: float
) -> None:
    await bench.meter.tick()
    await passing(bench, on=True, seconds=300)
    bench.is_proven_off = False
    await passing(bench, on=False, seconds=600)
    bench.up_since = None if up_since is None else START_S + up_since
    await passing(bench, on=True, seconds=300)
    on, known, joules = await on_and_known_s(bench)
    assert known == pytest.approx(1200)
    assert on == pytest.approx(on_s)
    assert joules == pytest.approx(100 * on_s)


async def test_a_boot_behind_a_broken_way_is_not_counted_twice(bench: Bench) -> None:
    """Thought off, then booting (which counts as on), given up, and then it answers: it was on from the first boot."""
    await bench.meter.tick()
    bench.is_proven_off = False
    await passing(bench, on=False, seconds=300)
    await passing(bench, on=True, seconds=60)
    await passing(bench, on=False, seconds=300)
    bench.up_since = START_S + 300
    await passing(bench, on=True, seconds=60)
    on, known, joules = await on_and_known_s(bench)
    assert (on, known) == (pytest.approx(420), pytest.approx(720))
    assert joules == pytest.approx(100 * on)
    await passing(bench, on=True, seconds=60)
    assert (await on_and_known_s(bench))[0] == pytest.approx(480), "once"


async def test_what_a_device_calls_off_stays_off(bench: Bench) -> None:
    await bench.meter.tick()
    await passing(bench, on=False, seconds=300)
    bench.up_since = START_S
    await passing(bench, on=True, seconds=60)
    assert (await on_and_known_s(bench))[0] == pytest.approx(60)


async def test_an_unforeseen_failure_does_not_end_the_metering(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[str] = []

    def fails_once(node: str) -> bool:
        failed.append(node)
        if len(failed) == 1:
            raise ZeroDivisionError("a fault of ours")
        return True

    monkeypatch.setattr(meter, "TICK_S", 0.01)
    bench.meter._senses = replace(bench.meter._senses, is_on=fails_once)
    task = asyncio.create_task(bench.meter.run())
    async with asyncio.timeout(20):
        while bench.meter.watts("r1") is None:
            await asyncio.sleep(0.01)
    task.cancel()
    assert len(failed) >= 2


async def test_a_long_gap_is_left_open_until_it_is_known_what_happened_in_it(bench: Bench) -> None:
    """The controller has just started: it will reach the node, or hear that it is off, in a moment."""
    bench.unchanged_since = START_S - 60
    await bench.after(0)
    await bench.after(30)
    bench.unchanged_since = None
    await after_a_gap(bench, 7200)
    await bench.after(30)
    assert (await bench.row()).known_s == pytest.approx(30)
    bench.unchanged_since = START_S - 60
    await bench.after(30)
    assert (await bench.row()).known_s == pytest.approx(30 + 7260)


async def test_a_clock_that_is_set_back_takes_nothing_away(bench: Bench) -> None:
    await bench.after(0)
    await bench.after(30)
    await bench.after(-20)
    await bench.after(30)
    assert (await bench.row()).joules > 0


async def test_old_rows_become_hours_and_keep_their_sum(bench: Bench) -> None:
    await bench.after(0)
    for _ in range(20):
        await bench.after(300)
    before = await bench.row()
    fewer = await bench.store.write(lambda connection: energy_store.roll_up(connection, bench.now_s + 10 * 86400))
    assert fewer > 15
    assert (await bench.row()).joules == pytest.approx(before.joules)


def test_the_report_adds_up() -> None:
    one = Slice(start_s=0, joules=3.6e6, sensor_j=3.6e6, idle_j=1.8e6, always_j=7.2e6, on_s=100, known_s=200)
    told = report({"r1": [one], "r2": [one, one]}, [], 0, 1, 0.5)
    assert told["total"]["kwh"] == 3
    assert told["total"]["saved_cost"] == 1.5
    assert told["nodes"][1]["jobs_kwh"] == 1
    assert not told["total"]["is_estimate"]
    assert report({}, [], 0, 1, None)["total"]["cost"] is None
    assert kwh(3.6e6) == 1
