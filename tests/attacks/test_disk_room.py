"""One user cannot fill the controller's disk: what comes is put off while the store can still save."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from racksack_controller import disk_room
from racksack_controller.intake.garbage import remove_tree
from tests.attacks.test_floods import EVE
from tests.spool.conftest import needs_root


def free_bytes(folder: Path) -> int:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def test_the_last_of_the_disk_is_not_given_away(tmp_path: Path) -> None:
    for size_bytes in (free_bytes(tmp_path) + 1, free_bytes(tmp_path) - 4096, 2**62):
        with pytest.raises(OSError, match="nearly full") as raised, disk_room.hold(tmp_path, size_bytes):
            pytest.fail("it was let in")
        assert raised.value.errno == errno.ENOSPC
    with disk_room.hold(tmp_path, free_bytes(tmp_path) // 100):
        pass


def test_what_is_under_way_counts(tmp_path: Path) -> None:
    """Two that fit alone do not fit together; once the first is over the second does."""
    size_bytes = int(free_bytes(tmp_path) * 0.45)
    with (
        disk_room.hold(tmp_path, size_bytes),
        disk_room.hold(tmp_path, size_bytes),
        pytest.raises(OSError, match="nearly full"),
        disk_room.hold(tmp_path, size_bytes),
    ):
        pytest.fail("it was let in")
    with disk_room.hold(tmp_path, size_bytes):
        pass


def test_small_things_pass_on_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_room, "RESERVE_BYTES", 2**62)
    monkeypatch.setattr(disk_room, "RESERVE_SHARE", 1.0)
    with disk_room.hold(tmp_path, 4096):
        pass
    with pytest.raises(OSError, match="nearly full"), disk_room.hold(tmp_path, free_bytes(tmp_path) // 2):
        pytest.fail("it was let in")


@needs_root
def test_nothing_outside_is_opened_while_an_upload_is_removed(tmp_path: Path) -> None:
    """Its owner swaps a folder of it for a link to a closed folder of the controller's, over and over."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    upload = tmp_path / "incoming"
    upload.mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for make in (lambda path: path.mkdir(0o500), lambda path: path.symlink_to(closed)):
                path = upload / "up" / "inner"
                try:
                    make(path)
                    time.sleep(0.0002)
                    path.unlink() if path.is_symlink() else path.rmdir()
                except OSError:
                    continue

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(300):
            (upload / "up").mkdir(exist_ok=True)
            os.chown(upload / "up", EVE, -1)
            try:
                remove_tree(upload / "up")
            except OSError:
                continue
    finally:
        stop.set()
        swapping.join()
    assert closed.stat().st_mode & 0o777 == 0o500


def test_a_link_in_place_of_a_folder_is_removed_and_not_followed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "kept").mkdir(parents=True)
    closed.chmod(0o500)
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "link").symlink_to(closed)
    (tree / "inner").chmod(0o500)
    remove_tree(tree)
    assert not tree.exists()
    assert closed.stat().st_mode & 0o777 == 0o500
    assert (closed / "kept").is_dir()
    closed.chmod(0o700)
