"""A disk of its own for a server's home, as a file system in an image, whose power can be cut.

A cut shuts the file system down without flushing its log: what was neither flushed nor written back is lost, as when
the power of a machine goes. Mounting it again replays the log, as at a boot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN: _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2
_UNMOUNT_S = 20.0
MAKERS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
MIB = 1 << 20


def why_not(kind: str) -> str:
    """Why such a disk cannot be made here; empty if it can."""
    if os.getuid() != 0:
        return "mounting a disk needs root"
    if not shutil.which(MAKERS[kind][0]):
        return f"{MAKERS[kind][0]} is not installed"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    if kind not in Path("/proc/filesystems").read_text().split():
        return f"this kernel has no {kind}"
    return ""


class Disk:
    """A disk that is mounted at `place`; what `place` held before is copied onto it."""

    def __init__(self, image: Path, place: Path, kind: str) -> None:
        self.image = image
        self.place = place
        self.kind = kind

    def build(self, size_bytes: int) -> None:
        """Make the file system, with the files that are at its place."""
        with self.image.open("wb") as file:
            file.truncate(size_bytes)
        subprocess.run([*MAKERS[self.kind], self.image], check=True)
        aside = self.image.with_name("before")
        aside.mkdir()
        self._mount(aside)
        subprocess.run(["cp", "-a", f"{self.place}/.", aside], check=True)
        subprocess.run(["umount", aside], check=True)
        aside.rmdir()
        self._mount(self.place)

    def _mount(self, place: Path) -> None:
        subprocess.run(["mount", "-o", "loop", "-t", self.kind, self.image, place], check=True)

    def cut(self) -> None:
        """Lose what is not on the disk. Whoever writes must have been stopped before."""
        folder = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def flush(self) -> None:
        """Put everything on the disk, as the kernel does by itself after half a minute."""
        subprocess.run(["sync", "-f", self.place], check=True)

    def mount_again(self) -> None:
        """As at a boot: the log is replayed."""
        self.unmount()
        self._mount(self.place)

    def unmount(self) -> None:
        """Take it out; those who used it may need a moment to be gone."""
        give_up_s = time.monotonic() + _UNMOUNT_S
        while subprocess.run(["umount", self.place], capture_output=True, check=False).returncode != 0:
            assert time.monotonic() < give_up_s, f"{self.place} is still in use"
            time.sleep(0.05)


@contextlib.contextmanager
def mounted(folder: Path, place: Path, kind: str, size_bytes: int = 512 * MIB) -> Iterator[Disk]:
    """A disk for the time of a test, its image in `folder`."""
    disk = Disk(folder / "disk.img", place, kind)
    disk.build(size_bytes)
    try:
        yield disk
    finally:
        disk.unmount()
        disk.image.unlink()
