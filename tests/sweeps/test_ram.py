"""What a sweep says about the copies in the memory of its nodes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec

from racksack.sweep_client.text import sweep_story
from racksack.views import SweepView
from racksack_agent.home import Home
from racksack_agent.supervisor import ram_shared, ramdisk
from racksack_controller.web.sweep_views import sweep_view
from tests.agent.processes import kill_all_that_watch
from tests.agent.test_ram_shared import Heedless
from tests.sweeps.rig import Rig, over, running

READ = """
import os, time
def f(x):
    time.sleep(0.02)
    with open(os.environ["RACKSACK_RAM_DIR"] + "/data") as file:
        return {"size": len(file.read())}
"""


def project(rig: Rig) -> Path:
    folder = rig.root / "reading"
    folder.mkdir()
    (folder / "f.py").write_text(READ)
    (folder / "data").write_bytes(b"x" * (3 << 19))
    return folder


def memory(rig: Rig, node: str) -> Path:
    return Path(ramdisk.home_folder(Home(str(rig.root / node))))


def view(rig: Rig, number: int) -> dict[str, Any]:
    active = rig.app.sweeps.active[number]
    return sweep_view(active.sweep, active.progress, active, time.time())


def told(rig: Rig, number: int) -> dict[str, Any]:
    """What is said about each node."""
    return {node["node"]: node["ram"] for node in view(rig, number)["nodes"]}


def is_checked(rig: Rig, number: int, node: str) -> bool:
    return bool((told(rig, number).get(node) or {}).get("state") == "checked")


async def test_a_copy_that_is_not_there_yet_is_being_copied(root: Path) -> None:
    async with running(root, a=2) as rig:
        home = Home(str(rig.root / "a"))
        folder = project(rig)
        content = ramdisk.checksum(str(folder), ["data"], Heedless())
        with ram_shared._joined(home, content, Heedless()):  # the runner waits for whoever has the lock
            number = await rig.submit_folder(folder, over(20, ramdisk=("data",)))
            await rig.until(lambda: "a" in told(rig, number), "a runner is being prepared")
            copying = {"state": "copying", "bytes": 0, "checksum": None, "sentence": "being copied"}
            assert told(rig, number) == {"a": copying}
            assert "a     being copied" in sweep_story(view_of(view(rig, number)), None)
        assert (await rig.ended(number)).done == 20


async def test_each_node_tells_what_it_has(root: Path) -> None:
    async with running(root, a=2, b=2) as rig:
        number = await rig.submit_folder(project(rig), over(600, ramdisk=("data",)))
        await rig.until(lambda: all(is_checked(rig, number, node) for node in "ab"), "both have it")
        for node in "ab":
            one = told(rig, number)[node]
            assert (one["bytes"], one["sentence"]) == (3 << 19, "in RAM, checked (1.5M)")
            assert (memory(rig, node) / "shared" / one["checksum"] / "copy/data").stat().st_size == 3 << 19
        await rig.stop()
        await rig.start()
        await rig.until(lambda: all(is_checked(rig, number, node) for node in "ab"), "it is known after a restart")
        progress = await rig.ended(number)
        assert progress.done == 600
        assert {row["size"] for row in (await rig.results(number)).values()} == {3 << 19}
        await rig.until(lambda: not rig.app.state.jobs, "its runners have ended")
        assert not memory(rig, "a").exists()
        assert not memory(rig, "b").exists()


async def test_a_node_that_cannot_have_it_says_why(root: Path) -> None:
    async with running(root, a=2, b=2) as rig:
        number = await rig.submit_folder(project(rig), over(600, ramdisk=("data",)))
        await rig.until(lambda: all(is_checked(rig, number, node) for node in "ab"), "both have it")
        [runner] = [one for one in rig.app.sweeps.active[number].runners.values() if one.node == "b"]
        moved = memory(rig, "b").rename(memory(rig, "b").with_name(f"racksack-test-{os.getpid()}"))
        memory(rig, "b").touch()  # as if it were another user's
        try:
            kill_all_that_watch(root / "b", runner.attempt)
            await rig.until(lambda: "b" in rig.app.sweeps.active[number].progress.backoffs, "b has failed")
            sentence = f"{memory(rig, 'b')} belongs to another user"
            shown = sweep_story(view_of(view(rig, number)), None)
            assert sentence in shown
            assert "in RAM, checked (1.5M)" in shown
        finally:
            memory(rig, "b").unlink()
            shutil.rmtree(moved)
        assert (await rig.ended(number)).done == 600


async def test_a_sweep_without_it_says_nothing(rig: Rig) -> None:
    number = await rig.submit("import time\ndef f(x):\n    time.sleep(0.02)\n    return x\n", over(100))
    await rig.reached(number, 5)
    assert set(told(rig, number).values()) == {None}
    assert "RAM DISK" not in sweep_story(view_of(view(rig, number)), None)
    await rig.ended(number)


def view_of(value: dict[str, Any]) -> SweepView:
    """As the client has it."""
    return msgspec.convert(value, SweepView)
