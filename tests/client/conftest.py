"""A private home, a stand-in controller, and the commands as a user would call them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.client.stand_in import StandIn, serve

from racksack.cli import load, run
from racksack.main import COMMANDS, racksack_group


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the real user is read or written."""
    home = tmp_path_factory.mktemp("home")
    for variable, name in (("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state")):
        monkeypatch.setenv(variable, str(home / name))
    monkeypatch.setenv("HOME", str(home))
    for variable in ("RACKSACK_CONTROLLER", "RACKSACK_HOME", "XDG_RUNTIME_DIR", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    return home


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A stand-in that the commands talk to by default."""
    state = StandIn(tmp_path / "spool")
    server = serve(state)
    monkeypatch.setenv("RACKSACK_CONTROLLER", str(state.spool))
    yield state
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Ended:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process: `cli("submit", ...)`, `cli("racksack", "status")`."""

    def call(program: str, *argv: str) -> Ended:
        capfd.readouterr()
        command = {"submit": "submit", "fetch-results": "fetch"}.get(program)
        code = run(load(COMMANDS[command].home) if command else racksack_group, program, list(map(str, argv)))
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Ended(code, out, err)

    return call


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "main.py").write_text("print('hello')\n")
    (root / "data" / "prices.bin").write_bytes(b"p" * 5000)
    return root
