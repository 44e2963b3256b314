"""Brings return folders to `./results/<id>-<name>/`.

Many jobs come in one rsync, into a folder beside the results, which a broken transfer leaves for the next try. What is
left there is told apart by job and attempt, and compared by content. A second, dry run of rsync must find nothing left
to copy; then each folder is put into place (result_folder.py). What is there already is never replaced unless asked: a
file that differs stays as it is and the job counts as not fetched. Links that lead out of a return folder are not
brought.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from racksack import not_brought
from racksack.client import Client
from racksack.errors import PartialTransferError, RacksackError
from racksack.result_folder import Existing, Mark, Origin, OtherJobError, origin_told, place, read_mark, write_mark
from racksack.text import clean
from racksack.transport.rsync import Progress, differing, transfer
from racksack.transport.target import Target
from racksack.views import JobView
from racksack_jobspecs import durable

LOGS = ("stdout.log", "stderr.log", "env.log", "times.log", "result.json")
BATCH = 100
PARTIAL = ".racksack-partial"
_NAME_CHARS_MAX = 60
# What was left of a broken transfer and is not the job's is deleted: rsync's own temporary files, for one.
_OPTIONS = (
    "--recursive", "--links", "--times", "--executability", "--safe-links", "--no-devices", "--no-specials",
    "--chmod=Du+rwx,Dgo+rx", "--delete", "--delete-excluded",
)  # fmt: skip


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

    def not_brought(self) -> list[str]:
        """What did not come back with the job, by the result.json that has just come."""
        try:
            result = json.loads((self.folder / "result.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return []  # it was not asked for, or it is not the controller's
        return list(not_brought.lines(self.job.id, result if isinstance(result, dict) else None, self.folder))


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
    """`<id>-<name>`, of an array `<array>_<index>-<name>`, with a name that is safe in any path and command line."""
    number = f"{job.array_id}_{job.array_index}" if job.array_id and job.array_index is not None else str(job.id)
    composed = unicodedata.normalize("NFC", job.name)
    name = re.sub(r"[^\w.+=@-]+", "_", composed)[:_NAME_CHARS_MAX].strip("._-")
    return f"{number}-{name}" if name else number


def origin_of(job: JobView) -> Origin:
    """Which attempt the results of a finished job are from."""
    attempt = job.attempt if isinstance(job.attempt, int) else 0
    return Origin(job=job.id, key=job.key, epoch=job.epoch, attempt=attempt, submitted_at_s=job.submitted_at_s)


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
        beside.mkdir(mode=0o700, exist_ok=True)
        is_resumed = [_prepare(beside, job) for job in batch]
        incomplete = _bring(client.target, batch, beside, wish, progress, by_content=any(is_resumed))
        for job in batch:
            yield _place(client, job, beside / str(job.id), wish, incomplete.get(job.id))
            if not (beside / str(job.id)).exists():
                (beside / _mark_name(job)).unlink(missing_ok=True)
        if beside.is_dir() and not any(beside.iterdir()):
            beside.rmdir()


def _mark_name(job: JobView) -> str:
    return f"{job.id}.of"


def _prepare(beside: Path, job: JobView) -> bool:
    """Whether part of this very attempt is here from a broken transfer; part of anything else is removed."""
    folder, mark, origin = beside / str(job.id), beside / _mark_name(job), origin_of(job)
    before = read_mark(mark)
    if before is not None and before.origin == origin:
        return folder.is_dir()
    if os.path.lexists(folder):
        shutil.rmtree(folder)
    write_mark(mark, Mark(origin=origin))
    return False


def _bring(
    target: Target,
    jobs: Sequence[JobView],
    beside: Path,
    wish: Wish,
    progress: Progress | None,
    *,
    by_content: bool,
) -> dict[int, str]:
    """Copy return folders to `beside/<id>/`. Returns, by job, why it has not arrived whole."""
    source = f"{target.spool}/returns/"
    if target.host is not None:
        source = f"{target.host}:{source}"
    names = b"".join(b"%d\0" % job.id for job in jobs)
    options = [*_OPTIONS, *_filters(wish), *(["--checksum"] if by_content else [])]
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
            missing |= _bring(target, [job], beside, wish, progress, by_content=by_content)
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
        settled = place(arrived, result.folder, origin_told(arrived, origin_of(job)), wish.existing)
    except OtherJobError as error:
        result.error = f"{error}; ask whoever runs the controller (`racksack doctor` there)"
        return result
    except OSError as error:
        result.error = f"{clean(error.filename or result.folder)}: {error.strerror}"
        return result
    result.folder, result.kept = settled.folder, settled.kept
    if wish.is_whole and not result.kept:
        try:
            if wish.delete_after:
                durable.sync_file_system(result.folder)  # before the only other copy goes
            client.act(job.id, "fetched", delete=wish.delete_after or None)
        except RacksackError as error:
            result.error = f"it is in {clean(result.folder)}, but the controller could not be told: {error}"
        except OSError as error:
            where = clean(result.folder)
            result.error = (
                f"it is in {where}, but could not be written to the disk: {error.strerror}; nothing was deleted"
            )
    return result


def _measure(folder: Path) -> tuple[int, int]:
    sizes = [path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return len(sizes), sum(sizes)
