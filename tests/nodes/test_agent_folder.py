"""The agent's own folder on a node: a power cut may have emptied it, and every job there may write into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from racksack_controller.nodes import make_node
from racksack_controller.nodes.bootstrap import agent_package
from racksack_controller.nodes.settings import LocalSettings


def edit(agent: Path) -> None:
    probe = agent / "racksack_agent" / "serve" / "probe.py"
    probe.write_text(probe.read_text() + "\nraise SystemExit('owned')\n")


def empty(agent: Path) -> None:
    for path in agent.rglob("*.py"):
        path.write_bytes(b"")


def cut(agent: Path) -> None:
    path = agent / "racksack_agent" / "serve" / "serve.py"
    path.write_bytes(path.read_bytes()[:100])


def remove(agent: Path) -> None:
    (agent / "racksack_agent" / "records.py").unlink()


def shadow_a_module(agent: Path) -> None:
    (agent / "json.py").write_text("raise SystemExit('owned')\n")


def add_a_library(agent: Path) -> None:
    """An extension module would be found before the source of the same name."""
    (agent / "racksack_agent" / "records.cpython-311-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")


def put_a_pipe(agent: Path) -> None:
    path = agent / "racksack_agent" / "home.py"
    path.unlink()
    os.mkfifo(path)


def put_a_link(agent: Path) -> None:
    path = agent / "racksack_agent" / "home.py"
    other = agent.parent.parent / "home-elsewhere.py"
    path.rename(other)
    path.symlink_to(other)


def leave_an_empty_folder(agent: Path) -> None:
    for path in sorted(agent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    "damage",
    [edit, empty, cut, remove, shadow_a_module, add_a_library, put_a_pipe, put_a_link, leave_an_empty_folder],
)
async def test_a_changed_agent_is_put_back_before_it_runs(damage: Callable[[Path], None], folder: Path) -> None:
    home = folder / "node"
    node = make_node("here", LocalSettings(home))
    await node.connect()
    await node.close()
    digest = agent_package().digest
    (agent,) = (home / "agents").iterdir()
    assert agent.name == digest
    before = {path.relative_to(agent): path.read_bytes() for path in agent.rglob("*.py")}
    damage(agent)
    try:
        assert (await node.connect()).boot_id
        assert (await node.probe()).cpus > 0
    finally:
        await node.close()
    assert {path.relative_to(agent): path.read_bytes() for path in agent.rglob("*.py")} == before
    assert [path.name for path in (home / "agents").iterdir()] == [digest], "nothing is left beside it"


async def test_a_whole_agent_is_not_sent_again(folder: Path) -> None:
    node = make_node("here", LocalSettings(folder / "node"))
    inodes = []
    for _ in range(2):
        await node.connect()
        await node.close()
        (agent,) = (folder / "node" / "agents").iterdir()
        inodes.append(agent.stat().st_ino)
    assert inodes[0] == inodes[1]
