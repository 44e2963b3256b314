"""systemd/: the unit is accepted, is as shut in as we say, and its drop folders come out with the right modes."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.checkout import ROOT

UNITS = ROOT / "systemd"
COMMANDS = Path(sys.executable).parent


def needs(command: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"{command} is not installed (Debian: systemd)")


def installed(folder: Path, *, remote_only: bool) -> Path:
    """The unit as docs/install.md installs it, but for the place of the commands."""
    unit = folder / "racksack.service"
    unit.write_text((UNITS / "racksack.service").read_text().replace("/opt/racksack/bin", str(COMMANDS)))
    if remote_only:
        drop_in = folder / "racksack.service.d"
        drop_in.mkdir()
        shutil.copy(UNITS / "remote-only.conf", drop_in)
    return unit


@needs("systemd-analyze")
@pytest.mark.parametrize("remote_only", [False, True])
def test_systemd_accepts_the_unit(tmp_path: Path, remote_only: bool) -> None:
    unit = installed(tmp_path, remote_only=remote_only)
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in ended.stderr.splitlines() if "racksack" in line]
    assert (ended.returncode, ours) == (0, [])


@needs("systemd-analyze")
@pytest.mark.parametrize(("remote_only", "exposure_max"), [(False, 3.0), (True, 2.0)])
def test_the_unit_is_shut_in(tmp_path: Path, remote_only: bool, exposure_max: float) -> None:
    unit = installed(tmp_path, remote_only=remote_only)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"exposure level for racksack.service: ([0-9.]+)", ended.stdout)
    if found is None and "offline" in ended.stderr:
        pytest.skip("this systemd-analyze cannot judge a unit that is not installed (older than 250)")
    assert found, ended.stderr
    assert float(found[1]) <= exposure_max


def test_stopping_the_controller_leaves_local_jobs_alone() -> None:
    unit = (UNITS / "racksack.service").read_text()
    assert "\nKillMode=process\n" in unit
    assert "\nOOMPolicy=continue\n" in unit
    assert "\nPrivateTmp=no\n" in unit


def test_the_unit_uses_options_that_exist() -> None:
    unit = (UNITS / "racksack.service").read_text()
    ended = subprocess.run(
        [sys.executable, "-m", "racksack_controller", "--help"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for option in set(re.findall(r"^Exec.*racksack controller (.*)$", unit, re.MULTILINE)):
        for flag in re.findall(r"--[a-z-]+", option):
            assert flag in ended.stdout


@needs("systemd-sysusers")
def test_the_user_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", UNITS / "racksack.sysusers"], check=True, capture_output=True
    )
    assert ":racksack controller:/var/lib/racksack:" in (tmp_path / "etc" / "passwd").read_text()
    groups = (tmp_path / "etc" / "group").read_text()
    assert re.search(r"^racksack-users:.*:racksack$", groups, re.MULTILINE), "the controller gives files to it"
    assert re.search(r"^racksack:[^:]*:[0-9]+:$", groups, re.MULTILINE), "nobody else is in the controller's own group"


@needs("systemd-tmpfiles")
@pytest.mark.skipif(shutil.which("getfacl") is None, reason="getfacl is not installed (Debian: acl)")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the folders get an owner")
def test_the_drop_folders_are_closed_but_for_dropping(tmp_path: Path) -> None:
    # The ACLs name a user that this machine may not have; `nobody` stands in.
    rules = (UNITS / "racksack.tmpfiles").read_text().replace(" racksack racksack-users ", " nobody nogroup ")
    rules = rules.replace("root     racksack", "root nogroup").replace("user:racksack:", "user:nobody:")
    (tmp_path / "var" / "lib").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    shutil.copy("/etc/passwd", tmp_path / "etc")
    shutil.copy("/etc/group", tmp_path / "etc")
    file = tmp_path / "racksack.conf"
    file.write_text(rules)
    command = ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(file)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Failed" not in ended.stderr, ended.stderr
    for name in ("incoming", "jobs"):
        folder = tmp_path / "var" / "lib" / "racksack" / name
        assert stat.S_IMODE(folder.stat().st_mode) == 0o3730
        acl = subprocess.run(["getfacl", "--omit-header", folder], check=True, capture_output=True, text=True).stdout
        assert "default:user:nobody:rwx" in acl
        assert "default:group::---" in acl
        assert "default:other::---" in acl
