"""Brings a project to the controller: into `incoming/<name>/`, where it waits for the job file that names it.

Names are random and each is used for one try. What an unfinished try left is looked up by the digest of the content and
serves the next one as a source of hard links, so a broken upload goes on where it stopped, and whatever else lies in
the old folder (rsync's temporary files, say) does not become part of the project. Content that the controller has from
this project's last submission is taken from there in the same way.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from racksack.errors import RacksackError, UsageError
from racksack.submission.project import Selection
from racksack.text import clean, say
from racksack.transport.rsync import Moved, Progress, transfer
from racksack.transport.target import Target, cache_folder
from racksack_jobspecs import durable

# Group-writable for the controller, closed to others. Permissions are not part of what must match for content to be
# taken from an older snapshot, whose files are read-only. Times are compared to the nanosecond: a file that was written
# again within the same second, and has the same size, is another file.
_OPTIONS = (
    "--links",
    "--times",
    "--modify-window=-1",
    "--executability",
    "--partial",
    "--chmod=Dug+rwx,Do-rwx,Fug+rw,Fo-rwx,Fug-s",
)
_NAME = re.compile(r"u-[0-9a-f]{24}")
_SOURCES_MAX = 10  # unfinished tries that are looked at; rsync takes at most 20 folders to link from


@dataclass(frozen=True)
class Upload:
    """One try to bring content: the folder it goes to, and what earlier tries at the same content left."""

    name: str
    unfinished: tuple[str, ...] = ()


@contextmanager
def upload_of(target: Target, digest: str) -> Iterator[Upload]:
    """A try at bringing this content. It is forgotten, with those before it, unless the block raises.

    Of two at once with the same content, the second one starts from nothing.
    """
    notes = cache_folder() / "uploads" / hashlib.sha256(f"{target}\0{digest}".encode()).hexdigest()[:32]
    try:
        notes.parent.mkdir(parents=True, exist_ok=True)
        file = open(notes, "a+")  # noqa: SIM115 - closed below
    except OSError:  # without a cache a broken upload starts anew, and nothing else is lost
        yield Upload(_new_name())
        return
    with file:
        if not _locked(file.fileno()):
            yield Upload(_new_name())
            return
        upload = _noted(file)
        try:
            yield upload
        except UsageError:  # it arrived and was refused, so there is nothing to go on with
            notes.unlink(missing_ok=True)
            _remove(target, (*upload.unfinished, upload.name))
            raise
        notes.unlink(missing_ok=True)
        _remove(target, upload.unfinished)


def _noted(file: IO[str]) -> Upload:
    """A new name, written down with those that were not finished."""
    file.seek(0)
    unfinished = tuple(name for name in file.read().split() if _NAME.fullmatch(name))[-_SOURCES_MAX:]
    upload = Upload(_new_name(), unfinished)
    file.truncate(0)
    file.write("\n".join((*unfinished, upload.name)) + "\n")
    file.flush()
    return upload


def _remove(target: Target, names: Sequence[str]) -> None:
    """Remove what unfinished tries left. What stays is removed by the controller once it is old."""
    if not names:
        return
    folders = [f"{target.spool}/incoming/{name}" for name in names]
    try:
        if target.host is None:
            for folder in filter(os.path.lexists, folders):
                shutil.rmtree(folder)
        else:
            from racksack.transport import ssh

            ssh.run(target.host, ["rm", "-rf", "--", *folders])
    except (OSError, RacksackError) as error:
        say(f"note: an unfinished upload stays on the controller until it expires: {clean(error)}")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _new_name() -> str:
    return f"u-{secrets.token_hex(12)}"


def send(
    target: Target, selection: Selection, upload: Upload, previous: str | None, progress: Progress | None = None
) -> Moved:
    """Send a selection to `incoming/<name>/`. `previous` is a digest that the controller may have. Raises
    TransferError.
    """
    options = [*_OPTIONS, *(f"--link-dest=../{name}" for name in reversed(upload.unfinished))]
    if previous is not None:
        options.append(f"--link-dest=../../snapshots/{previous}")
    if target.host is None:
        options.append("--whole-file")
    names = b"".join(entry.path + b"\0" for entry in selection.entries)
    destination = f"{target.spool}/incoming/{upload.name}/"
    if target.host is not None:
        destination = f"{target.host}:{destination}"
    return transfer(target.host, options, f"{selection.root}/", destination, names=names, progress=progress)


def hand_in(target: Target, file_name: str, text: str) -> None:
    """Put a job file into `jobs/`: written beside, flushed, renamed. Raises UnreachableError or RacksackError.

    The name beside is random and must be new: others may write to `jobs/` too, and could have put a link there.
    """
    beside = f".{secrets.token_hex(12)}.tmp"
    if target.host is not None:
        _hand_in_remotely(target, target.host, (beside, file_name), text.encode())
        return
    jobs = Path(target.spool) / "jobs"
    descriptor = os.open(jobs / beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o660)
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        (jobs / beside).rename(jobs / file_name)
    except BaseException:
        (jobs / beside).unlink(missing_ok=True)
        raise
    with suppress(PermissionError):  # a folder that may be written to and not read
        durable.sync_folder(jobs)


# `set -C` makes `>` create the file or fail, as O_EXCL does.
_REMOTE_SCRIPT = (
    'umask 007; set -C; cd "$1" && cat > "$2" && test "$(wc -c < "$2")" -eq "$4" && sync "$2" && mv -T "$2" "$3" && '
    "{ sync . 2>/dev/null || :; }"
)


def _hand_in_remotely(target: Target, host: str, names: tuple[str, str], text: bytes) -> None:
    """The same over ssh. The size is checked because a connection that breaks looks like the end of the file to
    `cat`.
    """
    from racksack.transport import ssh

    ssh.run(host, ["sh", "-c", _REMOTE_SCRIPT, "sh", f"{target.spool}/jobs", *names, str(len(text))], text=text)
