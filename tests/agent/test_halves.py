"""Folders that a `serve` left half made or half removed go; those of a living one stay."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from racksack_agent.home import Home
from racksack_agent.serve import unfinished
from tests.agent.processes import wait_until
from tests.agent.serving import Serve


@pytest.fixture
def attempts(serve: Serve, home: Path) -> Path:
    serve.call("reports")
    return home / "attempts"


def made_by(process: int, started: int, attempts: Path) -> Path:
    folder = attempts / f".7.1-{process}-{started}-12345"
    (folder / "out").mkdir(parents=True)
    (folder / "out/file").write_text("half")
    return folder


def test_what_a_dead_serve_left_goes_while_another_serves(attempts: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = [made_by(ended.pid, 1, attempts), attempts / ".removed-7.1-1234-5678"]
    left[1].mkdir(exist_ok=True)
    (left[0] / "out").chmod(0)
    wait_until(lambda: not any(path.exists() for path in left))


def test_what_was_left_goes_when_one_begins_to_serve(home: Path, start_serve: Callable[..., Serve]) -> None:
    (home / "attempts").mkdir(parents=True)
    left = made_by(os.getpid(), 1, home / "attempts")  # the number is another's by now
    start_serve()
    wait_until(lambda: not left.exists())


def test_what_a_living_process_is_at_stays(attempts: Path, home: Path) -> None:
    mine = Path(unfinished.half_of(Home(str(home)).attempt("8.1")).path)
    mine.mkdir()
    left = made_by(os.getpid(), 1, attempts)
    wait_until(lambda: not left.exists())
    assert unfinished.left_behind(Home(str(home))) == []
    assert mine.is_dir()
    mine.rmdir()


def test_a_folder_that_two_remove_at_once_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is quicker with a folder inside."""
    inside = tmp_path / "tree/a/b"
    inside.mkdir(parents=True)
    real = os.rmdir

    def rmdir(path: str, **options: int) -> None:
        real(path, **options)
        real(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)
    unfinished.remove_tree(str(tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()
