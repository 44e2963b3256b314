"""Replays of one's own history on one's own rack, and on one with more or fewer nodes: the command as it is typed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from racksack_controller.core import events as ev
from racksack_controller.core.records import Wait
from racksack_controller.simulate.main import main
from racksack_controller.store import open_database, save_changes
from racksack_jobspecs.layout import Spool
from tests.core.builders import Bench, gpus, inventory, job, node, report, request

NOW = 2_000_000_000.0

CONFIG = """\
spool: {spool}
nodes:
  r1: {{ssh: {{host: r1, user: me}}, cpus: 8, ram: 32G}}
  r2: {{ssh: {{host: r2, user: me}}, labels: [gpu]}}
scheduling: {{backfill: conservative}}
"""

Run = Callable[..., Result]


def lived(spool: Path) -> None:
    """A store that a controller has written: 44 jobs on two nodes, one after the other though several would fit."""
    bench = Bench(node("r1"), node("r2", inventory=inventory(16, 64, devices=gpus(2)), labels=("gpu",)))
    bench.now = NOW
    for number in range(1, 45):
        changes: dict[str, Any] = {"time_limit_s": 4000.0, "submitted_at_s": NOW + number, "name": f"p{number % 3}"}
        wants = request(2, 4, gpu=1) if number > 40 else request(8, 4)
        if number == 2:
            changes["after"] = (Wait(1),)
        owner = "ann" if number % 2 else "bob"
        bench.submit(job(number, wants, owner=owner, submission=f"key{number}", **changes))
    while bench.state.jobs and bench.state.queued_ids:
        for placed in bench.place():
            times = {"started_at_s": bench.now, "ended_at_s": bench.now + 1000.0, "cpu_s": 900.0}
            bench.now += 1000.0
            ended = report(f"{placed.job}.1", "ended", **times)
            key = ended.attempt
            bench.happen(ev.Reported(placed.node, ended), ev.Collected(key), ev.Removed(placed.node, key), after_s=0.0)
    path = Spool(spool).database
    path.parent.mkdir(parents=True)
    connection = open_database(path)
    save_changes(connection, bench.state.take_changes())
    connection.close()


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    lived(tmp_path / "spool")
    config = tmp_path / "racksack.yaml"
    config.write_text(CONFIG.format(spool=tmp_path / "spool"))
    monkeypatch.setattr("racksack_controller.simulate.scenario.time.time", lambda: NOW + 100_000.0)

    def run(*options: object) -> Result:
        return CliRunner().invoke(main, [*map(str, options), "--config", str(config)])

    return run


def measured(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_would_a_third_server_have_helped(simulate: Run, tmp_path: Path) -> None:
    picture = tmp_path / "out.svg"
    options = ("--from-history", "--add-node", "8x32G", "--add-node", "like:r2", "--check")
    found = measured(simulate(*options, "--json", "--picture", picture))
    assert list(found) == ["as it was", "configured, as it is", "configured, +8x32G, +like:r2"]
    was, now, more = found.values()
    assert was["jobs"] == now["jobs"] == more["jobs"] == 44
    assert was["wait_mean_s"] > now["wait_mean_s"] > 1.5 * more["wait_mean_s"]
    assert now["makespan_s"] > 1.5 * more["makespan_s"]
    assert picture.read_text().count("<polyline") == 6
    table = simulate(*options)
    assert "configured, +8x32G, +like:r2: 4 nodes, 48 CPUs, 192G, 4 GPUs" in table.stderr
    assert "\nconfigured, +8x32G, +like:r2" in table.stdout


def test_would_switching_off_sooner_have_helped(simulate: Run, tmp_path: Path) -> None:
    """r1 can be switched; jobs for r2, which is always on, come first and last."""
    config = tmp_path / "racksack.yaml"
    power = "power: {on: {wol: {mac: '02:00:00:00:00:01'}}, off: ssh, idle_off: 8h, watts: {idle: 100, max: 200}}"
    config.write_text(config.read_text().replace("cpus: 8, ram: 32G", f"cpus: 8, ram: 32G, {power}"))
    line = "{0} {1} -1 600 8 -1 -1 8 900 -1 1 3 1 7 1 -1 -1 -1"
    trace = tmp_path / "t.swf"
    trace.write_text("\n".join(line.format(number, (number // 4) * 20_000) for number in range(1, 40)))
    found = measured(simulate(trace, "--idle-off", "10m", "--boot", "3m", "--check", "--json"))
    slow, quick = found["configured, as it is"], found["configured, off after 10m00s"]
    assert slow["node_hours_on"] > 1.5 * quick["node_hours_on"] > 0
    assert slow["kwh"] > quick["kwh"] > 0
    assert quick["boots"] > slow["boots"]
    assert quick["jobs"] == slow["jobs"] == 39
    table = simulate(trace, "--idle-off", "10m").stdout
    assert table.splitlines()[0].split()[-2:] == ["boots", "kWh"]


def test_without_a_node_its_jobs_are_left_out_and_said_to_be(simulate: Run) -> None:
    result = simulate("--from-history", "--without", "r2", "--policy", "configured,fcfs", "--json")
    assert "configured, -r2: 4 jobs were skipped: they fit on no node" in result.stderr
    assert [one["jobs"] for one in measured(result).values()] == [44, 44, 44, 40, 40]


def test_since_a_time_and_so_many(simulate: Run) -> None:
    assert measured(simulate("--from-history", "--since", "58000s", "--json"))["as it was"]["jobs"] == 3
    assert measured(simulate("--from-history", "--jobs", "5", "--json"))["as it was"]["jobs"] == 5


def test_the_store_is_only_read(simulate: Run, tmp_path: Path) -> None:
    path = Spool(tmp_path / "spool").database
    before = path.read_bytes()
    simulate("--from-history")
    assert path.read_bytes() == before
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (44,)


def test_a_recorded_workload_on_the_own_nodes(simulate: Run, tmp_path: Path) -> None:
    line = "{0} {1} -1 100 4 -1 -1 4 200 -1 1 3 1 7 1 -1 -1 -1"
    trace = tmp_path / "t.swf"
    trace.write_text("\n".join(line.format(number, number * 5) for number in range(1, 60)))
    found = measured(simulate(trace, "--policy", "configured,default", "--json"))
    assert list(found) == ["configured", "default"]
    assert found["default"]["utilisation"] > 0.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "name a workload, or take your own with --from-history"),
        (("--from-history", "--since", "1s"), "no job has run and ended since then"),
        (("--from-history", "--since", "x"), "is not a duration"),
        (("--from-history", "--without", "r9"), "there is no node called 'r9' to leave out; there are r1, r2"),
        (("--from-history", "--without", "r1", "--without", "r2"), "no nodes are left"),
        (
            ("--from-history", "--add-node", "big"),
            "'big' is not a node; write CPUs x memory, such as 32x128G, or like:r1",
        ),
        (("--from-history", "--policy", "best"), "there is no policy called 'best'; choose of configured, default"),
    ],
)
def test_mistakes_get_one_sentence(simulate: Run, options: tuple[str, ...], sentence: str) -> None:
    result = simulate(*options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_configuration_that_is_not_there_and_a_history_without_one(tmp_path: Path) -> None:
    for options, sentence in ((["--config", str(tmp_path / "none")], "cannot be read"), ([], "needs --config")):
        result = CliRunner().invoke(main, ["--from-history", *options])
        assert result.exit_code == 2
        assert sentence in result.stderr
