"""docs/install.md as an owner types it: its commands are taken from the page and run, in a scratch root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.checkout import ROOT

PAGE = (ROOT / "docs" / "install.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# What changes the machine that runs the tests, or needs another machine. The order of the page is kept for the rest.
LEFT_OUT = (
    "apt-get",
    "git clone",
    "systemctl",
    "adduser",
    "loginctl",
    "ssh ",
    "cd ",
    "python3 -m venv",
    "racksack node",
)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files get owners")


def section(heading: str) -> list[str]:
    """The commands under one heading, line by line."""
    text = re.split(rf"^## {heading}$", PAGE, flags=re.MULTILINE)[1]
    text = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def in_root(line: str, root: Path) -> str:
    """A command with the folders of the system below `root`."""
    line = re.sub(r"(?<![\w.])/(etc|opt|usr|var)/", rf"{root}/\1/", line)
    line = line.replace("systemd-sysusers", f"systemd-sysusers --root={root}")
    return line.replace("systemd-tmpfiles", f"systemd-tmpfiles --root={root}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A fresh Debian as far as these commands see it: no /etc/sysusers.d, as systemd 252 has none."""
    for folder in ("etc", "var/lib", "usr/local/bin", "opt/racksack/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    return tmp_path


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd is not installed")
def test_the_controllers_section(root: Path) -> None:
    lines = [line for line in section("Controller") if not line.startswith(LEFT_OUT)]
    assert any("systemd-sysusers" in line for line in lines)
    for line in lines:
        if line.startswith(("racksack ", "/opt/racksack/bin/pip")):
            continue  # the next test, and tests/packaging/test_lock.py
        line = line.replace("chown racksack:", f"chown {_uid(root)}") if line.startswith("chown") else line
        done = subprocess.run(["sh", "-ec", in_root(line, root)], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (root / "etc/racksack/id_ed25519").stat().st_mode & 0o077 == 0
    assert (root / "etc/racksack").stat().st_mode & 0o777 == 0o750
    assert (root / "etc/racksack").stat().st_gid != _gid(root, "racksack-users"), "submitters cannot read it"
    assert (root / "var/lib/racksack/jobs").stat().st_gid == _gid(root, "racksack-users")
    assert (root / "etc/systemd/system/racksack.service").exists()


def _uid(root: Path) -> str:
    found = re.search(r"^racksack:[^:]*:([0-9]+):", (root / "etc/passwd").read_text(), re.MULTILINE)
    return found[1] if found else "0"


def _gid(root: Path, name: str) -> int:
    found = re.search(rf"^{name}:[^:]*:([0-9]+):", (root / "etc/group").read_text(), re.MULTILINE)
    assert found, f"no group {name}"
    return int(found[1])


def test_every_racksack_command_of_the_page_is_one(tmp_path: Path) -> None:
    lines = [line for block in BLOCKS for line in block.splitlines() if line.startswith("racksack ")]
    assert lines
    for line in lines:
        words = [word for word in line.split("#")[0].split()[1:] if not word.startswith("-")]
        known = words[:2] if words[0] in ("node", "config", "controller") else words[:1]
        done = subprocess.run(
            [Path(sys.executable).with_name("racksack"), *known, "--help"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, line


def test_the_order_of_the_page() -> None:
    """Nothing is used before it is made: the user before the key, the key before the nodes, these before the start."""
    found = [
        PAGE.index(words) for words in ("systemd-sysusers", "ssh-keygen -q", "racksack node add r1", "enable --now")
    ]
    assert found == sorted(found)
