"""`racksack doctor` on this machine and up to the controller; end_to_end/test_doctor.py has what a controller finds."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.client.conftest import Cli, Ended
from tests.client.stand_in import StandIn

from racksack.client import Client
from racksack.doctor import programs, settings
from racksack.transport import connection
from racksack.transport.target import config_file

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")

NOT_ASKED = [("controller", "all"), ("nodes", "all"), ("jobs", "all")]


def finding(ended: Ended, what: str, part: str = "client") -> dict[str, Any]:
    """The one finding of this name."""
    (found,) = [one for one in ended.json if (one["part"], one["what"]) == (part, what)]
    return found


def verdict(ended: Ended, what: str, part: str = "client") -> str:
    return str(finding(ended, what, part)["verdict"])


def names(ended: Ended, verdict: str) -> list[tuple[str, str]]:
    return [(one["part"], one["what"]) for one in ended.json if one["verdict"] == verdict]


def test_when_all_is_well_everything_is_told_in_order(cli: Cli, controller: StandIn) -> None:
    controller.findings = [{"part": "nodes", "what": "r1", "verdict": "ok", "sentence": "up\x1b[2J"}]
    ended = cli("racksack", "doctor", "--json")
    assert ended.code == 0
    assert [(one["part"], one["what"]) for one in ended.json] == [
        *(("client", what) for what in ("version", "configuration", "ssh", "rsync", "connection", "versions", "clock")),
        ("nodes", "r1"),
    ]
    assert {one["verdict"] for one in ended.json} == {"ok"}
    assert "RACKSACK_CONTROLLER" in finding(ended, "configuration")["sentence"]
    lines = cli("racksack", "doctor").out.splitlines()
    assert len(lines) == len(ended.json)
    assert lines[-1].split() == ["ok", "nodes", "r1", "up\\x1b[2J"]


def test_a_failure_anywhere_is_exit_one_and_a_warning_is_not(cli: Cli, controller: StandIn) -> None:
    controller.findings = [{"part": "jobs", "what": "waiting", "verdict": "warning", "sentence": "so so"}]
    assert cli("racksack", "doctor").code == 0
    controller.findings[0]["verdict"] = "not_looked_at"
    assert cli("racksack", "doctor").code == 0
    controller.findings[0]["verdict"] = "failed"
    assert cli("racksack", "doctor").code == 1


def test_which_controller_and_why(cli: Cli, controller: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text(f"controller: {controller.spool}\n")
    told = finding(cli("racksack", "doctor", "--json"), "configuration")["sentence"]
    assert f"named by RACKSACK_CONTROLLER, which wins over {config_file()}" in told
    told = finding(cli("racksack", "--controller", str(controller.spool), "doctor", "--json"), "configuration")[
        "sentence"
    ]
    assert f"named by --controller, which wins over RACKSACK_CONTROLLER and {config_file()}" in told
    monkeypatch.delenv("RACKSACK_CONTROLLER")
    told = finding(cli("racksack", "doctor", "--json"), "configuration")["sentence"]
    assert told.endswith(f"named by {config_file()}")


def test_on_the_controllers_own_machine_the_embedded_one_is_hardly_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "REMOTE_SPOOL", str(tmp_path / "none"))
    target, found = settings.look_at_settings(None)
    assert found.verdict == "ok"
    assert target is not None
    assert str(target.home) in found.sentence
    monkeypatch.setattr(settings, "REMOTE_SPOOL", str(tmp_path))
    assert settings.look_at_settings(str(tmp_path))[1].verdict == "ok"
    _, found = settings.look_at_settings(None)
    assert found.verdict == "warning"
    assert f"--controller {tmp_path} names it" in found.sentence


def test_what_depends_on_a_bad_configuration_is_not_looked_at(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text("controler: rack\n")
    ended = cli("racksack", "doctor", "--json")
    assert ended.code == 1
    assert names(ended, "failed") == [("client", "configuration")]
    assert str(config_file()) in finding(ended, "configuration")["sentence"]
    assert names(ended, "not_looked_at") == [("client", "login"), ("client", "connection"), *NOT_ASKED]
    assert "verdict" in finding(ended, "rsync")


def test_a_controller_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    ended = cli("racksack", "doctor", "--controller", str(tmp_path / "nowhere"), "--json")
    assert ended.code == 1
    assert names(ended, "failed") == [("client", "connection")]
    assert names(ended, "not_looked_at") == NOT_ASKED
    told = finding(ended, "connection")["sentence"]
    assert "no controller is running there" in told
    assert "journalctl" in told


def test_a_controller_that_is_mute(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT_S", 1.0)
    monkeypatch.setattr("racksack.client.ANSWER_TIMEOUT_S", 0.5)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "controller.sock"))
        mute.listen(1)
        ended = cli("racksack", "doctor", "--controller", str(tmp_path), "--json")
        assert "silent" in finding(ended, "connection")["sentence"]
        others = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(str(tmp_path / "controller.sock"))
        ended = cli("racksack", "doctor", "--controller", str(tmp_path), "--json")
        assert ended.code == 1
        assert "no longer accepts connections" in finding(ended, "connection")["sentence"]
        for other in others:
            other.close()


def test_another_version_and_another_time(cli: Cli, controller: StandIn) -> None:
    controller.version, controller.ahead_s = "99.1", 3600.0
    ended = cli("racksack", "doctor", "--json")
    assert ended.code == 0
    assert names(ended, "warning") == [("client", "versions"), ("client", "clock")]
    assert "the controller is 99.1" in finding(ended, "versions")["sentence"]
    assert "is -3600 s off the controller's" in finding(ended, "clock")["sentence"]


def test_a_controller_that_knows_no_doctor(cli: Cli, controller: StandIn) -> None:
    controller.refuse_next = (404, "GET /api/v1/controller: not found", 1)
    ended = cli("racksack", "doctor", "--json")
    assert ended.code == 1
    assert "a different version" in finding(ended, "connection")["sentence"]
    controller.findings = [{"part": "nodes", "what": "r1", "verdict": "splendid", "sentence": "of a newer one"}]
    ended = cli("racksack", "doctor", "--json")
    assert names(ended, "failed") == [("controller", "all")]
    assert "a different version" in finding(ended, "all", "controller")["sentence"]
    assert names(ended, "not_looked_at") == NOT_ASKED[1:]


def test_an_answer_of_something_else(cli: Cli, controller: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    controller.garbage_next = b"welcome to my router"
    ended = cli("racksack", "doctor", "--json")
    assert ended.code == 1
    assert "cannot understand" in finding(ended, "connection")["sentence"]
    monkeypatch.setattr(Client, "controller", lambda _self: {"version": "0.1.0"})
    assert "lacks its time" in finding(cli("racksack", "doctor", "--json"), "connection")["sentence"]


def test_no_such_node(cli: Cli, controller: StandIn) -> None:
    controller.nodes = [{"name": "r1"}]
    assert cli("racksack", "doctor", "r1").code == 0
    ended = cli("racksack", "doctor", "r1", "r2")
    assert ended.code == 3
    assert "r2" in ended.err


VERSIONS = [
    ("ssh", "echo OpenSSH_6.7p1 Debian-5, OpenSSL 1.0.1t >&2", "failed", "install 6.8 or newer"),
    ("ssh", "echo OpenSSH_10.0p2, OpenSSL 3.5 >&2", "ok", "version 10.0"),
    ("rsync", "echo 'rsync  version 2.6.9  protocol version 29'", "failed", "install 3.1.0 or newer"),
    ("rsync", "echo 'rsync  version v3.4.1  protocol version 32'", "ok", "version 3.4.1"),
    ("rsync", "echo 'openrsync: protocol version 29'", "warning", "openrsync"),
    ("rsync", "exit 3", "warning", "code 3"),
    ("rsync", "exec sleep 60", "failed", "within 1 s"),
]


@pytest.mark.parametrize(("program", "script", "expected", "words"), VERSIONS)
def test_programs_of_many_ages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, script: str, expected: str, words: str
) -> None:
    """Each is a program that says what a real one of that version says."""
    monkeypatch.setattr(programs, "VERSION_S", 1.0 if "sleep" in script else 20.0)
    (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = programs.look_at_ssh(is_needed=True) if program == "ssh" else programs.look_at_rsync()
    assert found.verdict == expected, found
    assert words in found.sentence


def test_without_programs(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = cli("racksack", "doctor", "--controller", "rack", "--json")
    assert ended.code == 1
    assert names(ended, "failed") == [("client", "ssh"), ("client", "rsync")]
    assert names(ended, "not_looked_at") == [("client", "login"), ("client", "connection"), *NOT_ASKED]
    assert "openssh-client" in finding(ended, "ssh")["sentence"]
    local = cli("racksack", "doctor", "--controller", str(tmp_path), "--json")
    assert verdict(local, "ssh") == "ok", "a controller on this machine needs none"


def test_it_imports_nothing_of_the_controller(controller: StandIn) -> None:
    text = "import sys; from racksack.main import racksack; sys.argv = ['racksack', 'doctor']; racksack(); "
    text += "print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert not {"aiohttp", "numpy", "racksack_controller"} & set(done.stderr.split())
