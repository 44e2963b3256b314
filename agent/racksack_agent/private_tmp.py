"""A folder of this account alone in /tmp, for what needs a short path: a socket's path has 107 bytes at most, and an
agent's home may be longer than that.
"""

from __future__ import annotations

import os
import stat


def folder() -> str:
    """Its path; it is made if there is none. Raises OSError when somebody else made it."""
    path = f"/tmp/racksack-{os.getuid()}"  # noqa: S108 - its owner and mode are checked
    os.makedirs(path, mode=0o700, exist_ok=True)
    info = os.lstat(path)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise PermissionError(f"{path} must be a folder of this user with mode 0700; remove it")
    return path
