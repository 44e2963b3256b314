"""Whether a file system can give two files the same blocks, each of them changed without the other (btrfs, XFS)."""

from __future__ import annotations

import fcntl
import os

_FICLONE = 0x40049409  # ioctl_ficlone(2)


def works(source_folder: str, target_folder: str) -> bool:
    """Tried with a small file from one folder to the other; False also when either cannot be written to."""
    paths = [f"{folder}/.racksack-reflink-{os.getpid()}" for folder in (source_folder, target_folder)]
    made = []
    try:
        for path in paths:
            made.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.write(made[0], b"x" * 4096)
        fcntl.ioctl(made[1], _FICLONE, made[0])
    except OSError:
        return False
    else:
        return True
    finally:
        for file, path in zip(made, paths):
            os.close(file)
            os.unlink(path)
