"""Completion in a shell: what it asks `racksack` for, in bash's, zsh's and fish's words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.client.stand_in import StandIn

BIN = Path(sys.executable).parent


def completed(program: str, shell: str, *words: str, incomplete: str = "") -> list[str]:
    """The lines of an answer; the last word is what stands before the cursor."""
    line = [program, *words, incomplete]
    env = {
        **os.environ,
        f"_{program.upper().replace('-', '_')}_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": incomplete if shell == "fish" else str(len(line) - 1),
    }
    done = subprocess.run([BIN / program], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("command", ["status", "logs", "cancel", "wait", "fetch", "attach", "why", "retry", "usage"])
def test_jobs(controller: StandIn, command: str) -> None:
    controller.add_job("train", "running")
    controller.add_job("sweep", "queued", array_id=2, array_index=5)
    assert completed("racksack", "bash", command) == ["plain,2[5]", "plain,1"]
    assert completed("racksack", "bash", command, incomplete="1") == ["plain,1"]
    assert completed("racksack", "zsh", command)[:3] == ["plain", "2[5]", "sweep queued"]


def test_nodes_and_states(controller: StandIn) -> None:
    controller.nodes = [{"name": "r1", "state": "up"}, {"name": "r2", "state": "off"}]
    assert completed("racksack", "bash", "drain") == ["plain,r1", "plain,r2"]
    assert completed("submit", "bash", "p", "m", "-w", incomplete="r2") == ["plain,r2"]
    assert completed("racksack", "bash", "status", "--state", incomplete="running,q") == ["plain,running,queued"]


def test_paths(controller: StandIn, project: Path) -> None:
    assert completed("submit", "bash", incomplete="pro") == ["file,pro"], "the shell completes the path"
    assert completed("submit", "bash", str(project)) == ["plain,data/", "plain,main.py"]
    assert completed("submit", "bash", str(project), incomplete="data/p") == ["plain,data/prices.bin"]


def test_fish_keeps_whole_help_texts(controller: StandIn) -> None:
    (line,) = [line for line in completed("racksack", "fish", incomplete="controll") if "controller" in line]
    assert line.count(",") == 1
    assert "stop or reload the controller" in line


def test_without_a_controller_nothing_is_started(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKSACK_HOME", str(private_home / "none"))
    assert completed("racksack", "bash", "status") == ["plain,last"]
    assert not (private_home / "none").exists()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_folder(controller: StandIn, project: Path) -> None:
    script = (
        'eval "$(racksack completion bash --program submit)"\n'
        f"cd {project.parent}; COMP_WORDS=(submit pro); COMP_CWORD=1; COMPREPLY=()\n"
        "compopt() { :; }; _submit_completion submit pro submit 2>/dev/null; complete -p submit\n"
    )
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert "-F _submit_completion" in done.stdout
    assert "nosort" in done.stdout
