"""Takes entries out of the drop folder: accepted ones for good, refused ones into `jobs/rejected/` with the reason.

The name of an entry may meanwhile stand for another file that nobody has read. So an entry is first renamed to a
private name, then recognised, and put back if it is not the one that was meant. The private name holds what was to be
done and the identity of the file, so that a start after a crash can finish it. Nothing is renamed out of `jobs/` where
it can be helped, because watchdog holds all later events back for half a second when it hears of that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from racksack_controller.acl import AclError, let_read
from racksack_controller.intake.drop import DroppedFile, identity_of
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.readers import shown
from racksack_jobspecs.yamltext import TEXT_BYTES_MAX, Problem

log = logging.getLogger("racksack.spool")

ACCEPTED, REFUSED = "accepted", "refused"

_PRIVATE = re.compile(r"\.(accepted|refused)-(f[0-9a-f]+(?:-[0-9a-f]+){4})-[0-9a-f]{8}-(.+)", re.DOTALL)
_KEPT_CHARS = 40  # of the name in a private name; its end is kept, which holds the suffix
_NAME_BYTES_MAX = 240


def discard(file: DroppedFile) -> None:
    """Remove an accepted file, and nothing else that stands under its name by now. Raises OSError."""
    taken = _take(file, ACCEPTED)
    if taken is not None:
        taken.unlink()


def reject(spool: Spool, file: DroppedFile, problems: Sequence[Problem]) -> None:
    """Keep a refused file in `jobs/rejected/` beside `<name>.error`.

    Raises OSError when there is no room for it; then the file stays in `jobs/` and is met again.
    """
    kept = spool.rejected / _free_name(spool.rejected, file)
    error = kept.with_name(f"{kept.name}.error")
    _write_error(error, file, problems)
    taken = _take(file, REFUSED)
    if taken is not None:
        _move_into(taken, kept)
    if file.owner_uid != os.geteuid():
        _let_owner_read(file.owner_uid, [path for path in (kept, error) if path.is_file() and not path.is_symlink()])


def finish_taken(jobs: Path) -> None:
    """After a crash: remove what was accepted, put back what was refused or never read. Raises OSError."""
    with os.scandir(jobs) as entries:
        found = [(entry.name, match) for entry in entries if (match := _PRIVATE.fullmatch(entry.name))]
    for name, match in found:
        taken = jobs / name
        is_judged = _same(identity_of(taken.lstat()).key, match[2])
        if match[1] == ACCEPTED and is_judged:
            taken.unlink()
        else:
            _put_back(taken, jobs / match[3])


def _take(file: DroppedFile, purpose: str) -> Path | None:
    """Rename the file to a private name; None when it is gone or another stands in its place. Raises OSError."""
    jobs = file.path.parent
    name = f".{purpose}-{file.identity.key}-{secrets.token_hex(4)}-{file.path.name[-_KEPT_CHARS:]}"
    taken = jobs / name
    try:
        file.path.rename(taken)
    except FileNotFoundError:
        return None
    if _same(identity_of(taken.lstat()).key, file.identity.key):
        return taken
    _put_back(taken, file.path)
    return None


def _same(key: str, other: str) -> bool:
    """Whether two identities are of one file; a rename changes the time of the last change, which comes last."""
    return key.rpartition("-")[0] == other.rpartition("-")[0]


def _put_back(taken: Path, path: Path) -> None:
    """Give an entry its name back, or one like it when yet another file has that by now."""
    target = path
    while True:
        try:
            if target.is_symlink() or target.exists():
                raise FileExistsError
            if taken.is_dir() and not taken.is_symlink():
                taken.rename(target)
                return
            _rename_if_free(taken, target)
            return
        except FileExistsError:
            target = path.with_name(f"{path.stem}-{secrets.token_hex(4)}{path.suffix}")


def _rename_if_free(taken: Path, target: Path) -> None:
    """Rename without replacing. Raises FileExistsError."""
    try:
        os.link(taken, target, follow_symlinks=False)
    except PermissionError:
        taken.rename(target)  # the kernel lets nobody link other people's files; the name was free a moment ago
    else:
        taken.unlink()


def _free_name(rejected: Path, file: DroppedFile) -> str:
    """The file's own name, unless that would replace what somebody else had refused."""
    name = file.path.name
    if len(os.fsencode(name)) > _NAME_BYTES_MAX:
        name = f"{name[:_KEPT_CHARS]}-{secrets.token_hex(4)}.yaml"
    try:
        there = (rejected / name).lstat()
    except FileNotFoundError:
        return name
    is_own = there.st_uid == file.owner_uid and not stat.S_ISDIR(there.st_mode)
    return name if is_own else f"{Path(name).stem[:200]}-{secrets.token_hex(4)}.yaml"


def _write_error(path: Path, file: DroppedFile, problems: Sequence[Problem]) -> None:
    """The reasons, one a line, as whoever dropped the file is to read them."""
    lines = [f"{shown(file.path.name)} was refused. Fix it and put it into jobs/ again.", *map(str, problems)]
    beside = path.with_name(f".{secrets.token_hex(8)}.new")
    try:
        _write_private(beside, ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _move_into(taken: Path, kept: Path) -> None:
    """Move a refused entry to its place. What is no file and cannot be moved is removed: there is nothing in it."""
    beside = kept.with_name(f".{secrets.token_hex(8)}.new")
    info = taken.lstat()
    if stat.S_ISDIR(info.st_mode):
        with contextlib.suppress(OSError):  # else it stays, hidden, until its owner removes it
            taken.rename(kept)
        return
    try:
        os.link(taken, beside, follow_symlinks=False)
    except PermissionError:
        if stat.S_ISREG(info.st_mode) and not _copy(taken, beside, info.st_size):
            taken.rename(kept)
            return
    if beside.is_symlink() or beside.exists():
        beside.replace(kept)
    taken.unlink()


def _copy(source: Path, target: Path, size_bytes: int) -> bool:
    """Copy a file that may not be linked; False when it is too large or may not be read either."""
    if size_bytes > TEXT_BYTES_MAX:
        return False
    try:
        with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            _write_private(target, file.read(TEXT_BYTES_MAX))
    except PermissionError:
        return False
    return True


def _write_private(path: Path, data: bytes) -> None:
    """Write a new file that only the controller can read, as yet."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)


def _let_owner_read(uid: int, paths: Sequence[Path]) -> None:
    """Open the refused file and its reason to the one who dropped it. The refusal stands without it."""
    try:
        let_read(uid, paths)
    except AclError as error:
        log.warning("refused file=%s: %s", paths[0] if paths else "", error)
