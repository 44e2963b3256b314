"""The controller's part of doctor with real parts of its own: a node that hangs is given up, whoever asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from racksack_controller.checks import doctor
from racksack_controller.checks.configuration import Loaded
from racksack_controller.checks.doctor import Doctor
from racksack_controller.config.config import Config, NodeConfig
from racksack_controller.intake.spool import Watcher, prepare
from racksack_controller.loop import Loop
from racksack_controller.store import Store
from racksack_jobspecs.findings import Finding, Verdict
from racksack_jobspecs.layout import Spool
from tests.nodes.sshd import Sshd, why_not


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Sshd]:
    """A server that lets one log in and then says nothing, for as long as the connection lasts."""
    if reason := why_not():
        pytest.skip(reason)
    server = Sshd(tmp_path / "sshd", command="exec cat >/dev/null")
    server.start()
    yield server
    server.stop()


def of(found: list[Finding], part: str, what: str) -> Finding:
    (finding,) = [one for one in found if (one.part, one.what) == (part, what)]
    return finding


async def test_a_node_that_hangs_is_given_up_and_tried_once(
    tmp_path: Path, hanging: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "NODE_S", 3.0)
    spool = Spool(tmp_path / "spool")
    prepare(spool)
    store = Store(spool.database)
    config = Config(spool.root, {"r1": NodeConfig("r1", hanging.settings(tmp_path / "home"))})
    loaded = Loaded(at_start=config, now=config, reread=None)
    loop = Loop(store.load(), store, lost_after_s=600.0)
    examiner = Doctor(loop, spool, Watcher(spool, 1.0, 10.0), {}, lambda: loaded, time.time())
    both = asyncio.gather(*(examiner.examine(["r1"], is_operator=True) for _ in range(2)))
    most = 0
    while not both.done():
        most = max(most, len(hanging.sessions()))
        await asyncio.sleep(0.05)
    for found in both.result():
        assert of(found, "nodes", "r1 check").verdict is Verdict.FAILED
        assert "did not end within 3 s" in of(found, "nodes", "r1 check").sentence
        assert of(found, "controller", "store").verdict is Verdict.OK
        assert of(found, "controller", "inotify").verdict is Verdict.NOT_LOOKED_AT
        assert "has no nodes" in of(found, "nodes", "none").sentence
    assert 1 <= most <= 2, "sshd has two processes for a connection at most"
    deadline = time.monotonic() + 30
    while hanging.sessions() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not hanging.sessions()
    await examiner.close()
    store.close()
