"""A job's secrets are shown as stars in what it printed. As long as they are, so that places in a log stay what they
are; a secret of several lines, line by line.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, Dict, List, Mapping, Sequence, Set

from racksack_agent import records
from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor import captured

Order = Dict[str, Any]
_BYTES_LEAST = 4  # shorter ones stand in any text


def values_of(order: Mapping[str, Any]) -> List[bytes]:
    """What is to be masked, the longest first."""
    found: Set[bytes] = set()
    for value in order.get("secrets", {}).values():
        found.update(line.strip() for line in value.encode("utf-8", "surrogateescape").splitlines())
    return sorted((line for line in found if len(line) >= _BYTES_LEAST), key=len, reverse=True)


def mask(data: bytes, values: Sequence[bytes]) -> bytes:
    """A piece of output without the secrets, of the same length."""
    for value in values:
        data = data.replace(value, b"*" * len(value))
    return data


def half_at_end(data: bytes, value: bytes) -> int:
    """How many of the last bytes may be the beginning of a secret that is not written to its end."""
    return next((length for length in range(len(value) - 1, 0, -1) if data.endswith(value[:length])), 0)


def mask_text(text: str, values: Sequence[bytes]) -> str:
    """A sentence without the secrets."""
    if not values:
        return text
    return mask(text.encode("utf-8", "surrogateescape"), values).decode("utf-8", "surrogateescape")


def mask_logs(folder: AttemptFolder, order: Order) -> None:
    """In the logs themselves, once no process of the attempt writes any more."""
    values = values_of(order)
    for name in ("stdout.log", "stderr.log", "env.log") if values else ():
        try:
            _mask_file(captured.path_of(folder, name), values)
        except OSError:
            continue  # there is none, or the job put something else in its place


def _mask_file(path: str, values: Sequence[bytes]) -> None:
    file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not os.path.isfile(f"/proc/self/fd/{file}") or not os.fstat(file).st_size:
            return
        with mmap.mmap(file, 0) as content:
            for value in values:
                at = content.find(value)
                while at >= 0:
                    content[at : at + len(value)] = b"*" * len(value)
                    at = content.find(value, at + len(value))
    finally:
        os.close(file)


def mask_own(text: str) -> str:
    """A sentence of a program that has the secrets in its environment, such as an exception of a sweep's point."""
    names = os.environ.get("RACKSACK_SECRETS", "").split(",")
    return mask_text(text, values_of({"secrets": {name: os.environ[name] for name in names if name in os.environ}}))


def forget(folder: AttemptFolder) -> None:
    """Take the secrets out of what stays of an attempt that has ended."""
    order = records.read(folder.launch)
    if order is not None and order.get("secrets"):
        records.replace(folder.launch, records.encode({**order, "secrets": {}}))
