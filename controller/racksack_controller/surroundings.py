"""An embedded controller is started by whatever shell speaks to racksack first; its jobs must not depend on which.

So umask, priority, limits and PATH are made those of a fresh login, as far as this user may. What cannot be undone
(hard limits that were lowered, a priority that was given away) is logged.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import resource
import shutil
import subprocess
from pathlib import Path

log = logging.getLogger("racksack")

UMASK = 0o022
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOGIN_S = 5.0
_MARK = "racksack-path="
_PROGRAMS = ("rsync", "tmux", "screen", "ssh", "uv", "git", "setfacl", "nvidia-smi", "rocm-smi", "amd-smi")
_LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max address space": resource.RLIMIT_AS,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
}


def make_fresh() -> list[str]:
    """Undo what the starting shell set; sentences about what stays. Called before anything else is started."""
    os.umask(UMASK)
    told = [*_raise_limits(), *_usual_priority()]
    os.environ["PATH"] = fresh_path(os.environ.get("PATH", ""), _login_path())
    return told


def _raise_limits() -> list[str]:
    """Soft limits to the hard ones, and the hard ones to those of process 1 where this user may."""
    told = []
    for name, (soft, hard) in _of_init().items():
        number = _LIMITS[name]
        _, ours = resource.getrlimit(number)
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, OSError):
            wanted = ours if _is_less(ours, soft) else soft
            resource.setrlimit(number, (wanted, ours))
            if _is_less(ours, soft):
                told.append(f"{name.lower()} is limited to {ours} by the shell that started this controller")
    return told


def _is_less(one: int, other: int) -> bool:
    if resource.RLIM_INFINITY in (one, other):
        return one != other and other == resource.RLIM_INFINITY
    return one < other


def _of_init() -> dict[str, tuple[int, int]]:
    """Soft and hard limits of process 1, by the kernel's names; ours where they cannot be read."""
    try:
        text = Path("/proc/1/limits").read_text()
    except OSError:
        return {name: (resource.getrlimit(number)[1],) * 2 for name, number in _LIMITS.items()}
    found = {}
    for name in _LIMITS:
        match = re.search(rf"^{name} +(\S+) +(\S+)", text, re.MULTILINE)
        if match is not None:
            found[name] = (_number(match[1]), _number(match[2]))
    return found


def _number(word: str) -> int:
    return resource.RLIM_INFINITY if word == "unlimited" else int(word)


def _usual_priority() -> list[str]:
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice <= 0:
        return []
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except PermissionError:
        return [f"jobs run with a niceness of {nice}, as the shell that started this controller did"]
    return []


def _login_path() -> str:
    """PATH as a login gives it to this user; the usual one where that does not tell."""
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return USUAL_PATH
    env = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "PATH": USUAL_PATH, "TERM": "dumb"}
    argv = [user.pw_shell or "/bin/sh", "-l", "-c", f'echo "{_MARK}$PATH"']
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=LOGIN_S,
            check=False, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return USUAL_PATH
    told = re.findall(rf"^{_MARK}(/.*)$", done.stdout, re.MULTILINE)
    return told[-1].replace(" ", ":") if told else USUAL_PATH  # fish writes a list


def fresh_path(ours: str, of_login: str) -> str:
    """The PATH of a login, and behind it the folders of ours that have a program which would be missing."""
    missing = [program for program in _PROGRAMS if shutil.which(program, path=of_login) is None]
    found = [shutil.which(program, path=ours) for program in missing]
    folders = dict.fromkeys(str(Path(path).parent) for path in found if path is not None)
    return ":".join((of_login, *folders))
