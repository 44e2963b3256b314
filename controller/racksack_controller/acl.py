"""POSIX ACL entries on a shared spool, through `setfacl`: what opens a file to one user and to nobody else."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 600.0


class AclError(Exception):
    """An entry could not be set; the sentence says on what, for whom, and what setfacl said."""


def uid_to_open_to(owner: str) -> int | None:
    """The uid of an owner who needs an entry: not the controller's own, and one that can log in here at all."""
    try:
        uid = pwd.getpwnam(owner).pw_uid
    except KeyError:
        return None
    return None if uid == os.geteuid() else uid


def let_read(uid: int, paths: Sequence[Path], *, recursive: bool = False) -> None:
    """Let one more user read these files, or enter and read these folders. Raises AclError."""
    options = ["-R", "-P"] if recursive else []
    argv = ["setfacl", *options, "-m", f"u:{uid}:rX", "--", *map(str, paths)]
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError as error:
        raise AclError("setfacl is missing on the controller; install the package acl") from error
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip()
        raise AclError(f"{', '.join(map(str, paths))} could not be made readable to uid {uid}: {said}") from error
