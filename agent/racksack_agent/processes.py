"""Processes of an attempt: starting them, finding every descendant, and ending all of them.

The supervisor is a *child subreaper* (prctl(2)): a descendant whose parent ends becomes the supervisor's own child,
whatever it did with fork or setsid. So all of an attempt's processes stay below the supervisor in the tree, their
CPU time is counted when they are reaped, and `wait` saying "no children" means that nothing is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import resource
import signal
from typing import Iterable, Mapping, Sequence

_PR_SET_CHILD_SUBREAPER = 36


class StartFailedError(Exception):
    """A program could not be started; the message says which and why. `at_fault`: job, or node: another may do it."""

    def __init__(self, message: str, at_fault: str = "job") -> None:
        super().__init__(message)
        self.at_fault = at_fault


_prctl = ctypes.CDLL(None).prctl  # looked up once, before anything is forked


def become_subreaper() -> None:
    """Adopt orphaned descendants from now on. Raises OSError."""
    if _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("the kernel refused PR_SET_CHILD_SUBREAPER")


# What a program finds as it is by default, whatever was ignored where the controller or the agent was started: Python
# ignores SIGPIPE and SIGXFSZ, a shell ignores SIGINT and SIGQUIT for what it starts with &, nohup ignores SIGHUP.
_DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)


def spawn(argv: Sequence[str], env: Mapping[str, str], streams: tuple[int, int, int]) -> int:
    """Start a program with the given stdin, stdout and stderr, in the current folder and in a session of its own, so
    that a signal to its process group reaches nothing of ours; returns its process id.

    Raises StartFailedError. The system's posix_spawn does not copy this process first, as fork would: that is a
    millisecond.
    """
    actions = [(os.POSIX_SPAWN_DUP2, stream, target) for target, stream in enumerate(streams)]
    try:
        return os.posix_spawn(
            argv[0], list(argv), env, file_actions=actions, setsigmask=(), setsigdef=_DEFAULTS, setsid=True
        )
    except OSError as problem:
        raise StartFailedError(start_problem(argv[0], problem), start_fault(argv[0], problem)) from problem


_NODE_ERRORS = (
    errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS,
    errno.ESTALE,
)  # fmt: skip


def start_fault(program: str, problem: OSError) -> str:
    """Whose fault it is: the node's when it ran out of something, or lacks a program that is not in the folder where
    this process works (the project).
    """
    is_missing = problem.errno == errno.ENOENT and not os.path.realpath(program).startswith(os.getcwd() + "/")
    return "node" if problem.errno in _NODE_ERRORS or is_missing else "job"


def start_problem(program: str, problem: OSError) -> str:
    """Why a program did not start, as a sentence."""
    if problem.errno == errno.ENOEXEC:
        return f"{program} is not a program for this machine and does not start with #!"
    if problem.errno == errno.ENOENT and os.path.exists(program):
        return f"{program} names an interpreter in its first line that is not on this node"
    return f"{program} could not be started: {problem.strerror}"


def parents() -> dict[int, int]:
    """Each process of this machine and its parent, as far as /proc shows them."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = read_proc(name, "stat")
            if stat:
                found[int(name)] = int(stat[stat.rindex(b")") + 2 :].split(None, 2)[1])
    return found


def read_proc(process: int | str, what: str) -> bytes:
    """The content of a file in /proc/PID; empty when the process is gone or not ours."""
    try:
        file = os.open(f"/proc/{process}/{what}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, 1 << 17)
    except OSError:
        return b""
    finally:
        os.close(file)


def name_of(process: int) -> list[int]:
    """A process by its id and its start in the kernel's ticks, since ids are given out again; [] when it is gone."""
    fields = read_proc(process, "stat").rpartition(b")")[2].split()
    return [process, int(fields[19])] if len(fields) > 19 and fields[0] != b"Z" else []


def is_alive(name: Sequence[int]) -> bool:
    """Whether the process of a name that `name_of` gave still lives."""
    return len(name) == 2 and name_of(name[0]) == list(name)


def program_of(process: int) -> str:
    """The path of the program file that a process executes; of a script that is its interpreter. Empty if unknown."""
    try:
        return os.readlink(f"/proc/{process}/exe")
    except OSError:
        return ""


def wake(process: int) -> None:
    """Continue a process that SIGSTOP has stopped; nothing happens to any other."""
    if read_proc(process, "stat").rpartition(b")")[2].split()[:1] == [b"T"]:
        send([process], signal.SIGCONT)


def descendants(root: int) -> list[int]:
    """All living processes below `root`, itself left out."""
    return below(root, parents())


def below(root: int, parent_of: Mapping[int, int]) -> list[int]:
    """All processes below `root` in a picture that `parents` took."""
    children: dict[int, list[int]] = {}
    for process, parent in parent_of.items():
        children.setdefault(parent, []).append(process)
    found: list[int] = []
    pending = [root]
    while pending:
        for process in children.get(pending.pop(), ()):
            found.append(process)
            pending.append(process)
    return found


def marked(marker: bytes) -> list[int]:
    """The processes whose environment holds `marker`: what is left of an attempt whose supervisor is dead."""
    me = os.getpid()
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) != me and marker in read_proc(name, "environ").split(b"\0")
    ]


def mark_of(folder: str) -> int:
    """A number that stands for an attempt's folder, in microseconds far beyond the age of any machine."""
    digest = hashlib.sha256(os.fsencode(folder)).digest()
    return 2**60 + int.from_bytes(digest[:6], "big")


def take_mark(mark: int) -> None:
    """Bear a mark that all processes inherit that this one starts, through fork, exec, setsid and an empty environment:
    a limit on real-time processor seconds that none will ever reach. Where another limit is set already, there is none.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_RTTIME, (mark, mark))


def with_limit(mark: int) -> list[int]:
    """The processes of this user that bear a mark."""
    text = str(mark).encode()
    me = os.getpid()
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit()
        and int(name) != me
        and any(line.startswith(b"Max realtime timeout") and text in line for line in _limits(name))
    ]


def _limits(process: str) -> list[bytes]:
    return read_proc(process, "limits").splitlines()


def with_argument(argument: bytes, name: bytes = b"") -> list[int]:
    """The processes of this user that have an argument in their command line; with `name` only those whose own name
    begins so.
    """
    return [
        int(process)
        for process in os.listdir("/proc")
        if process.isdigit()
        and argument in read_proc(process, "cmdline").split(b"\0")
        and read_proc(process, "comm").startswith(name)
        and _is_ours(process)
    ]


def _is_ours(process: str) -> bool:
    try:
        return os.stat(f"/proc/{process}").st_uid == os.geteuid()
    except OSError:
        return False


def has_open(process: int, path: str) -> bool:
    """Whether a process has a file open, even if its name was removed since."""
    folder = f"/proc/{process}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}") in (path, path + " (deleted)"):
                return True
        except OSError:
            continue
    return False


def send(processes: Iterable[int], number: int) -> int:
    """Signal processes; those already gone are passed over. Returns how many took it."""
    count = 0
    for process in processes:
        try:
            os.kill(process, number)
            count += 1
        except (ProcessLookupError, PermissionError):
            continue
    return count


def rss_bytes(process: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    fields = read_proc(process, "statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def pss_bytes(process: int) -> int:
    """Proportional memory: shared pages count in parts. Falls back to `rss_bytes` where it cannot be read."""
    for line in read_proc(process, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return rss_bytes(process)
