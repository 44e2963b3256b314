"""Reports and other small records: JSON with a checksum, replaced atomically, and the news of them to
every living `serve`.
"""

from __future__ import annotations

import binascii
import errno
import json
import os
from typing import Any, Callable, Dict, Sequence

from racksack_agent import durable

Report = Dict[str, Any]


_SUM_BITS = 32


def encode(value: Dict[str, Any]) -> bytes:
    """`value` as JSON on one line, and its checksum. Names that are not UTF-8 come out with escapes."""
    data = json.dumps(value).encode()
    return data + b"\n" + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32 as blanks (0) and tabs (1): any reader of JSON takes the file all the same."""
    return f"{binascii.crc32(data):0{_SUM_BITS}b}".replace("0", " ").replace("1", "\t").encode()


def read(path: str) -> Report | None:
    """A record, or None when there is none that can be read whole (a torn write, a flipped bit, a folder).

    One without a checksum is taken as it is: a version of us that wrote none may have made it. Raises OSError where a
    limit of this process or machine was reached: that says nothing about the record.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
        value = json.loads(data)
    except OSError as problem:
        if is_short(problem):
            raise
        return None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    text, _, checksum = data.rpartition(b"\n")
    if text and checksum != _checksum(text):
        return None
    return value


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


_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR)


def is_short(problem: OSError) -> bool:
    """Whether an error means that descriptors, processes or memory ran out, which passes."""
    return problem.errno in _SHORT


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
    a `serve` that ended; it is removed (pipes appear in the folder only once they are read), unless it is of another
    machine that shares the folder.
    """
    ours = pipe_suffix()
    for name in _listed(run_folder):
        path = run_folder + "/" + name
        try:
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as problem:
            if problem.errno == errno.ENXIO and ("@" not in name or name.endswith(ours)):
                remove_file(path)
            continue
        try:
            os.write(pipe, attempt.encode() + b"\n")
        except OSError as problem:
            if problem.errno not in (errno.EAGAIN, errno.EPIPE):
                raise
        finally:
            os.close(pipe)


def pipe_suffix() -> str:
    """How the names of the pipes of this machine end."""
    return f"@{os.uname().nodename}.pipe"


def _listed(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".pipe")]
    except OSError:
        return []
