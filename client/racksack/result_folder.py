"""The folder that one attempt's results are in, on the laptop: whose it is, and how newer results get into it.

A folder holds the results of one attempt of one job and nothing of another. `.racksack-job` in it says which attempt
that is and which files were brought, so results of a later attempt, or of a job of another controller that has the same
number, never mix with what is there.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from racksack_jobspecs.bounds import UNDECODABLE

MARK = ".racksack-job"
RESULT = "result.json"
_NAMES_TRIED = 10_000

Existing = Literal["keep", "overwrite", "both"]
"""What happens to a local file that differs from the job's: kept, replaced, or kept beside the new one."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempt of which job results are from. Two jobs never have the same."""

    job: int
    key: str = ""  # random; empty from a controller that does not tell it
    epoch: str = ""
    attempt: int = 0
    submitted_at_s: float | None = None

    def is_same_job(self, other: Origin) -> bool:
        """Whether both are attempts of one job."""
        if self.key and other.key and self.key != other.key:
            return False
        return (self.job, self.submitted_at_s) == (other.job, other.submitted_at_s)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of `.racksack-job`."""

    origin: Origin
    files: list[bytes] = []  # that were brought, relative to the folder; bytes since names need not be UTF-8


@dataclass
class Settled:
    """What became of results that arrived."""

    folder: Path
    kept: list[str] = field(default_factory=list)  # local files that differ and were not replaced


class OtherJobError(Exception):
    """The controller's folder holds the results of another job."""


def origin_told(folder: Path, asked: Origin) -> Origin:
    """The origin of a folder as it came from the controller, as its result.json tells it.

    Raises OtherJobError when that is not the job that was asked for: a restored store may have given a number again.
    """
    found = _of_result(folder)
    if found is None:
        return asked
    if not found.is_same_job(asked):
        raise OtherJobError(f"the controller's folder {asked.job} holds the results of another job of that number")
    return found


def _of_result(folder: Path) -> Origin | None:
    """What result.json says; None when there is none, or it does not say enough to tell jobs apart."""
    try:
        found = msgspec.json.decode((folder / RESULT).read_bytes(), type=Origin)
    except (OSError, *UNDECODABLE):
        return None
    return found if found.submitted_at_s is not None else None


def mark_of(folder: Path) -> Mark | None:
    """What a local folder says of itself; None for one that no fetch made."""
    mark = read_mark(folder / MARK)
    if mark is None and (origin := _of_result(folder)) is not None:  # copied by hand
        return Mark(origin=origin)
    return mark


def read_mark(path: Path) -> Mark | None:
    """A mark that was written; None when it is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except (OSError, *UNDECODABLE):
        return None


def write_mark(path: Path, mark: Mark) -> None:
    """Write a mark, whole or not at all. Raises OSError."""
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_bytes(msgspec.json.encode(mark))
    beside.replace(path)


def place(arrived: Path, wanted: Path, origin: Origin, existing: Existing) -> Settled:
    """Put an arrived folder at `wanted`, or beside it when another attempt or another job is there. Raises OSError."""
    result = Settled(wanted if existing == "overwrite" and _same_job(wanted, origin) else _free_or_own(wanted, origin))
    files = _brought(arrived)
    if not os.path.lexists(result.folder):
        write_mark(arrived / MARK, Mark(origin=origin, files=files))
        arrived.rename(result.folder)
        return result
    before = mark_of(result.folder)
    (arrived / MARK).unlink(missing_ok=True)
    for path in sorted(arrived.rglob("*")):
        _settle(path, result.folder / path.relative_to(arrived), str(path.relative_to(arrived)), result, existing)
    shutil.rmtree(arrived)
    if before is not None and before.origin != origin:  # overwritten: nothing of the earlier attempt stays
        _remove_brought(result.folder, set(before.files) - set(files))
        before = None
    write_mark(result.folder / MARK, Mark(origin=origin, files=sorted({*files, *(before.files if before else ())})))
    return result


def _brought(arrived: Path) -> list[bytes]:
    """The files and links of an arrived folder, without a mark: a job may have returned such a folder itself."""
    found = (path for path in arrived.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(os.fsencode(path.relative_to(arrived)) for path in found if path != arrived / MARK)


def _same_job(folder: Path, origin: Origin) -> bool:
    mark = mark_of(folder)
    return mark is not None and mark.origin.is_same_job(origin)


def _free_or_own(wanted: Path, origin: Origin) -> Path:
    """The folder of this very attempt, or a name that nothing has: `6-train`, `6-train.attempt2`, `6-train.2`."""
    if not os.path.lexists(wanted):
        return wanted
    if wanted.is_symlink() or not wanted.is_dir():
        raise FileExistsError(17, "is in the way; move it elsewhere", str(wanted))
    mark = mark_of(wanted)
    if mark is not None and mark.origin == origin:
        return wanted
    if mark is not None and mark.origin.is_same_job(origin):
        wanted = wanted.with_name(f"{wanted.name}.attempt{origin.attempt}")
    for number in range(1, _NAMES_TRIED):
        candidate = wanted if number == 1 else wanted.with_name(f"{wanted.name}.{number}")
        mark = mark_of(candidate)
        if not os.path.lexists(candidate) or (mark is not None and mark.origin == origin):
            return candidate
    raise FileExistsError(17, "has too many folders beside it", str(wanted))


def _settle(path: Path, destination: Path, relative: str, result: Settled, existing: Existing) -> None:
    """Move one entry in, without ever replacing a file that differs unless asked to."""
    if path.is_dir() and not path.is_symlink():
        destination.mkdir(exist_ok=True)
    elif not os.path.lexists(destination) or (existing == "overwrite" and not destination.is_dir()):
        path.replace(destination)
    elif is_same(path, destination):
        return
    elif existing == "both":
        _keep_both(path, destination)
    else:
        result.kept.append(relative)


def is_same(one: Path, other: Path) -> bool:
    """Whether two files hold the same, or two links lead to the same place."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _keep_both(path: Path, destination: Path) -> None:
    """Put a file beside one that differs, as `name~1.ext` or with the first free number, unless it is there already."""
    for number in range(1, _NAMES_TRIED):
        candidate = destination.with_name(f"{destination.stem}~{number}{destination.suffix}")
        if not os.path.lexists(candidate):
            path.replace(candidate)
            return
        if is_same(path, candidate):
            return
    raise FileExistsError(17, "has too many copies beside it", str(destination))


def _remove_brought(folder: Path, names: set[bytes]) -> None:
    """Remove files that an earlier fetch brought, and the folders that are empty then."""
    for name in map(os.fsdecode, names):
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            continue
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == folder or any(parent.iterdir()):
                break
            parent.rmdir()
