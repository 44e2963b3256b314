"""What must be on disk before it counts: files written whole, flushed, renamed, and their folder flushed.

The agent, which imports nothing of ours, has its own copy (`racksack_agent.durable`).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """Flush everything of the file system that a folder is on: one call for a tree of many files. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
