"""The smaller commands: what they print, for people and for scripts, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack.main import ALIASES, COMMANDS, racksack_group
from racksack.text import clean, table

NODE = {
    "name": "r1",
    "kind": "ssh",
    "state": "up",
    "cpus": {"used": 4, "total": 16},
    "ram_bytes": {"used": 2**33, "total": 2**36},
    "gpus": [{"index": 0, "model": "RTX", "vram_bytes": 2**34, "job": 1}],
    "jobs": [1],
    "labels": ["epyc"],
}


def test_status_is_a_table_that_is_never_cut(cli: Cli, controller: StandIn) -> None:
    controller.add_job("a" * 200, "running", node="r1", started_at_s=0, why="w" * 300)
    controller.nodes.append(NODE)
    ended = cli("racksack", "status")
    assert ended.code == 0
    header, row, blank, strip = ended.out.splitlines()
    assert header.split() == [
        "ID",
        "NAME",
        "USER",
        "STATE",
        "NODE",
        "CPU",
        "RAM",
        "GPU",
        "SUBMITTED",
        "RUN-TIME",
        "WHY",
    ]
    assert "a" * 200 in row
    assert "w" * 300 in row
    assert "RUNNING" in row
    assert blank == ""
    assert strip.split() == ["r1", "UP", "CPU", "4/16", "RAM", "8G/64G", "GPU", "1/1", "jobs", "1"]
    assert "\x1b" not in ended.out


def test_status_as_json_has_local_times(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "running")
    job = cli("racksack", "status", "--json").json["jobs"][0]
    assert job["state"] == "running"
    assert job["submitted_at"].startswith("20")
    assert job["submitted_at"][-6] in "+-"


def test_what_others_named_cannot_steer_the_terminal(cli: Cli, controller: StandIn) -> None:
    evil = "\x1b]0;owned\x07\r\nfake\u202egnp.exe\u2028\x9b2J"
    controller.add_job(evil, "running", why=evil, owner=evil, node=evil)
    for argv in (["status"], ["status", "1"], ["status", "--all"], ["history"]):
        shown = cli("racksack", *argv).out
        assert not any(character in shown for character in "\x1b\x07\r\u202e\u2028\x9b")
        assert "\\x1b]0;owned\\x07\\x0d\\x0afake\\u202egnp.exe" in shown
    assert len(cli("racksack", "status").out.splitlines()) == 4


def test_clean_keeps_what_is_harmless() -> None:
    assert clean("größe 模型 ✓") == "größe 模型 ✓"
    assert clean(os.fsdecode(b"a\xff")) == "a\\xff"


def test_columns_align_with_wide_characters() -> None:
    lines = table(("A", "B"), [("模型", "1"), ("xxxx", "2")]).splitlines()
    assert lines[1] == "模型  1"
    assert lines[2] == "xxxx  2"


def test_one_job_is_told_whole(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "running", node="r1", cpus=2.0, entrypoint="main.py")
    told = cli("racksack", "status", "1").out
    assert told.startswith("Job 1 (x) of me: RUNNING on r1\n")
    assert "submitted" in told


def test_ids_names_ranges_and_last(cli: Cli, controller: StandIn) -> None:
    for name in ("a", "b", "b"):
        controller.add_job(name)
    assert cli("racksack", "why", "a").out == "job 1 waits for a node\n"
    assert cli("racksack", "why", "last").out == "job 3 waits for a node\n"
    assert cli("racksack", "why", "1-3").out.count("\n") == 3
    several = cli("racksack", "why", "b")
    assert several.code == 5
    assert "2 jobs are called b (3, 2)" in several.err
    assert cli("racksack", "why", "nobody").code == 3
    assert cli("racksack", "why", "9").code == 3
    assert cli("racksack", "why", "3-1").code == 2
    controller.finish(2)
    assert cli("racksack", "why", "b").out == "job 3 waits for a node\n"


def test_some_of_several_is_partial(cli: Cli, controller: StandIn) -> None:
    controller.add_job()
    ended = cli("racksack", "hold", "1", "77")
    assert ended.code == 8
    assert ended.out == "1 held\n"
    assert cli("racksack", "hold", "77", "78").code == 3


def test_logs_return_at_once_when_nothing_runs_yet(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "queued")
    ended = cli("racksack", "logs", "1")
    assert (ended.code, ended.out) == (0, "")
    assert "is queued and has printed nothing yet" in ended.err


def test_logs_show_both_streams_and_tails(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "done")
    controller.logs[1, "stdout"] = b"".join(b"%d\n" % line for line in range(30_000))
    controller.logs[1, "stderr"] = b"oops\n"
    ended = cli("racksack", "logs", "1")
    assert ended.out.splitlines()[-1] == "29999"
    assert len(ended.out.splitlines()) == 30_000
    assert ended.err == "oops\n"
    assert cli("racksack", "logs", "1", "-n", "2", "--stdout").out == "29998\n29999\n"
    assert len(cli("racksack", "logs", "1", "--tail", "20000", "--stdout").out.splitlines()) == 20_000


def test_logs_of_several_jobs_carry_their_ids(cli: Cli, controller: StandIn) -> None:
    for number in (1, 2):
        controller.add_job("x", "done")
        controller.logs[number, "stdout"] = b"a\nb"
    assert cli("racksack", "logs", "1-2", "--stdout").out == "1: a\n1: b\n2: a\n2: b\n"


def test_following_ends_with_the_job_and_its_code(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "running")
    controller.logs[1, "stdout"] = b"one\n"

    def end() -> None:
        controller.logs[1, "stdout"] += b"two\n"
        controller.logs[1, "stderr"] = b"err\n"
        controller.finish(1, "oom", outcome_reason="it took more than 1G")

    timer = threading.Timer(0.3, end)
    timer.start()
    ended = cli("racksack", "logs", "-f", "1")
    timer.join()
    assert ended.code == 11
    assert ended.out == "one\ntwo\n"
    assert "err\n" in ended.err
    assert "job 1 (x) oom: it took more than 1G" in ended.err


def test_the_programs_own_code_on_request(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "running")
    controller.finish(1, "failed", exit_code=42)
    assert cli("racksack", "wait", "1").code == 10
    assert cli("racksack", "wait", "1", "--exit-code").code == 42


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("done", 0),
        ("failed", 10),
        ("oom", 11),
        ("timeout", 12),
        ("cancelled", 13),
        ("lost", 14),
        ("prepare_failed", 14),
    ],
)
def test_wait_ends_as_the_job_did(cli: Cli, controller: StandIn, state: str, code: int) -> None:
    controller.add_job("x", state)
    assert cli("racksack", "wait", "1").code == code


def test_waiting_has_an_end(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "running")
    ended = cli("racksack", "wait", "1", "--timeout", "0.3s")
    assert ended.code == 124
    assert cli("racksack", "wait", "1", "--timeout", "5").code == 2


def test_cancel_is_idempotent(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "running", node="r1")
    assert cli("racksack", "cancel", "1", "--reason", "wrong data", "-s", "sigint").out == "1 (x) cancelled on r1\n"
    assert controller.posted == [("jobs/1/cancel", {"reason": "wrong data", "signal": "INT"})]
    again = cli("racksack", "cancel", "1")
    assert (again.code, again.out) == (0, "1 (x) has ended already: cancelled\n")
    assert cli("racksack", "cancel").code == 2


def test_cancel_all_asks_first(cli: Cli, controller: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        controller.add_job("x", "running")
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert cli("racksack", "cancel", "--all").code == 130
    assert not controller.posted
    assert cli("racksack", "cancel", "--all", "-y").code == 0
    assert len(controller.posted) == 3


def test_nodes_and_draining(cli: Cli, controller: StandIn) -> None:
    controller.nodes.append(dict(NODE))
    assert "r1" in cli("racksack", "nodes").out
    assert cli("racksack", "nodes", "r9").code == 3
    assert cli("racksack", "nodes", "--json").json[0]["cpus"] == {"used": 4, "total": 16}
    assert "waits for job 1" in cli("racksack", "drain", "r1").out
    assert "reason" not in controller.posted[-1][1]
    assert "waits for job 1" in cli("racksack", "drain", "r1", "--reason", "new fan").out
    wish = {"reason": "new fan", "now": False, "deadline_s": None, "then_off": False}
    assert controller.posted[-1] == ("nodes/r1/drain", wish)
    assert cli("racksack", "drain", "r1", "--reason", "x", "--deadline", "2h", "--then-off").code == 0
    assert controller.posted[-1][1] == {"reason": "x", "now": False, "deadline_s": 7200.0, "then_off": True}
    for wrong in (["--deadline", "2"], ["--deadline", "2h", "--now"]):
        assert cli("racksack", "drain", "r1", "--reason", "x", *wrong).code == 2
    assert cli("racksack", "undrain", "r1").out == "r1 accepts jobs again\n"
    assert cli("racksack", "why", "r1").out == "r1 is fine\n"


def test_history_as_csv(cli: Cli, controller: StandIn) -> None:
    controller.add_job('with "quotes", and commas', "running")
    controller.finish(1)
    header, row = cli("racksack", "history", "--csv").out.splitlines()
    assert header.startswith("id,name,owner,state")
    assert '"with ""quotes"", and commas"' in row
    assert cli("racksack", "history", "--since", "7").code == 2


def test_attach_runs_what_the_controller_says(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "running")
    ended = cli("racksack", "attach", "1")
    assert ended.out == "attached to -t =1\n"
    assert "Ctrl-B d" in ended.err


def test_web_prints_the_address(cli: Cli, controller: StandIn) -> None:
    assert cli("racksack", "web").out == "http://127.0.0.1:8470/?key=once\n"


def test_schema_is_a_json_schema(cli: Cli) -> None:
    schema = cli("racksack", "schema").json
    assert schema["type"] == "object"
    assert "entrypoint" in schema["properties"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["racksack", "submit", "fetch-results"])
def test_completion(cli: Cli, shell: str, program: str) -> None:
    assert program in cli("racksack", "completion", shell, "--program", program).out


def test_an_unknown_command_gets_a_hint(cli: Cli) -> None:
    ended = cli("racksack", "stats")
    assert ended.code == 2
    assert "did you mean status?" in ended.err


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES])
def test_every_command_and_alias_has_help(cli: Cli, name: str) -> None:
    ended = cli("racksack", name, "--help")
    assert ended.code == 0
    assert ended.out.startswith("Usage: racksack")


def test_every_command_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/commands.md").read_text()
    missing = [name for name in COMMANDS if f"racksack {name}" not in text]
    assert not missing
    options: set[str] = set()
    for name in COMMANDS:
        command = racksack_group.get_command(None, name)  # type: ignore[arg-type]
        for parameter in getattr(command, "params", []):
            options.update(word for word in parameter.opts if word.startswith("--"))
    assert not sorted(option for option in options if f"`{option}" not in text and f" {option}" not in text)


def test_a_reader_that_leaves_is_no_error(controller: StandIn) -> None:
    for _ in range(2000):
        controller.add_job("x" * 100)
    argv = [sys.executable, "-c", "from racksack.main import racksack; raise SystemExit(racksack())", "status"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 0


def test_ctrl_c_leaves_the_job_alone_and_says_so(controller: StandIn) -> None:
    import signal

    controller.add_job("x", "running")
    argv = [sys.executable, "-c", "from racksack.main import racksack; raise SystemExit(racksack())", "logs", "-f", "1"]
    controller.logs[1, "stdout"] = b"first\n"
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=20) == 130
    assert b"the job goes on" in said
    assert not controller.posted


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from racksack.text import paint

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "red", Terminal()) == "x"


def test_json_is_plain_ascii(cli: Cli, controller: StandIn) -> None:
    controller.add_job("\x1b\u202eé", "running")
    out = cli("racksack", "status", "--json").out
    assert out.isascii()
    assert json.loads(out)["jobs"][0]["name"] == "\x1b\u202eé"


def test_a_laptop_with_a_wrong_clock(cli: Cli, controller: StandIn, project: Path) -> None:
    """Three hours slow: what is relative to now is so by the controller's clock."""
    import time

    controller.ahead_s = 3 * 3600.0
    there_s = time.time() + controller.ahead_s
    assert cli("submit", project, "main.py", "--begin", "+10m", "-q").code == 0
    begin_s = controller.specs[0].begin_at_s
    assert begin_s is not None
    assert 500 < begin_s - there_s < 700
    controller.jobs[1] |= {"state": "running", "started_at_s": there_s - 120}
    (row,) = [line for line in cli("racksack", "status").out.splitlines() if line.strip().startswith("1 ")]
    assert "2m" in row
