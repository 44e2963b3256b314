"""A node that should be up is called soon after it answers again, however long it was silent before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.state import Node as Record
from racksack_controller.core.state import State
from racksack_controller.effects import connector as connecting
from racksack_controller.effects.connector import Connector
from racksack_controller.effects.power_nodes import answers_of
from racksack_controller.loop import Loop
from racksack_controller.nodes import make_node
from racksack_controller.nodes.answering import Answers
from racksack_controller.nodes.settings import SshSettings
from racksack_controller.store import Store
from tests.nodes.conftest import bounded
from tests.nodes.sshd import Sshd


class Caller:
    """A connector on a loop of its own, with what it has found."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    @property
    def record(self) -> Record:
        return self.loop.state.nodes["r1"]

    async def until(self, holds: Callable[[Record], bool]) -> None:
        async with bounded():
            while not holds(self.record):
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def calling(settings: SshSettings, store: Path, answers: Answers | None = None) -> AsyncIterator[Caller]:
    """A connector that calls one node."""
    loop = Loop(State(), Store(store), lost_after_s=300.0)
    node = make_node("r1", settings)
    connector = Connector(loop, node, lambda found: found, answers or answers_of(settings))
    stepping = asyncio.create_task(loop.run())
    await loop.submit(ev.NodeConfigured(Record(name="r1", kind="ssh")))
    task = asyncio.create_task(connector.run())
    try:
        yield Caller(loop)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await node.close()
        loop.stop()
        await stepping
        loop._store.close()


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after many failures in a row: the delay between two calls is longer than any test."""
    monkeypatch.setattr(connecting, "backoff_s", lambda *_, **__: 3600.0)


@pytest.mark.usefixtures("hours")
async def test_a_node_that_was_silent_for_long_is_called_when_it_answers(
    sshd: Sshd, folder: Path, tmp_path: Path
) -> None:
    looks, link = 0, False

    async def look() -> bool:
        nonlocal looks
        looks += 1
        return link

    sshd.stop()
    async with calling(sshd.settings(folder / "home"), tmp_path / "db", look) as caller:
        async with bounded():
            while looks < 3:
                await asyncio.sleep(0.02)
        assert not caller.record.connected
        sshd.start()
        link = True
        await caller.until(lambda record: record.connected)


@pytest.mark.usefixtures("hours")
async def test_a_node_that_answers_but_cannot_be_used_is_tried_every_few_seconds(
    sshd: Sshd, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "RETRY_ANSWERING_S_MAX", 0.2)
    home = folder / "home"
    home.write_text("a file where the agent's folder belongs")
    async with calling(sshd.settings(home), tmp_path / "db") as caller:
        await caller.until(lambda record: bool(record.connection_since_s))
        home.unlink()
        await caller.until(lambda record: record.connected)


@pytest.mark.usefixtures("hours")
async def test_a_changed_host_key_is_not_tried_over_and_over(sshd: Sshd, folder: Path, tmp_path: Path) -> None:
    settings = sshd.settings(folder / "home")
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    looks = 0

    async def look() -> bool:
        nonlocal looks
        looks += 1
        return True

    async with calling(settings, tmp_path / "db", look) as caller:
        await caller.until(lambda record: "key" in record.connection_reason)
        await asyncio.sleep(0.2)
    assert looks == 0


@pytest.mark.usefixtures("hours")
async def test_looks_that_fail_do_not_end_the_calls(
    sshd: Sshd, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "RETRY_ANSWERING_S_MAX", 0.2)

    async def look() -> bool:
        raise RuntimeError("nobody foresaw this")

    sshd.stop()
    async with calling(sshd.settings(folder / "home"), tmp_path / "db", look) as caller:
        await caller.until(lambda record: bool(record.connection_since_s))
        sshd.start()
        await caller.until(lambda record: record.connected)
