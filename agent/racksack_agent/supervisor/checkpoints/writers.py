"""Whether a process has a file open for writing, or mapped so: then it may be half-written, however still it is."""

from __future__ import annotations

import os
from typing import Iterable, Optional, Sequence

from racksack_agent import processes


def being_written(work: str, paths: Iterable[str], among: Sequence[int]) -> Optional[str]:
    """The first of these paths that one of these processes can write to, or None."""
    wanted = {os.path.realpath(f"{work}/{path}"): path for path in paths}
    for process in among:
        for opened in _opened_for_writing(process):
            if opened in wanted:
                return wanted[opened]
    return None


def _opened_for_writing(process: int) -> Iterable[str]:
    try:
        descriptors = os.listdir(f"/proc/{process}/fd")
    except OSError:
        return  # it has ended, or became another user's
    for descriptor in descriptors:
        try:
            path = os.readlink(f"/proc/{process}/fd/{descriptor}")
        except OSError:
            continue
        if path.startswith("/") and _writes(processes.read_proc(process, f"fdinfo/{descriptor}")):
            yield path
    for line in processes.read_proc(process, "maps").splitlines():
        parts = line.split(None, 5)
        if len(parts) == 6 and parts[1][1:2] == b"w" and parts[1][3:4] == b"s":
            yield os.fsdecode(parts[5])


def _writes(info: bytes) -> bool:
    """Whether a descriptor was opened for writing: the access mode is in the last octal digit of its flags."""
    for line in info.splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False
