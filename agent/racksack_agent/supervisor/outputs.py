"""Gathers what goes back to the user in out/: what the job wrote there, what its patterns match in work/, and small
files that are new or changed there.

Nothing is given up silently, and nothing that can come stays away because of something that cannot:

- What this account cannot read is opened where it is its own, else left out and named.
- Above the limit on size the logs come, then the small files first; the rest stays in left/ on the node and is named.
- Of the working folder what is new or changed but not small stays in left/, too (see `new_files`).
- Links are made to work at the other end, see `out_links`; sockets, pipes and devices are dropped and named.

Files are moved, not copied: that needs no space and no time. All of it may be cut short and be done again.
"""

from __future__ import annotations

import os
from typing import Iterable, List, NamedTuple, Sequence, Tuple

from racksack_agent import records
from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor import captured, copying, globbing, new_files, out_links, readable
from racksack_agent.supervisor.output_report import Gathered

LOGS = ("stdout.log", "stderr.log", "env.log", "times.log")
SMALL_BYTES_MAX = 10 << 20
SMALL_TOTAL_BYTES_MAX = 100 << 20
SMALL_FILES_MAX = 1000
_BESIDE = "work"  # the folder in out/ for files whose own place is taken


class Wanted(NamedTuple):
    """What is to come."""

    patterns: Sequence[str]
    max_bytes: int
    new_files: str  # small | all | none
    snapshot: str  # what work/ was copied from
    since_ns: int  # when the program began, by the clock of the file system; 0 when that is not known


class Found(NamedTuple):
    """A file that could come: its size, its path, whether it is in work/, and whether it comes only if it is small."""

    size_bytes: int
    path: str
    in_work: bool
    only_small: bool


def gather(folder: AttemptFolder, wanted: Wanted) -> Gathered:
    """Fill out/ and say what it holds. Never raises OSError."""
    gathered = Gathered()
    try:
        own_folder(folder.out, gathered)
        readable.make_readable(folder.out, is_folder=True)
        captured.restore(folder, _BESIDE)
        readable.open_all(folder.out, folder.path + "/unreadable", gathered)
        found = [Found(size, path, False, False) for size, path in files_below(folder.out, gathered)]
        found += in_work(folder, wanted, gathered)
        place(folder, wanted.max_bytes, found, gathered)
        out_links.settle(folder.work, folder.out, gathered)
    except OSError as problem:
        reason = "the node's disk was full" if records.is_full(problem) else str(problem)
        gathered.problem = f"not all outputs could be collected: {reason}"
    recount(folder.out, gathered)
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


def files_below(out: str, gathered: Gathered) -> List[Tuple[int, str]]:
    """Size and path of the regular files below out/. What is neither file, folder nor link is removed and named."""
    found = []
    for entry, path in readable.walk(out):
        if entry.is_symlink() or entry.is_dir(follow_symlinks=False):
            continue
        if entry.is_file(follow_symlinks=False):
            found.append((entry.stat(follow_symlinks=False).st_size, path))
        else:
            gathered.drop(f"{path}: a device, socket or pipe")
            os.unlink(entry.path)
    return found


def in_work(folder: AttemptFolder, wanted: Wanted, gathered: Gathered) -> List[Found]:
    """What the patterns match in work/, and what is new or changed there. Folders that match are made in out/."""
    if os.path.islink(folder.work) or not os.path.isdir(folder.work):
        return []
    found: List[Found] = []
    matched = globbing.matched(folder.work, wanted.patterns, gathered)
    for path in matched:
        full = folder.work + "/" + path
        if os.path.isdir(full) and not os.path.islink(full):
            os.makedirs(folder.out + "/" + path, exist_ok=True)
        else:
            found.append(Found(os.lstat(full).st_size, path, True, False))
    if wanted.new_files != "none" and wanted.since_ns:
        for size, path in new_files.changed(folder.work, wanted.snapshot, wanted.since_ns, gathered):
            if path not in matched:
                found.append(Found(size, path, True, wanted.new_files == "small"))
    return found


def place(folder: AttemptFolder, max_bytes: int, found: Sequence[Found], gathered: Gathered) -> None:
    """Let come what fits, asked for before found and small before large; move the rest to left/."""
    logs = [one for one in found if one.path in LOGS and not one.in_work]
    space = max_bytes - sum(one.size_bytes for one in logs)
    if space < 0:
        for one in logs:
            cut(folder, one.path, max_bytes // len(LOGS), gathered)
        space = 0
    small_space, small_files = SMALL_TOTAL_BYTES_MAX, SMALL_FILES_MAX
    for one in sorted((one for one in found if one not in logs), key=lambda one: _turn(folder.work, one)):
        fits = one.size_bytes <= space
        if one.only_small:
            fits = fits and one.size_bytes <= min(SMALL_BYTES_MAX, small_space) and small_files > 0
        if fits:
            space -= one.size_bytes
            if one.only_small:
                small_space, small_files = small_space - one.size_bytes, small_files - 1
            if one.in_work:
                bring(folder, one.path)
        else:
            leave(folder, one, gathered)


def _turn(work: str, one: Found) -> Tuple[bool, int, bool, str]:
    """In which order files are looked at; a name through a link before the file's own, under which it is moved away."""
    return one.only_small, one.size_bytes, not (one.in_work and _is_reached_by_link(work, one.path)), one.path


def bring(folder: AttemptFolder, path: str) -> None:
    """Move a file or link of work/ to its place in out/, beside what the job itself put there."""
    if os.path.islink(folder.work + "/" + path) and _is_folder(folder.out + "/" + path):
        return  # `last/*` has come, and `last` is a link to what that found
    taken = path in LOGS or os.path.lexists(folder.out + "/" + path) or _below_a_file(folder.out, path)
    target = folder.out + "/" + (f"{_BESIDE}/{path}" if taken else path)
    if _is_reached_by_link(folder.work, path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        copying.copy_file(folder.work + "/" + path, target)
    else:
        move(folder.work + "/" + path, target)


def _is_reached_by_link(work: str, path: str) -> bool:
    """Whether a pattern such as `latest/*` has found it under another name than its own."""
    parent = os.path.dirname(work + "/" + path)
    return os.path.realpath(parent) != os.path.join(os.path.realpath(work), os.path.dirname(path)).rstrip("/")


def _below_a_file(out: str, path: str) -> bool:
    parts = path.split("/")[:-1]
    folders = ("/".join(parts[: count + 1]) for count in range(len(parts)))
    return any(os.path.lexists(out + "/" + one) and not _is_folder(out + "/" + one) for one in folders)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def leave(folder: AttemptFolder, one: Found, gathered: Gathered) -> None:
    """Move a file to left/, from where it can be asked for as long as the node keeps it."""
    source = (folder.work if one.in_work else folder.out) + "/" + one.path
    taken = os.path.lexists(folder.left + "/" + one.path) or _below_a_file(folder.left, one.path)
    move(source, folder.left + "/" + (f"{_BESIDE}/{one.path}" if taken else one.path))
    gathered.leave(one.size_bytes, one.path, "new" if one.only_small else "max_output")


def move(source: str, target: str) -> None:
    """Rename, making the folders above; copy out of a folder that may not be changed. Raises OSError."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.rename(source, target)
    except PermissionError:
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        else:
            copying.copy_file(source, target)


def cut(folder: AttemptFolder, log: str, keep_bytes: int, gathered: Gathered) -> None:
    """Of a log that is too large even alone keep the beginning, and say so in its last line; left/ has all of it."""
    path, keep_bytes = folder.out + "/" + log, max(keep_bytes, 4096)
    size_bytes = os.path.getsize(path)
    if size_bytes <= keep_bytes:
        return
    leave(folder, Found(size_bytes, log, False, False), gathered)
    with open(folder.left + "/" + log, "rb") as whole, open(path, "wb") as beginning:
        left = keep_bytes
        while left > 0 and (data := whole.read(min(left, 1 << 20))):
            left -= beginning.write(data)
        beginning.write(b"\n[racksack: the rest was cut, the outputs were too large]\n")


def recount(out: str, gathered: Gathered) -> None:
    """Count regular files (links not) and bytes below out/; what cannot be read does not count."""
    gathered.output_bytes = gathered.output_files = 0
    for size_bytes in _sizes(out):
        gathered.output_files += 1
        gathered.output_bytes += size_bytes


def _sizes(out: str) -> Iterable[int]:
    for entry, _ in readable.walk(out):
        if entry.is_file(follow_symlinks=False):
            yield entry.stat(follow_symlinks=False).st_size
