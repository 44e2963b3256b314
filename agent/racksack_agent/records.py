"""Reports and other small records: JSON, replaced atomically, and the news of them to every living `serve`."""

from __future__ import annotations

import errno
import json
import os
from typing import Any, Callable, Dict, Sequence

from racksack_agent import durable

Report = Dict[str, Any]


def encode(value: Any) -> bytes:  # noqa: ANN401 - any JSON
    """`value` as JSON on one line. Names that are not UTF-8 come out with escapes."""
    return json.dumps(value).encode()


def read(path: str) -> Report | None:
    """A record, or None when there is none that can be read as whole JSON (a torn write, a bad sector, a folder)."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def replace(path: str, data: bytes, sync: bool = False) -> None:
    """Write beside, flush if `sync`, rename, flush the name if `sync`. Raises OSError and leaves the old content."""
    beside = f"{path}.{os.getpid()}.new"
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        durable.write_all(file, data)
        if sync:
            os.fsync(file)
    except OSError:
        os.unlink(beside)
        raise
    finally:
        os.close(file)
    os.rename(beside, path)
    if sync:
        durable.sync_folder(os.path.dirname(path))


def is_full(problem: OSError) -> bool:
    """Whether an error means that the disk, or the user's share of it, is full."""
    return problem.errno in (errno.ENOSPC, errno.EDQUOT)


def replace_at_last(path: str, data: bytes, makes_room: Sequence[Callable[[], None]], sync: bool = True) -> None:
    """As `replace`; on a full disk it makes room step by step. Raises OSError when nothing helps."""
    for make_room in makes_room:
        try:
            replace(path, data, sync)
        except OSError as problem:
            if not is_full(problem):
                raise
            make_room()
        else:
            return
    replace(path, data, sync)


def remove_file(path: str) -> None:
    """Unlink; an absent file is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def tell(run_folder: str, attempt: str) -> None:
    """Write the attempt's name into the pipe of each living `serve`.

    A full pipe is passed over: its reader looks at all attempts every second anyway. A pipe without a reader belongs to
    a `serve` that ended; it is removed (pipes appear in the folder only once they are read).
    """
    for name in _listed(run_folder):
        path = run_folder + "/" + name
        try:
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as problem:
            if problem.errno == errno.ENXIO:
                remove_file(path)
            continue
        try:
            os.write(pipe, attempt.encode() + b"\n")
        except OSError as problem:
            if problem.errno not in (errno.EAGAIN, errno.EPIPE):
                raise
        finally:
            os.close(pipe)


def _listed(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".pipe")]
    except OSError:
        return []
