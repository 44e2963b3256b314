"""What somebody removes from a spool while its controller runs is put back, and work goes on."""

import shutil
import socket
from pathlib import Path

import pytest

from racksack_controller.intake.spool import folders
from racksack_jobspecs.layout import Spool
from tests.attacks.controllers import GOOD, config_of, drop, refused, running, submitted, until, upload

FOLDERS = [folder.name for folder in folders(Spool(Path("/spool")))[1:]]


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(str(path))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("name", FOLDERS)
async def test_a_folder_that_is_removed_is_made_again(root: Path, name: str) -> None:
    async with running(config_of(root)) as app:
        [folder] = [one for one in folders(app.spool) if one.name == name]
        mode = folder.stat().st_mode
        shutil.rmtree(folder)
        await until(lambda: all(one.is_dir() for one in folders(app.spool)), "it is there again")
        await until(lambda: folder.stat().st_mode == mode, "as it was")
        drop(app.spool, "bad", "nonsense: 1\n")
        drop(app.spool, "good", GOOD.format(project=upload(app.spool, "up1")) + "name: good\n")
        await until(lambda: submitted(app, "good"), "a good file is taken")
        await until(lambda: bool(refused(app.spool, "bad")), "a bad file is refused")
        await until(lambda: not app.state.jobs, "the job has run")
        assert list(app.spool.returns.glob("*/result.json"))


async def test_a_folder_that_was_exchanged_is_listened_to(root: Path) -> None:
    async with running(config_of(root)) as app:
        app.watcher._rescan_s = 0.2
        app.spool.jobs.rename(root / "aside")
        await until(lambda: app.spool.rejected.is_dir(), "it is there again")
        inode = app.spool.jobs.stat().st_ino
        await until(lambda: app.watcher._folder is not None and app.watcher._folder[1] == inode, "it is watched")
        app.watcher._rescan_s = 3600.0
        drop(app.spool, "first", "nonsense: 1\n")
        drop(app.spool, "second", "nonsense: 1\n")
        await until(lambda: bool(refused(app.spool, "second")), "a file in it is heard of")


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_socket_that_is_removed_is_made_again(root: Path, is_replaced: bool) -> None:
    async with running(config_of(root)) as app:
        assert answers(app.spool.socket)
        app.spool.socket.unlink()
        if is_replaced:
            app.spool.socket.write_text("something else")
        await until(lambda: answers(app.spool.socket), "it answers again")
