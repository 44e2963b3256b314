"""Brings return folders to `./results/<id>-<name>/`.

Many jobs come in one rsync, into a folder beside the results, which a broken transfer leaves for the next try. A
second, dry run of rsync must find nothing left to copy; then each folder is renamed into place. What is there already
is never replaced unless asked: a file that differs stays as it is and the job counts as not fetched. Links that lead
out of a return folder are not brought.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from racksack.client import Client
from racksack.errors import PartialTransferError, RacksackError
from racksack.text import clean
from racksack.transport.rsync import Progress, differing, transfer
from racksack.transport.target import Target
from racksack.views import JobView

LOGS = ("stdout.log", "stderr.log", "env.log", "times.log", "result.json")
BATCH = 100
PARTIAL = ".racksack-partial"
_NAME_CHARS_MAX = 60
_OPTIONS = ("--recursive", "--links", "--times", "--executability", "--safe-links", "--no-devices", "--no-specials")

Existing = Literal["keep", "overwrite", "both"]
"""What happens to a local file that differs from the job's: kept, replaced, or kept beside the new one."""


@dataclass
class Fetched:
    """What became of one job's results."""

    job: JobView
    folder: Path
    files: int = 0
    size_bytes: int = 0
    kept: list[str] = field(default_factory=list)  # local files that differ and were not replaced
    error: str | None = None
    deleted: bool = False  # the error is that the controller's copy was deleted after an earlier fetch


@dataclass(frozen=True)
class Wish:
    """How results are to be brought."""

    into: Path
    include: tuple[str, ...] = ()  # patterns; empty: everything
    only_logs: bool = False
    existing: Existing = "keep"
    delete_after: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether everything a job returned is brought."""
        return not self.include and not self.only_logs


def folder_name(job: JobView) -> str:
    """`<id>-<name>` with a name that is safe in any path and on any command line."""
    name = re.sub(r"[^A-Za-z0-9._+=@-]+", "_", job.name)[:_NAME_CHARS_MAX].strip("._-")
    return f"{job.id}-{name}" if name else str(job.id)


def fetch(client: Client, jobs: Sequence[JobView], wish: Wish, progress: Progress | None = None) -> Iterator[Fetched]:
    """Bring the results of these jobs, telling each as it is in place. Raises TransferError when the transfer
    breaks.
    """
    try:
        wish.into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RacksackError(f"{wish.into} cannot be made: {error.strerror}") from error
    for at in range(0, len(jobs), BATCH):
        batch = jobs[at : at + BATCH]
        beside = wish.into / PARTIAL
        incomplete = _bring(client.target, batch, beside, wish, progress)
        for job in batch:
            yield _place(client, job, beside / str(job.id), wish, incomplete.get(job.id))
        if beside.is_dir() and not any(beside.iterdir()):
            beside.rmdir()


def _bring(
    target: Target, jobs: Sequence[JobView], beside: Path, wish: Wish, progress: Progress | None
) -> dict[int, str]:
    """Copy return folders to `beside/<id>/`. Returns, by job, why it has not arrived whole."""
    beside.mkdir(mode=0o700, exist_ok=True)
    source = f"{target.spool}/returns/"
    if target.host is not None:
        source = f"{target.host}:{source}"
    names = b"".join(b"%d\0" % job.id for job in jobs)
    options = [*_OPTIONS, *_filters(wish)]
    missing: dict[int, str] = {}
    try:
        transfer(target.host, [*options, "--partial"], source, f"{beside}/", names=names, progress=progress)
        for path in differing(target.host, options, source, f"{beside}/", names):
            number, _, rest = path.partition(b"/")
            if number.isdigit():
                missing.setdefault(int(number), f"{clean(os.fsdecode(rest))} did not arrive; repeat the command")
    except PartialTransferError as error:
        if len(jobs) == 1:
            return {jobs[0].id: str(error)}
        for job in jobs:  # one unreadable folder must not hold back the others
            missing |= _bring(target, [job], beside, wish, progress)
    return missing


def _filters(wish: Wish) -> list[str]:
    """Rsync's rules: what is asked for, the folders on the way, nothing else."""
    if wish.is_whole:
        return []
    wanted = [*wish.include]
    if wish.only_logs:
        wanted += [f"/*/{name}" for name in LOGS]
    return ["--prune-empty-dirs", "--include=*/", *[f"--include={pattern}" for pattern in wanted], "--exclude=*"]


def _place(client: Client, job: JobView, arrived: Path, wish: Wish, missing: str | None) -> Fetched:
    """Put one arrived folder where the user wants it and tell the controller."""
    result = Fetched(job, wish.into / folder_name(job))
    if missing is not None or not arrived.is_dir():
        result.deleted = job.fetched and client.job(job.id).results_deleted
        result.error = missing or "there is no return folder on the controller"
        if result.deleted:
            result.error = "its results were fetched before, and the controller's copy was deleted then"
        return result
    result.files, result.size_bytes = _measure(arrived)
    try:
        _settle(arrived, result, wish.existing)
    except OSError as error:
        result.error = f"{clean(error.filename or result.folder)}: {error.strerror}"
        return result
    if wish.is_whole and not result.kept:
        try:
            client.act(job.id, "fetched", delete=wish.delete_after or None)
        except RacksackError as error:
            result.error = f"it is in {clean(result.folder)}, but the controller could not be told: {error}"
    return result


def _settle(arrived: Path, result: Fetched, existing: Existing) -> None:
    if not os.path.lexists(result.folder):
        arrived.rename(result.folder)
        return
    if result.folder.is_symlink() or not result.folder.is_dir():
        raise FileExistsError(17, "is in the way; move it elsewhere", str(result.folder))
    for path in sorted(arrived.rglob("*")):
        relative = path.relative_to(arrived)
        if not path.is_dir() or path.is_symlink():
            _settle_file(path, result.folder / relative, relative, result, existing)
        else:
            (result.folder / relative).mkdir(exist_ok=True)
    shutil.rmtree(arrived)


def _settle_file(path: Path, destination: Path, relative: Path, result: Fetched, existing: Existing) -> None:
    """Move one file in, without ever replacing one that differs unless asked to."""
    if not os.path.lexists(destination) or (existing == "overwrite" and not destination.is_dir()):
        path.replace(destination)
    elif _is_same(path, destination):
        return
    elif existing == "both":
        path.replace(_free_name(destination))
    else:
        result.kept.append(str(relative))


def _is_same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _free_name(path: Path) -> Path:
    """`name~1.ext`, or the first number that is free."""
    for number in range(1, 10_000):
        candidate = path.with_name(f"{path.stem}~{number}{path.suffix}")
        if not os.path.lexists(candidate):
            return candidate
    raise FileExistsError(17, "has too many copies beside it", str(path))


def _measure(folder: Path) -> tuple[int, int]:
    sizes = [path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return len(sizes), sum(sizes)
