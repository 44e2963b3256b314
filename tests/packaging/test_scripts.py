"""The scripts behind `make`: they take no wrong turn by the environment, and say clearly what is missing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.checkout import ROOT

SCRIPTS = ROOT / "scripts"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_environment_sends_nothing_elsewhere() -> None:
    ended = run(
        *("bash", "-c", "source scripts/clean-environment; env"),
        PIP_TARGET="/elsewhere",
        PIP_USER="1",
        PIP_CONSTRAINT="/elsewhere",
        UV_SYSTEM_PYTHON="1",
        PYTHONPATH="/elsewhere",
        VIRTUAL_ENV="/elsewhere",
        PIP_INDEX_URL="file:///mirror",
        UV_DEFAULT_INDEX="file:///mirror",
        UV_CACHE_DIR="/cache",
    )
    kept = dict(line.split("=", 1) for line in ended.stdout.splitlines() if "=" in line)
    assert not [name for name, value in kept.items() if value == "/elsewhere"]
    assert not {"PIP_USER", "UV_SYSTEM_PYTHON"} & set(kept)
    assert kept["PIP_INDEX_URL"] == kept["UV_DEFAULT_INDEX"] == "file:///mirror"
    assert kept["UV_CACHE_DIR"] == "/cache"


def test_the_python_found_is_new_enough() -> None:
    found = run(SCRIPTS / "python", RACKSACK_PYTHON="")
    assert found.returncode == 0
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    assert subprocess.run([found.stdout.strip(), "-c", check], check=False).returncode == 0


def test_a_python_that_is_none_is_refused_by_name() -> None:
    ended = run(SCRIPTS / "python", RACKSACK_PYTHON="/bin/false")
    assert ended.returncode == 1
    assert "RACKSACK_PYTHON=/bin/false is not a Python 3.11" in ended.stderr


def test_setup_does_nothing_the_second_time(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    content = b"".join((tmp_path / name).read_bytes() for name in ("requirements.lock", "pyproject.toml"))
    (tmp_path / ".venv" / ".racksack-installed").write_text(hashlib.sha256(content).hexdigest() + "\n")
    before = sorted(tmp_path.rglob("*"))
    ended = run(tmp_path / "scripts" / "setup", UV_OFFLINE="1", PIP_INDEX_URL="file:///nowhere")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("purpose", ["python", "demo", "tests", "bench"])
def test_debian_packages_are_listed(purpose: str) -> None:
    listed = run(SCRIPTS / "debian-packages", "list", purpose)
    assert listed.returncode == 0
    missing = run(SCRIPTS / "debian-packages", "missing", purpose)
    assert set(missing.stdout.split()) <= set(listed.stdout.split())


@pytest.mark.parametrize("arguments", [[], ["list"], ["list", "everything"], ["remove", "tests"]])
def test_wrong_arguments_are_a_usage_error(arguments: list[str]) -> None:
    ended = run(SCRIPTS / "debian-packages", *arguments)
    assert ended.returncode == 2
    assert "scripts/debian-packages" in ended.stderr


@pytest.fixture
def bare_machine() -> Iterator[Path]:
    """A folder that every user can enter, with the scripts and a PATH on which nothing can be installed."""
    with tempfile.TemporaryDirectory(prefix="racksack-scripts-") as name:
        folder = Path(name)
        tools = folder / "bin"
        tools.mkdir()
        for tool in ("bash", "env", "id", "tr", "dirname", "cat"):
            (tools / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        for tool, text in (("dpkg-query", "exit 1"), ("apt-get", "exit 99")):
            (tools / tool).write_text(f"#!/bin/bash\n{text}\n")
        shutil.copytree(SCRIPTS, folder / "scripts")
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may not install packages")
def test_without_root_or_sudo_the_missing_packages_are_named(bare_machine: Path) -> None:
    ended = subprocess.run(
        [bare_machine / "scripts" / "debian-packages", "install", "demo"],
        env={"PATH": str(bare_machine / "bin")},
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "neither root nor a sudo without password is at hand: rsync tmux." in ended.stderr
    assert "apt-get install rsync tmux" in ended.stderr
