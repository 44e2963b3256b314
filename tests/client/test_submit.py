"""`submit` end to end against a real spool: what arrives, what is said, and what nothing is sent for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack_jobspecs.snapshot import digest_of, manifest_of


def test_submits_with_options_after_the_positionals(cli: Cli, controller: StandIn, project: Path) -> None:
    ended = cli(
        "submit", project, "main.py", "--cpus", "16", "--mem", "32GiB", "-J", "mlp-train", "--", "--epochs", "10"
    )
    assert ended.code == 0, ended.err
    assert ended.out == "Submitted job 1 (mlp-train): 16 CPU, 32G RAM; 2 files 4.9K (2 sent); waits for r1 (full)\n"
    assert "2 files" in ended.err
    assert controller.jobs[1]["cpus"] == 16


def test_what_arrives_has_the_digest_that_was_announced(cli: Cli, controller: StandIn, project: Path) -> None:
    (project / "empty").mkdir()
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o750)
    (project / "link").symlink_to("data/prices.bin")
    announced = cli("submit", project, "run.sh", "--json").json
    (snapshot,) = (controller.spool / "snapshots").iterdir()
    assert snapshot.name == announced["snapshot"] == digest_of(manifest_of(project))


def test_the_second_submission_sends_nothing(cli: Cli, controller: StandIn, project: Path) -> None:
    assert cli("submit", project, "main.py").code == 0
    again = cli("submit", project, "main.py")
    assert "Submitted job 2 (main)" in again.out
    assert "(none sent)" in again.out
    assert not list((controller.spool / "incoming").iterdir())


def test_one_changed_file_is_all_that_is_sent(cli: Cli, controller: StandIn, project: Path) -> None:
    cli("submit", project, "main.py")
    (project / "main.py").write_text("print('changed')\n")
    facts = cli("submit", project, "main.py", "--json").json
    assert facts["sent_files"] == 1
    new = controller.spool / "snapshots" / facts["snapshot"]
    assert (new / "main.py").read_text() == "print('changed')\n"
    assert (new / "data/prices.bin").stat().st_nlink == 2


def test_parsable_prints_the_id_alone(cli: Cli, controller: StandIn, project: Path) -> None:
    ended = cli("submit", "--parsable", project, "main.py")
    assert (ended.out, ended.err) == ("1\n", "")


def test_an_array_prints_its_range(cli: Cli, controller: StandIn, project: Path) -> None:
    ended = cli("submit", project, "main.py", "--array", "0-4%2")
    assert ended.out.startswith("Submitted 5 jobs 1-5 (main): ")


def test_a_dry_run_sends_nothing(cli: Cli, controller: StandIn, project: Path) -> None:
    ended = cli("submit", project, "main.py", "--dry-run")
    assert ended.code == 0
    assert "fits on r1" in ended.out
    assert not list((controller.spool / "incoming").iterdir())
    assert not controller.jobs


def test_what_never_runs_is_said_before_anything_is_sent(cli: Cli, controller: StandIn, project: Path) -> None:
    controller.never = "no node has 128 CPU"
    ended = cli("submit", project, "main.py", "--cpus", "128")
    assert ended.code == 6
    assert "no node has 128 CPU; nothing was sent" in ended.err
    assert not list((controller.spool / "incoming").iterdir())


def test_every_mistake_is_told_at_once_in_words_of_options(cli: Cli, controller: StandIn, project: Path) -> None:
    ended = cli("submit", project, "main.py", "--ram", "32", "--time", "5", "--cpus", "-3", "--env", "1X=2")
    assert ended.code == 2
    assert "--ram: 32 has no unit; write 32G for gigabytes or 32M for megabytes" in ended.err
    assert "--time: 5 has no unit" in ended.err
    assert "--cpus: '-3' is not a number of CPUs" in ended.err
    assert "--env 1X: is not a variable's name" in ended.err


def test_options_of_the_program_belong_behind_the_dashes(cli: Cli, controller: StandIn, project: Path) -> None:
    ended = cli("submit", project, "main.py", "--epochs", "3")
    assert ended.code == 2
    assert "options for your program go after --" in ended.err


@pytest.mark.parametrize(
    ("entrypoint", "said"),
    [
        ("nothere.py", "there is no nothere.py in"),
        ("../other.py", "points outside the project"),
        ("x/../../other.py", "points outside the project"),
        ("/etc/passwd", "entrypoint"),
        ("data", "is a folder"),
        ("venv/x.py", "is left out by a rule"),
    ],
)
def test_a_wrong_entrypoint(cli: Cli, controller: StandIn, project: Path, entrypoint: str, said: str) -> None:
    (project / "venv").mkdir()
    (project / "venv/x.py").write_text("")
    ended = cli("submit", project, entrypoint)
    assert ended.code in (1, 2)
    assert said in ended.err
    assert not controller.jobs


def test_an_entrypoint_may_be_given_relative_to_here(
    cli: Cli, controller: StandIn, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    assert cli("submit", "project", "project/main.py").code == 0
    assert controller.jobs[1]["entrypoint"] == "main.py"


def test_all_that_cannot_be_sent_is_named(cli: Cli, controller: StandIn, project: Path) -> None:
    (project / "absolute").symlink_to("/etc/passwd")
    (project / "data/up").symlink_to("../../elsewhere")
    (project / "inside").symlink_to("data/../main.py")
    os.mkfifo(project / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(project / "s"))
        ended = cli("submit", project, "main.py")
    assert ended.code == 1
    assert "absolute points outside the project (to /etc/passwd)" in ended.err
    assert "data/up points outside the project" in ended.err
    assert "pipe is a device, socket or pipe" in ended.err
    assert "inside" not in ended.err
    assert (
        cli(
            "submit",
            project,
            "main.py",
            "--exclude",
            "absolute",
            "--exclude",
            "up",
            "--exclude",
            "pipe",
            "--exclude",
            "s",
        ).code
        == 0
    )


def test_names_of_any_bytes_travel(cli: Cli, controller: StandIn, project: Path) -> None:
    odd = [b"b\xff\xfe.bin", b"new\nline", b"-rf", b"quo'te\"", b"$(touch x)", b" ", "é ü".encode()]
    for name in odd:
        (project / os.fsdecode(name)).write_bytes(name)
    facts = cli("submit", project, "main.py", "--json").json
    snapshot = controller.spool / "snapshots" / facts["snapshot"]
    assert digest_of(manifest_of(snapshot)) == digest_of(manifest_of(project))
    assert {os.fsencode(path.name) for path in snapshot.iterdir()} >= set(odd)


def test_the_receipt_says_what_was_left_out_and_by_which_rule(cli: Cli, controller: StandIn, project: Path) -> None:
    for folder in (".git", "venv", "data/venv", "src/__pycache__"):
        (project / folder).mkdir(parents=True)
        (project / folder / "x").write_text("x")
    (project / ".racksackignore").write_text("# comment\n*.log\n!keep.log\n/data/prices.bin\n")
    for name in ("a.log", "b.log", "keep.log", "big.bin"):
        (project / name).write_bytes(b"x" * (2 * 2**20 if name == "big.bin" else 1))
    facts = cli("submit", project, "main.py", "--exclude", "sub/", "--json").json
    left_out = {row["pattern"]: (row["source"], row["entries"]) for row in facts["left_out"]}
    assert left_out == {
        ".git": ("default", 1),
        "venv": ("default", 2),
        "__pycache__": ("default", 1),
        "*.log": (".racksackignore", 2),
        "/data/prices.bin": (".racksackignore", 1),
    }
    assert facts["largest"][0] == {"path": "big.bin", "size_bytes": 2 * 2**20}
    snapshot = controller.spool / "snapshots" / facts["snapshot"]
    names = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*")}
    assert names == {".racksackignore", "main.py", "keep.log", "big.bin", "data", "src"}


def test_include_brings_back_what_is_left_out_by_default(cli: Cli, controller: StandIn, project: Path) -> None:
    (project / "venv").mkdir()
    (project / "venv/pyvenv.cfg").write_text("x")
    facts = cli("submit", project, "main.py", "--include", "venv", "--json").json
    assert (controller.spool / "snapshots" / facts["snapshot"] / "venv/pyvenv.cfg").exists()


def test_a_job_file_with_a_local_project(cli: Cli, controller: StandIn, project: Path, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: from-file\nproject: ./project\nentrypoint: main.py\ncpus: 2\nram: 3G\n")
    ended = cli("submit", file, "--cpus", "4")
    assert ended.code == 0, ended.err
    assert "(from-file): 4 CPU, 3G RAM" in ended.out


def test_mistakes_of_a_job_file_carry_their_lines(cli: Cli, controller: StandIn, project: Path, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("project: ./project\n\n# a comment\nentrypoint: main.py\nram: 3\nmem: 4G\n")
    ended = cli("submit", file)
    assert ended.code == 2
    assert f"{file}: line 5: ram: 3 has no unit" in ended.err
    assert f"{file}: line 6: mem: is not a known key; did you mean ram?" in ended.err


def test_a_folder_without_an_entrypoint_asks_for_one(cli: Cli, controller: StandIn, project: Path) -> None:
    ended = cli("submit", project)
    assert ended.code == 2
    assert "name the file in" in ended.err


def test_a_repeated_key_hands_the_job_in_once(cli: Cli, controller: StandIn, project: Path) -> None:
    for _ in range(2):
        assert "job 1 " in cli("submit", project, "main.py", "--submission-key", "k1").out
    assert len(controller.jobs) == 1


def test_a_name_full_of_tricks_is_kept_and_shown_harmless(cli: Cli, controller: StandIn, project: Path) -> None:
    name = "x$(reboot);\x1b[31m'\"<b>"
    ended = cli("submit", project, "main.py", "--name", name)
    assert ended.code == 2
    assert "\x1b" not in ended.err + ended.out
    name = "x $(reboot); '\"<b>"
    assert cli("submit", project, "main.py", "--name", name).code == 0
    assert controller.jobs[1]["name"] == name


def test_environment_from_options_and_file(
    cli: Cli, controller: StandIn, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").write_text("# secrets\nA=1\nB=two words\n")
    monkeypatch.setenv("FROM_HERE", "here")
    assert cli("submit", project, "main.py", "--env-file", tmp_path / "env", "-e", "A=2", "-e", "FROM_HERE").code == 0
    ended = cli("submit", project, "main.py", "-e", "NOT_SET_ANYWHERE")
    assert ended.code == 2
    assert "NOT_SET_ANYWHERE has no value" in ended.err


def test_wait_reports_the_end_by_exit_code(cli: Cli, controller: StandIn, project: Path) -> None:
    import threading

    def fail_soon() -> None:
        while 1 not in controller.jobs:
            threading.Event().wait(0.01)
        controller.finish(1, "failed", exit_code=7, outcome_reason="the program ended with code 7")

    thread = threading.Thread(target=fail_soon)
    thread.start()
    ended = cli("submit", project, "main.py", "--wait")
    thread.join()
    assert ended.code == 10
    assert "failed: exit code 7" in ended.err


def test_many_small_files_are_sent_with_a_warning(cli: Cli, controller: StandIn, project: Path) -> None:
    for folder in range(100):
        (project / f"d{folder}").mkdir()
        for number in range(101):
            (project / f"d{folder}" / f"{number}").write_bytes(b"x")
    ended = cli("submit", project, "main.py")
    assert ended.code == 0
    assert "warning: 10102 files" in ended.err
