"""The one distribution: what the wheel holds and promises."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.checkout import relative, tracked

PACKAGES = {
    "agent": "racksack_agent",
    "client": "racksack",
    "controller": "racksack_controller",
    "jobspecs": "racksack_jobspecs",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy of what git has, by the backend that requirements.lock pins, without a network."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for path in tracked():
        aim = source / relative(path)
        aim.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, aim)
    uv = Path(sys.executable).parent / "uv"
    command = [uv, "build", "--wheel", "--no-build-isolation", "--offline", "--out-dir", built]
    environment = {**os.environ, "VIRTUAL_ENV": str(Path(sys.executable).parent.parent)}
    ended = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return zipfile.ZipFile(next(built.glob("*.whl")))


def test_it_holds_every_file_of_the_four_packages(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder, package in PACKAGES.items():
        files = {relative(path).removeprefix(f"{folder}/") for path in tracked(f"{folder}/{package}")}
        assert files, package
        assert files <= names
        assert f"{package}/py.typed" in names


def test_it_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES.values())


def test_what_it_promises(wheel: zipfile.ZipFile) -> None:
    metadata_name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(metadata_name))
    assert metadata["Name"] == "racksack"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra") or []) == {"controller", "executor", "sweeps"}
    needed = [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line]
    # A laptop installs only this much; the heavy ones belong to the controller.
    assert not [line for line in needed if line.startswith(("aiohttp", "asyncssh", "numpy", "uv"))]
    entry_points = wheel.read(metadata_name.replace("METADATA", "entry_points.txt")).decode()
    for command in ("racksack", "submit", "fetch-results"):
        assert f"\n{command} = racksack.main:" in entry_points
