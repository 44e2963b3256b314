"""`make demo`, as a person runs it: a real project with packages from the index, on an embedded controller."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.checkout import ROOT

COMMANDS = Path(sys.executable).parent
PROJECT = ROOT / "docs" / "examples" / "digits"


def needs_an_index(folder: Path) -> None:
    """Skip where the project's packages cannot be had."""
    command = [COMMANDS / "uv", "pip", "install", "--dry-run", "--target", folder, "-r", PROJECT / "requirements.txt"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip("make demo installs packages, and no package index can be reached")


def end_what_stays(home: Path) -> None:
    """The tmux server of a node outlives its controller by design; not this test's."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(home).encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGTERM)


@pytest.mark.timeout(300)
def test_the_demo_brings_a_model_and_says_where_everything_is(tmp_path: Path) -> None:
    needs_an_index(tmp_path / "none")
    home, results = tmp_path / "home", tmp_path / "results"
    environment = {**os.environ, "RACKSACK_HOME": str(home), "RACKSACK_CONTROLLER": "nobody@nowhere.invalid"}
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    command = [sys.executable, ROOT / "scripts" / "demo.py", "--results", results]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    finally:
        own = {**environment, "RACKSACK_CONTROLLER": ""}
        subprocess.run(
            [COMMANDS / "racksack", "controller", "stop"], env=own, check=False, capture_output=True, timeout=60
        )
        end_what_stays(home)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = next(results.glob("*-digits"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["models"]) == {"logistic", "neighbors", "svm", "trees"}
    assert metrics["test_accuracy"] > 0.95
    assert (folder / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "model.joblib").stat().st_size > 10_000
    assert json.loads((folder / "result.json").read_text())["state"] == "done"
    assert "the demo leaves it alone and uses this machine" in ended.stdout
    assert f"Results: {folder}" in ended.stdout
    assert f"{metrics['test_accuracy']:.4f}" in ended.stdout
    assert re.search(r"^Status page: http://127\.0\.0\.1:\d+", ended.stdout, re.MULTILINE)
    assert str(home) in ended.stdout
    assert "racksack controller stop" in ended.stdout
