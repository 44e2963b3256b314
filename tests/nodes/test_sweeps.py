"""A sweep's runner behind both ways to reach a node: chunks go in, results come out, a cut loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack_controller.nodes import agent_node
from racksack_controller.nodes.errors import AgentError
from tests.agent.sweeps import Splitter, grid, rows
from tests.nodes.conftest import Watched, bounded, order, project

CODE = """
import time
def f(x):
    time.sleep(0.001)
    return {"x": x, "half": x / 2}
"""
PLAN = {
    "target": {"kind": "function", "file": "main.py", "name": "f"},
    "space": grid(x=list(range(1000))),
    "slots": 2, "metric": "value", "point_timeout_s": None, "runs": [{"env": {}, "fixed": {}}],
}  # fmt: skip


async def launch(watched: Watched, folder: Path) -> dict[str, int]:
    """A runner that has begun; gives the lengths of results as they are told."""
    told: dict[str, int] = {}
    watched.node.on_results = lambda attempt, size: told.update({attempt: size}) or watched._news.set()  # type: ignore[func-returns-value]
    digest = project(folder, CODE)
    await watched.node.stage(digest, folder)
    [reply] = await watched.node.launch([order("1.1", digest, sweep=PLAN)])
    assert reply.ok, reply.error
    await watched.until(lambda: any(report.state == "running" for report in watched.told))
    return told


async def pull(watched: Watched, offset: int) -> bytes:
    data = b""
    while piece := (await watched.node.results("1.1", offset + len(data), 1000)).data:
        data += piece
    return data


@pytest.mark.parametrize("slow", [False, True])
async def test_results_arrive_once_across_a_cut(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    told = await launch(watched, tmp_path / "project")
    if slow:
        monkeypatch.setattr(agent_node, "SLOW_ANSWER_S", -1.0)
    async with bounded():
        for number in range(4):
            await watched.node.feed("1.1", [{"chunk": number, "ranges": [[number * 250, number * 250 + 250]]}])
        await watched.until(lambda: told.get("1.1", 0) > 0)
        first = await pull(watched, 0)
        await watched.node.close()
        await watched.node.connect()
        await watched.node.feed("1.1", [{"chunk": 3, "ranges": [[750, 1000]]}])  # was told before
        await watched.node.control("1.1", finish=True, back=[])
        await watched.ended("1.1")
        whole = first + await pull(watched, len(first))
        assert told["1.1"] == len(whole)
    found: dict[int, object] = {}
    for header, body, _ in Splitter().feed(whole):
        if header["k"] == "ok":
            new = rows(header, body)
            assert not set(new) & set(found)
            found |= new
    assert found == {x: {"x": x, "half": x / 2} for x in range(1000)}


async def test_what_is_no_runner_is_refused(watched: Watched, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="does not run a sweep"):
        await watched.node.feed("7.1", [])
    with pytest.raises(AgentError, match="is not on this node"):
        await watched.node.results("7.1", 0, 100)
