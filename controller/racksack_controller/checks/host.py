"""What the controller's machine gives it: uv, news of the drop folder, open files. Blocks for moments."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

from racksack_controller.nodes.uv_push import controller_uv
from racksack_jobspecs.findings import Finding, not_looked_at, ok, warning

UV_S = 10.0
_WITHOUT_UV = "so nodes without one make venvs in seconds, not tenths; it is in racksack's extra `controller`"
_INOTIFY = Path("/proc/sys/fs/inotify")
_LIMITS = ("max_user_instances", "max_user_watches")


def look_at_uv() -> list[Finding]:
    """Whether there is a uv that nodes without one can be given."""
    binary = controller_uv()
    if binary is None:
        return [warning("uv", f"not installed beside the controller, {_WITHOUT_UV}")]
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=UV_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [warning("uv", f"{binary} does not run ({error}), {_WITHOUT_UV}")]
    if said.returncode != 0:
        return [warning("uv", f"{binary} does not run ({said.stderr.strip()[-200:]}), {_WITHOUT_UV}")]
    return [ok("uv", f"{said.stdout.strip()} ({binary})")]


def look_at_inotify(hears: bool | None, rescan_s: float) -> list[Finding]:
    """Whether the kernel tells of new job files. `hears` None: the watch has not begun yet."""
    limits = ", ".join(f"fs.inotify.{name} {_limit(name)}" for name in _LIMITS)
    if hears is None:
        return [not_looked_at("inotify", "the controller has just started")]
    if hears:
        return [ok("inotify", f"the kernel reports new job files at once ({limits})")]
    return [
        warning(
            "inotify",
            f"the kernel does not report new job files, so the folder is scanned every {rescan_s:g} s; "
            f"raise the limits with sysctl ({limits}) and restart the controller",
        )
    ]


def _limit(name: str) -> str:
    try:
        return (_INOTIFY / name).read_text().strip()
    except OSError:
        return "unknown"


def look_at_open_files() -> list[Finding]:
    """How near the controller is to its limit of open files."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    if limit == resource.RLIM_INFINITY:
        return [ok("open files", f"{used} open, without a limit")]
    told = f"{used} of {limit} open"
    if used * 2 > limit:
        return [warning("open files", f"{told}; raise LimitNOFILE of the unit (or `ulimit -n`, at most {hard} now)")]
    return [ok("open files", told)]
