"""A home on this machine with a real `serve`, and projects made of a few lines; afterwards nothing is left running."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from racksack_agent import private_tmp, sessions
from racksack_agent.home import Home
from racksack_agent.serve import limit_choice
from tests.agent.processes import wait_until
from tests.agent.serving import Serve

BIN = str(Path(sys.executable).parent)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty home; what still runs in it at the end is ended."""
    path = tmp_path / "home"
    yield path
    if (path / "attempts").is_dir():
        end_everything(path)


def end_everything(path: Path) -> None:
    last = Serve(path)
    for report in last.call("reports"):
        last.call("stop", attempt=report["attempt"], reason="cancelled", grace_s=0)
    for report in last.call("reports"):
        if report["state"] != "ended":
            last.ended(report["attempt"], 20)
    last.close()
    home = Home(str(path))
    socket = f"{private_tmp.folder()}/{sessions.home_key(home)}"
    if shutil.which("tmux"):
        subprocess.run(["tmux", "-S", f"{socket}.tmux", "kill-server"], capture_output=True, check=False)
    Path(f"{socket}.tmux").unlink(missing_ok=True)
    if mount := limit_choice.memory_mount():
        ours = Path(f"{mount}/racksack-{os.getuid()}-{sessions.home_key(home)}")
        wait_until(lambda: is_removed(ours))


def is_removed(cgroup: Path) -> bool:
    """Remove a cgroup; False while it is busy with what has just ended in it."""
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@pytest.fixture
def start_serve(home: Path) -> Iterator[Callable[..., Serve]]:
    """Start any number of them on the home."""
    started: list[Serve] = []

    def start(*options: str, env: dict[str, str] | None = None) -> Serve:
        path = {"PATH": f"{BIN}:{os.environ['PATH']}"}
        started.append(Serve(home, *options, env={**path, **(env or {})}))
        return started[-1]

    yield start
    for serve in started:
        with suppress(BrokenPipeError):
            serve.close()


@pytest.fixture
def serve(start_serve: Callable[..., Serve]) -> Serve:
    return start_serve()


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of files from text; those that begin with #! become executable."""

    def make(**files: str) -> Path:
        folder = tmp_path / f"project-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        for name, text in files.items():
            path = folder / name.replace("__", ".")
            path.write_text(text)
            if text.startswith("#!"):
                path.chmod(0o755)
        return folder

    return make


@pytest.fixture
def token() -> str:
    """A word that no other process of this machine has in its command line."""
    return f"racksack-token-{uuid.uuid4().hex}"
