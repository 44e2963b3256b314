"""A node that is reached only through another one, on servers with networks of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from racksack_controller.nodes import make_node
from racksack_controller.nodes.errors import NodeUnreachable
from racksack_controller.nodes.settings import SshSettings
from tests.nodes.conftest import Watched, order, project
from tests.rack import Rack

DRIVER = [sys.executable, "-m", "tests.nodes.test_rack"]
ROOT = Path(__file__).resolve().parents[2]


def settings_of(nodes: dict[str, dict[str, dict[str, str]]], name: str) -> SshSettings:
    """As the configuration makes them: the name of a jump node stands for its settings."""
    ssh = dict(nodes[name]["ssh"])
    jump = settings_of(nodes, ssh.pop("jump")) if "jump" in ssh else None
    identity = Path(ssh.pop("identity"))
    return SshSettings(**ssh, identity=identity, jump=jump, keepalive_s=0.5, connect_timeout_s=4.0)


async def drive(settings: SshSettings) -> None:
    """Runs on the controller's host: one job with large and small outputs, then news of a power cut."""
    folder = Path(tempfile.mkdtemp())
    script = (
        "import os, socket\nprint(socket.gethostname())\n"
        "open(os.environ['RACKSACK_RETURN_DIR'] + '/big', 'wb').write(b'x' * 3_000_000)\n"
    )
    digest = project(folder / "project", script, data=os.urandom(1_000_000))
    watched = Watched(make_node("r2", settings))
    hello = await watched.node.connect()
    await watched.node.stage(digest, folder / "project")
    [reply] = await watched.node.launch([order("1.1", digest)])
    [report] = await watched.ended("1.1")
    collected = (await watched.node.collect({"1.1": folder / "back"}))["1.1"]
    said = (folder / "back" / "stdout.log").read_text().strip()
    tell(hostname=hello.hostname, ok=reply.ok, outcome=report.outcome, collected=collected.ok, said=said)
    tell(broken=await watched.broken())
    try:
        await watched.node.connect()
    except NodeUnreachable as error:
        tell(unreachable=str(error))
    await watched.node.close()


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


@pytest.mark.rack
def test_a_node_behind_a_jump_host_runs_a_job_and_its_power_cut_is_noticed(rack: Rack) -> None:
    driver = rack["controller"].popen(
        DRIVER, env={"RACK_NODES": json.dumps(rack.nodes_config())}, cwd=str(ROOT), stdout=-1, text=True
    )
    assert driver.stdout is not None
    try:
        first = json.loads(driver.stdout.readline())
        assert first == {"hostname": "r2", "ok": True, "outcome": "done", "collected": True, "said": "r2"}
        rack["r2"].power_cut()
        cut_at_s = time.monotonic()
        broken = json.loads(driver.stdout.readline())
        assert "r2" in broken["broken"]
        assert time.monotonic() - cut_at_s < 30
        assert "r2" in json.loads(driver.stdout.readline())["unreachable"]
        assert driver.wait(timeout=60) == 0
    finally:
        driver.kill()
        driver.wait(timeout=60)


if __name__ == "__main__":
    asyncio.run(drive(settings_of(json.loads(os.environ["RACK_NODES"]), "r2")))
