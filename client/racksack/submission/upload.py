"""Brings a project to the controller: into `incoming/<name>/`, where it waits for the job file that names it.

The name is random, and kept until the job was handed in, so that a broken upload goes on where it stopped. Content that
the controller has from this project's last submission is taken from there (hard links where the controller allows
them).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from racksack.submission.project import Selection
from racksack.transport.rsync import Moved, Progress, transfer
from racksack.transport.target import Target, cache_folder

# Group-writable for the controller, closed to others. Permissions are not part of what must match for content to be
# taken from an older snapshot, whose files are read-only.
_OPTIONS = ("--links", "--times", "--executability", "--partial", "--chmod=Dug+rwx,Do-rwx,Fug+rw,Fo-rwx,Fug-s")


@contextmanager
def upload_name(target: Target, digest: str) -> Iterator[str]:
    """The name for an upload of this content: that of an unfinished one, if there is one that nobody else is busy
    with.
    """
    kept = cache_folder() / "uploads" / hashlib.sha256(f"{target}\0{digest}".encode()).hexdigest()[:32]
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        file = open(kept, "a+")  # noqa: SIM115 - closed below
    except OSError:  # without a cache a broken upload starts anew, and nothing else is lost
        yield _new_name()
        return
    with file:
        if not _locked(file.fileno()):
            yield _new_name()
            return
        file.seek(0)
        name = file.read().strip() or _new_name()
        file.truncate(0)
        file.write(name)
        file.flush()
        yield name
        kept.unlink(missing_ok=True)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _new_name() -> str:
    return f"u-{secrets.token_hex(12)}"


def send(
    target: Target, selection: Selection, name: str, previous: str | None, progress: Progress | None = None
) -> Moved:
    """Send a selection to `incoming/<name>/`. `previous` is a digest that the controller may have. Raises
    TransferError.
    """
    options = [*_OPTIONS]
    if previous is not None:
        options.append(f"--link-dest=../../snapshots/{previous}")
    if target.host is None:
        options.append("--whole-file")
    names = b"".join(entry.path + b"\0" for entry in selection.entries)
    destination = f"{target.spool}/incoming/{name}/"
    if target.host is not None:
        destination = f"{target.host}:{destination}"
    return transfer(target.host, options, f"{selection.root}/", destination, names=names, progress=progress)


def hand_in(target: Target, file_name: str, text: str) -> None:
    """Put a job file into `jobs/`: written beside, flushed, renamed. Raises UnreachableError or RacksackError."""
    if target.host is not None:
        _hand_in_remotely(target, target.host, file_name, text.encode())
        return
    jobs = Path(target.spool) / "jobs"
    beside = jobs / f".{file_name}.tmp"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o660)
    with open(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    beside.rename(jobs / file_name)


_REMOTE_SCRIPT = 'umask 007; cd "$1" && cat > "$2" && test "$(wc -c < "$2")" -eq "$4" && sync "$2" && mv "$2" "$3"'


def _hand_in_remotely(target: Target, host: str, file_name: str, text: bytes) -> None:
    """The same over ssh. The size is checked because a connection that breaks looks like the end of the file to
    `cat`.
    """
    from racksack.transport import ssh

    jobs = f"{target.spool}/jobs"
    ssh.run(host, ["sh", "-c", _REMOTE_SCRIPT, "sh", jobs, f".{file_name}.tmp", file_name, str(len(text))], text=text)
