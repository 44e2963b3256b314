"""Gathers what goes back to the user: matches of the job's globs are copied into out/, what may not leave is dropped
and named.

Dropped are links that lead out of the tree (the receiver would follow them somewhere else), devices, sockets and
pipes. If the whole is larger than allowed only the logs stay.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import Iterator, Sequence, Tuple

from racksack_agent import records
from racksack_agent.supervisor import globbing
from racksack_agent.supervisor.output_report import Gathered, TooLargeError

LOGS = ("stdout.log", "stderr.log", "env.log", "times.log")


def gather(work: str, out: str, globs: Sequence[str], max_bytes: int) -> Gathered:
    """Copy what the globs match, drop what may not leave, measure, and hold the size limit. Never raises OSError."""
    gathered = Gathered()
    try:
        try:
            own_folder(out, gathered)
            if globs and not os.path.islink(work) and os.path.isdir(work):
                globbing.copy_matches(work, out, globs, gathered, max_bytes)
            measure(out, gathered)
            if gathered.output_bytes > max_bytes:
                raise TooLargeError(gathered.output_bytes)
        except TooLargeError as problem:
            keep_logs(out, gathered, max_bytes)
            found = f"its outputs were {problem.found_bytes} bytes or more, above the {max_bytes} allowed"
            gathered.problem = found + "; only the logs were kept"
    except OSError as problem:
        full = records.is_full(problem)
        reason = "the node's disk was full" if full else str(problem)
        gathered.problem = f"not all outputs could be gathered: {reason}"
        recount(out, gathered)
    return gathered


def own_folder(out: str, gathered: Gathered) -> None:
    """A job may have removed its return folder, or put a link in its place: nothing outside may be touched through
    it.
    """
    if os.path.islink(out) or not os.path.isdir(out):
        gathered.drop("the return folder itself: the job removed or replaced it")
        if os.path.lexists(out):
            os.unlink(out)
        os.mkdir(out)


def measure(out: str, gathered: Gathered) -> None:
    """Count regular files (links not) and bytes below `out`, dropping what may not leave. Raises OSError."""
    gathered.output_bytes = gathered.output_files = 0
    root = os.path.realpath(out)
    folders = [out]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif fault := fault_of(entry, root):
                    gathered.drop(f"{os.path.relpath(entry.path, out)}: {fault}")
                    os.unlink(entry.path)
                elif not entry.is_symlink():
                    gathered.output_files += 1
                    gathered.output_bytes += entry.stat(follow_symlinks=False).st_size


def fault_of(entry: os.DirEntry[str], root: str) -> str:
    """Why an entry may not leave the node; empty when it may."""
    if entry.is_symlink():
        target = os.readlink(entry.path)
        inside = os.path.realpath(entry.path).startswith(root + "/") and not target.startswith("/")
        return "" if inside else f"a link that leads out of the return folder ({target})"
    if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
        return "a device, socket or pipe"
    return ""


def keep_logs(out: str, gathered: Gathered, max_bytes: int) -> None:
    """Remove all but the logs, naming the largest of it, and cut logs that alone are too large. Raises OSError."""
    for size_bytes, relative in sorted(sizes_below(out), reverse=True):
        if relative not in LOGS:
            gathered.drop(f"{relative}: {size_bytes} bytes, the outputs were too large")
    for name in os.listdir(out):
        path = out + "/" + name
        if name in LOGS and not os.path.islink(path) and os.path.isfile(path):
            cut(path, max_bytes // len(LOGS))
        elif os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    recount(out, gathered)


def sizes_below(out: str) -> Iterator[Tuple[int, str]]:
    """The size and path of each file below `out`."""
    for folder, _, names in os.walk(out):
        for name in names:
            path = folder + "/" + name
            yield os.lstat(path).st_size, os.path.relpath(path, out)


def cut(path: str, keep_bytes: int) -> None:
    """Keep the beginning of a log that is too large, and say so in its last line."""
    keep_bytes = max(keep_bytes, 4096)
    if os.path.getsize(path) > keep_bytes:
        os.truncate(path, keep_bytes)
        with open(path, "a", encoding="utf-8") as log:
            log.write("\n[racksack: the rest was cut, the outputs were too large]\n")


def recount(out: str, gathered: Gathered) -> None:
    """Count again what is there; what cannot be read does not count."""
    gathered.output_bytes = gathered.output_files = 0
    for folder, _, names in os.walk(out):
        for name in names:
            info = os.lstat(folder + "/" + name)
            if stat.S_ISREG(info.st_mode):
                gathered.output_files += 1
                gathered.output_bytes += info.st_size
