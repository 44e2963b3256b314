"""Reports and other small records: JSON, replaced atomically, and the news of them to every living `serve`.

Imported at each start of an attempt, where importing `json` would cost more than all else: `encode` writes the few
kinds of values that a report has and falls back to `json` for text that needs escaping.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Sequence

    Report = Dict[str, Any]


def encode(value: Any) -> str:  # noqa: ANN401 - any JSON
    """`value` as JSON on one line. Text may hold surrogates (names that are not UTF-8); they come out escaped."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        plain = value.isascii() and value.isprintable() and '"' not in value and "\\" not in value
        return f'"{value}"' if plain else _escaped(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode(key)}: {encode(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(encode(item) for item in value) + "]"


def _escaped(text: str) -> str:
    import json

    return json.dumps(text)


def read(path: str) -> Report | None:
    """A record, or None when there is none or it is not whole JSON (a torn write after a power cut)."""
    import json

    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def replace(path: str, data: bytes, sync: bool = False) -> None:
    """Write beside, flush if `sync`, rename. Raises OSError and leaves the old content."""
    beside = f"{path}.{os.getpid()}.new"
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, data)
        if sync:
            os.fsync(file)
    finally:
        os.close(file)
    os.rename(beside, path)


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
