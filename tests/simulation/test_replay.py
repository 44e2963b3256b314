"""Replays of made-up workloads: invariants at every moment, faults, metamorphic rules, and the command itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from racksack_controller.core.policy import DEFAULT, TEXTBOOK_EASY, Backfill, Policy
from racksack_controller.core.state import State
from racksack_controller.simulate import invariants
from racksack_controller.simulate.engine import Faults, Outcome, Replay
from racksack_controller.simulate.machines import Layout, Machines, parse_machines
from racksack_controller.simulate.main import main
from racksack_controller.simulate.metrics import measure
from racksack_controller.simulate.picture import Chart, Line, draw
from racksack_controller.simulate.workload import Task, WorkloadError, parse_swf, read

RACK = Machines(4, 8)


def workload(seed: int, count: int = 150, *, load: float = 1.0) -> list[Task]:
    """Jobs of three users with wrong estimates; `load` 1 keeps 32 processors about busy."""
    rng = random.Random(seed)
    now, tasks = 0.0, []
    for number in range(1, count + 1):
        now += rng.expovariate(load / 70.0)
        run_s = rng.choice([20.0, 200.0, 2000.0]) * rng.uniform(0.5, 1.5)
        limit_s = run_s * rng.choice([1.0, 2.0, 10.0])
        user = f"user{rng.randrange(3)}"
        program = f"program{rng.randrange(4)}"
        tasks.append(Task(number, now, run_s, limit_s, rng.choice([1, 1, 2, 4, 8]), user, program))
    return tasks


def starts(outcomes: list[Outcome]) -> dict[int, float | None]:
    return {one.task.number: one.started_s for one in outcomes}


@pytest.mark.parametrize(
    "policy", [DEFAULT, TEXTBOOK_EASY, Policy(backfill=Backfill.CONSERVATIVE), Policy(fair_share=True)]
)
@pytest.mark.parametrize("layout", list(Layout))
def test_every_invariant_holds_at_every_moment_and_every_job_ends(policy: Policy, layout: Layout) -> None:
    moments = []

    def watch(state: State, now: float) -> None:
        invariants.check(state)
        moments.append(now)

    machines = Machines(8, 1, layout) if layout is Layout.GANG else Machines(4, 8, layout)
    outcomes = Replay(workload(3), machines, policy, watch=watch).run()
    assert all(one.ended_s == pytest.approx(one.started_s + one.task.run_s) for one in outcomes)
    assert moments == sorted(moments)


@pytest.mark.parametrize("seed", range(3))
def test_jobs_survive_power_losses(seed: int) -> None:
    faults = Faults(mean_between_s=4000.0, down_s=200.0, seed=seed)
    tasks = workload(seed, 80)
    outcomes = Replay(tasks, RACK, DEFAULT, faults=faults, watch=lambda state, _now: invariants.check(state)).run()
    assert all(one.ended_s is not None for one in outcomes)
    assert max(one.attempts for one in outcomes) > 1
    again = Replay(tasks, RACK, DEFAULT, faults=faults).run()
    assert starts(again) == starts(outcomes)


def test_first_come_first_served_starts_in_order() -> None:
    outcomes = Replay(workload(5), RACK, Policy(backfill=Backfill.NONE)).run()
    times = [one.started_s for one in sorted(outcomes, key=lambda one: one.task.number)]
    assert times == sorted(times)


@pytest.mark.parametrize("policy", [Policy(predict=False), TEXTBOOK_EASY, Policy(backfill=Backfill.GREEDY)])
def test_waking_up_for_nothing_changes_nothing(policy: Policy) -> None:
    """As long as nothing is predicted: a prediction that has passed is news of its own."""
    tasks = workload(7)
    plain, woken = Replay(tasks, RACK, policy), Replay(tasks, RACK, policy)
    for number in range(2000):
        woken.at(number * 7.3, lambda _now: None)
    assert starts(woken.run()) == starts(plain.run())


def test_other_names_change_nothing() -> None:
    tasks = workload(8)
    renamed = [
        Task(t.number, t.submit_s, t.run_s, t.limit_s, t.processors, f"x{t.user}", f"y{t.program}") for t in tasks
    ]
    assert starts(Replay(renamed, RACK, DEFAULT).run()) == starts(Replay(tasks, RACK, DEFAULT).run())


def test_exact_limits_keep_the_promise_made_to_each_job_by_conservative_backfill() -> None:
    """With exact estimates nobody starts later under conservative backfill than first come, first served."""
    tasks = [Task(t.number, t.submit_s, t.run_s, t.run_s, t.processors) for t in workload(9)]
    pool = Machines(4, 8, Layout.POOL)
    fcfs = starts(Replay(tasks, pool, Policy(backfill=Backfill.NONE, predict=False)).run())
    conservative = starts(Replay(tasks, pool, Policy(backfill=Backfill.CONSERVATIVE, predict=False)).run())
    assert all(conservative[number] <= fcfs[number] + 1e-6 for number in fcfs)


def test_a_tiny_schedule_by_hand() -> None:
    """Eight processors: 6 for 100 s, then 8 are wanted (reserved at 100), a short 2 fits before, a long 2 does not."""
    tasks = [Task(1, 0, 100, 100, 6), Task(2, 1, 50, 50, 8), Task(3, 2, 90, 90, 2), Task(4, 3, 200, 200, 2)]
    outcomes = Replay(tasks, Machines(1, 8), TEXTBOOK_EASY).run()
    assert starts(outcomes) == {1: 0, 2: 100, 3: 2, 4: 150}
    found = measure(outcomes, Machines(1, 8))
    assert found.wait_mean_s == pytest.approx((0 + 99 + 0 + 147) / 4)
    assert found.slowdown_mean == pytest.approx((1 + 149 / 50 + 1 + 347 / 200) / 4)
    assert found.makespan_s == 350
    assert found.utilisation == pytest.approx((600 + 400 + 180 + 400) / (350 * 8))


def swf(*fields: tuple[int, str]) -> str:
    values = ["1", "0", "-1", "100", "4", "-1", "-1", "8", "200", "-1", "1", "3", "1", "7", "1", "-1", "-1", "-1"]
    for index, value in fields:
        values[index - 1] = value
    return " ".join(values)


def test_swf_conventions() -> None:
    lines = [
        "; comment",
        "",
        swf(),
        swf((1, "2"), (8, "-1"), (9, "-1")),
        swf((4, "-1")),
        swf((4, "0")),
        swf((11, "5")),
    ]
    tasks = list(parse_swf(lines))
    assert [task.processors for task in tasks] == [8, 4, 8]
    assert [task.limit_s for task in tasks] == [200, 100, 200]
    assert (tasks[0].user, tasks[0].program) == ("user3", "program7")


@pytest.mark.parametrize(("line", "sentence"), [("1 2 x", "line 1 is not a job"), ("1 2 3", "line 1 has 3 fields")])
def test_a_file_that_is_no_workload_is_refused_with_its_line(line: str, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=sentence):
        list(parse_swf([line]))


@pytest.mark.parametrize("text", ["8", "0x4", "4x", "axb"])
def test_a_rack_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(WorkloadError, match="write nodes x processors"):
        parse_machines(text, Layout.SINGLE)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.swf").write_text("; nothing\n")
    with pytest.raises(WorkloadError, match="has no job that ran"):
        read(tmp_path / "empty.swf")


def test_the_command_prints_a_table_and_writes_a_picture(tmp_path: Path) -> None:
    trace = tmp_path / "small.swf"
    trace.write_text("\n".join(swf((1, str(n)), (2, str(n * 10)), (8, str(1 + n % 40))) for n in range(1, 60)))
    picture = tmp_path / "out.svg"
    options = [str(trace), "--nodes", "2x16", "--policy", "default,fcfs", "--check", "--picture", str(picture)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "default" in result.output
    assert "28 jobs were skipped: they fit on no node" in result.output
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--nodes", "x"], "is not a rack"),
        (["--policy", "best"], "there is no policy called 'best'"),
        ([], "No such file"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path: Path, options: list[str], sentence: str) -> None:
    trace = tmp_path / "small.swf"
    if options:
        trace.write_text(swf())
    result = CliRunner().invoke(main, [str(trace), *options])
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_a_chart_is_well_formed_whatever_is_in_it() -> None:
    from xml.etree import ElementTree

    lines = [Line("<a&b>", [(0.0, 1.0), (5.0, 3.0)]), Line("flat", [(1.0, 2.0)])]
    ElementTree.fromstring(draw([Chart("t", "x", "y", lines), Chart("t", "x", "y", lines, log_x=True, log_y=True)]))
