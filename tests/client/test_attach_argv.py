"""`racksack attach` runs what a controller answers only where it is a way into a terminal."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack.attach_argv import check, user_to_run_as
from racksack.errors import RefusedError

PYTHON = ["/usr/bin/python3.11", "-I", "-S", "-X", "utf8", "/h/.racksack/x/agents/d/racksack_agent/__main__.py"]
GOOD = [
    ["/usr/bin/tmux", "-S", "/h/.racksack/tmux", "-f", "/dev/null", "attach-session", "-t", "=rs-42.1"],
    ["tmux", "-u", "-S", "/h/tmux", "-f", "/dev/null", "attach-session", "-r", "-t", "=rs-42.1"],
    ["env", "SCREENDIR=/h/screen", "/usr/bin/screen", "-x", "rs-42.1"],
    [*PYTHON, "shell", "/h/.racksack/x/attempts/42.1"],
    ["ssh", "-t", "-F", "/tmp/racksack-ssh-x/config", "node", "--", "tmux attach-session -t =x; anything"],
]
BAD: list[list[str]] = [
    [],
    ["sh", "-c", "id"],
    ["tmux"],
    ["tmux", "-f", "/tmp/evil.conf", "attach-session", "-t", "=x"],
    ["tmux", "new-session", "id"],
    ["tmux", "-S", "/h/tmux", "attach-session", "-t", "=x", ";", "run-shell", "id"],
    ["tmux", "-S", "/h/tmux", "attach-session", "-t", "x;run-shell id"],
    ["tmux", "-S"],
    ["env", "LD_PRELOAD=/evil.so", "screen", "-x", "x"],
    ["env", "SCREENDIR=/h", "screen", "-X", "exec", "id"],
    ["python3", "-c", "import os"],
    [*PYTHON, "shell", "/h", "more"],
    [*PYTHON[:5], "/tmp/evil.py", "shell", "/h"],
    ["ssh", "-t", "-o", "ProxyCommand=id", "node", "--", "true"],
    ["ssh", "-t", "-F", "/c", "-oProxyCommand=id", "--", "true"],
]


@pytest.mark.parametrize("argv", GOOD)
def test_ways_into_a_terminal(argv: list[str]) -> None:
    check(argv)


@pytest.mark.parametrize("argv", BAD, ids=range(len(BAD)))
def test_anything_else_is_refused(argv: list[str]) -> None:
    with pytest.raises(RefusedError, match="not run"):
        check(argv)


def test_the_command_refuses(cli: Cli, controller: StandIn, tmp_path: Path) -> None:
    controller.add_job("x", "running")
    controller.attach_argv = ["touch", str(tmp_path / "run")]
    ended = cli("racksack", "attach", "1")
    assert ended.code == 5
    assert not (tmp_path / "run").exists()


def test_whose_way_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        assert user_to_run_as(path) is None
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
            assert user_to_run_as(path) == (65534, 65534), "root does not run what another user says"
    with pytest.raises(RefusedError):
        user_to_run_as(tmp_path / "none")
