"""The system's ssh and rsync on this machine: found, and new enough for the options that they are given."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from racksack_jobspecs.findings import Finding, failed, ok, warning

VERSION_S = 10.0
SSH_LEAST = (6, 8)  # `ssh -G`
RSYNC_LEAST = (3, 1, 0)  # `--info=progress2`
_SSH = re.compile(r"OpenSSH_(?:\w+_)?([0-9]+)\.([0-9]+)")
_RSYNC = re.compile(r"rsync\s+version\s+v?([0-9]+)\.([0-9]+)\.([0-9]+)")


def look_at_ssh(is_needed: bool) -> Finding:
    """Whether ssh is here; for a controller on this machine it is not needed."""
    if not is_needed:
        return ok("ssh", "not needed, the controller is on this machine")
    return _look("ssh", ["ssh", "-V"], _SSH, SSH_LEAST, "openssh-client")


def look_at_rsync() -> Finding:
    """Whether rsync is here; without it no project is sent and no result fetched."""
    return _look("rsync", ["rsync", "--version"], _RSYNC, RSYNC_LEAST, "rsync")


def _look(name: str, argv: Sequence[str], pattern: re.Pattern[str], least: tuple[int, ...], package: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return failed(name, f"not found; install the package {package}")
    try:
        done = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=VERSION_S, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return failed(name, f"{path} did not report its version within {VERSION_S:.0f} s; install {package} again")
    except OSError as error:
        return failed(name, f"{path} does not run ({error.strerror}); install {package} again")
    said = f"{done.stdout}\n{done.stderr}".strip()
    found = pattern.search(said)
    if found is None:
        first = said.splitlines()[0][:100] if said else f"nothing, and ended with code {done.returncode}"
        return warning(name, f"{path} does not report its version: {first}; if it fails, install {package}")
    version = tuple(map(int, found.groups()))
    if version < least:
        return failed(name, f"{path} is version {_dotted(version)}; install {_dotted(least)} or newer")
    return ok(name, f"version {_dotted(version)} ({path})")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
