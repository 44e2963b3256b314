"""What is advised from what the last runs used, and when nothing is."""

from __future__ import annotations

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.advice import advise
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.history import History
from racksack_controller.core.why import why_job
from racksack_controller.web.usage import job_usage, program_usage
from racksack_jobspecs.states import JobState
from tests.core.builders import GIB, Bench, inventory, job, node, report, request


def ran(
    bench: Bench, number: int, *, peak_gib: float = 5.1, cpu_s: float = 100.0, run_s: float = 1000.0, **changes: object
) -> None:
    """A job runs and ends."""
    wants = request(16, 32)
    bench.submit(job(number, wants, name=f"train{number}", entrypoint="train.py", time_limit_s=200_000.0))
    key = bench.run(number)
    ended = {"ram_peak_bytes": int(peak_gib * GIB), "cpu_s": cpu_s, "ended_at_s": bench.now + run_s, **changes}
    bench.happen(ev.Reported("n1", report(key, "ended", started_at_s=bench.now, **ended)), ev.Collected(key))


def bench_with(runs: int, **changes: object) -> Bench:
    bench = Bench(node(inventory=inventory(16, 64)))
    for number in range(1, runs + 1):
        ran(bench, number, **changes)  # type: ignore[arg-type]
    return bench


def advice(bench: Bench, cpus: float = 16, ram_gib: float = 32, limit_s: float | None = 200_000.0) -> list[str]:
    asked = job(99, request(cpus, ram_gib), name="train99", entrypoint="train.py", time_limit_s=limit_s)
    return list(advise(bench.state.history, "ann", asked.spec))


def test_too_much_of_everything_is_said_with_what_would_do() -> None:
    assert advice(bench_with(14)) == [
        "the last 12 runs of train.py peaked at 5.1G of 32G asked; --ram 7G would do",
        "the last 12 runs of train.py kept 0.1 of 16 CPUs busy on average; --cpus 1 would do",
        "the last 12 runs of train.py took 16m40s at most of 2d7h allowed; with --time-limit 25m00s it may start"
        " earlier, beside larger jobs that wait",
    ]


def test_nothing_is_said_where_it_is_about_right_or_little_is_known() -> None:
    assert advice(bench_with(2)) == []
    bench = bench_with(5)
    assert advice(bench, cpus=1, ram_gib=8, limit_s=3600.0) == []
    assert advice(bench, cpus=1, ram_gib=8, limit_s=None) == []
    assert list(advise(bench.state.history, "bob", job(1, name="train1", entrypoint="train.py").spec)) == []


def test_the_largest_run_counts_not_the_usual_one() -> None:
    bench = bench_with(5)
    ran(bench, 6, peak_gib=30.0, cpu_s=15_900.0)
    assert [line for line in advice(bench) if "--ram" in line or "--cpus" in line] == []


def test_runs_that_were_short_of_memory_are_told_to_ask_for_more() -> None:
    bench = bench_with(4)
    ran(bench, 5, peak_gib=32.0, outcome="oom")
    assert advice(bench)[0] == "1 of the last 5 runs of train.py ran out of memory with 32G or more; try --ram 48G"
    assert not any("--ram" in line for line in advice(bench, ram_gib=64))


def test_a_jobs_usage_and_the_sums_of_its_program() -> None:
    bench = Bench(node(inventory=inventory(16, 64)))
    runs = []
    for number, outcome in ((1, "done"), (2, "failed")):
        bench.submit(job(number, request(16, 32), name=f"t{number}", submitted_at_s=bench.now, time_limit_s=4000.0))
        key = bench.run(number)
        attempt = bench.state.attempts[key]
        running = job_usage(bench.state.jobs[number], [attempt], bench.state.history, bench.now + 5.0)
        assert (running["wall_s"], running["cpu_efficiency"], running["ram_efficiency"]) == (
            bench.now + 5.0 - (attempt.started_at_s or 0.0),
            None,
            None,
        )
        times = {"started_at_s": attempt.started_at_s, "ended_at_s": (attempt.started_at_s or 0.0) + 1000.0}
        told = report(key, "ended", outcome=outcome, cpu_s=4000.0, ram_peak_bytes=8 * GIB, **times)
        bench.happen(ev.Reported("n1", told), ev.Collected(key))
        runs.append((bench.state.jobs[number], bench.state.attempts[key]))
    usage = job_usage(runs[0][0], [runs[0][1]], History(), bench.now)
    parts = ("wall_s", "cpu_efficiency", "ram_efficiency", "time_efficiency")
    assert [usage[part] for part in parts] == [1000.0, 0.25, 0.25, 0.25]
    [program] = program_usage(runs, bench.state.history, "t#")
    assert (program["name"], program["runs"], program["failed"]) == ("t#", 2, 1)
    assert program["cpu_hours_used"] == pytest.approx(8000 / 3600)
    assert program["cpu_hours_asked"] == pytest.approx(32_000 / 3600)
    assert program_usage(runs, bench.state.history, "other") == []
    assert runs[1][1].state is JobState.FAILED


def test_who_is_ahead_is_counted_over_owners_and_priorities() -> None:
    bench = Bench(node())
    bench.submit(job(1, request(8), time_limit_s=1000.0))
    bench.run(1)
    jobs = [job(n, request(8), owner="abc"[n % 3], priority=n % 2, submitted_at_s=float(n)) for n in range(2, 12)]
    bench.submit(*jobs)
    bench.place()
    asked = job(0, request(8), owner="new", priority=0, submitted_at_s=6.5)
    sentence = why_job(bench.reading(Policy()), asked)
    assert sentence.endswith("; 8 jobs are ahead, the first is 3 of a")
    shares = Policy(fair_share=True)
    bench.now += 500.0
    assert "8 jobs are ahead" in why_job(bench.reading(shares), asked)
