"""Which files were being taken in when the controller ended without having meant to.

A fault that nobody foresaw may end the process itself: it runs out of memory, or a library crashes. The file that
caused it is still in `jobs/`, so every start would meet it again and end the same way. So each file is noted while this
process computes something for it. A start that finds one noted suspects it: it is taken alone, and once the controller
has ended over it twice, it is set aside.

A file that only waits is not noted: for its turn, for its content to be copied, for the sandbox that reads it. A
controller that is killed from outside, however often, is hardly ever computing for one file, so no file is blamed.

Kept in the page cache and not flushed: it is about the end of a process. After a restart of the machine nothing is
suspected, since a power cut is nobody's fault.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("racksack.intake")

CRASHES_MAX = 2  # ends of the controller over one file, after which it is set aside
SUSPECTS_MAX = 1000
_COMPACT_BYTES = 256 * 1024


class Journal:
    """The files that are being worked on, in a small file of lines: `boot ID`, `+ key`, `~ key`, `- key`,
    `! crashes key`: worked on, no longer, done with, suspected.
    """

    def __init__(self, path: Path) -> None:
        """Reads what the last controller left. A journal that cannot be read or written is logged and not needed."""
        self._path = path
        self._in_hand: set[str] = set()
        self._crashes = _crashes_after(path)
        self._descriptor: int | None = None
        self._bytes = 0
        self._rewrite()

    def crashes(self, key: str) -> int:
        """How often the controller ended while it worked on this file."""
        return self._crashes.get(key, 0)

    @contextlib.contextmanager
    def working_on(self, key: str) -> Iterator[None]:
        """Note the file within the block, which must not wait for anything."""
        self._in_hand.add(key)
        self._write(f"+ {key}\n")
        try:
            yield
        finally:
            self._in_hand.discard(key)
            self._write(f"~ {key}\n")

    def end(self, key: str) -> None:
        """Nothing more is done with this file."""
        self._in_hand.discard(key)
        self._crashes.pop(key, None)
        self._write(f"- {key}\n")
        if self._bytes > _COMPACT_BYTES:
            self._rewrite()

    def close(self) -> None:
        """The controller ends because it was asked to: nothing in hand is suspected for that."""
        self._in_hand.clear()
        self._rewrite()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, line: str) -> None:
        if self._descriptor is None:
            return
        try:
            self._bytes += os.write(self._descriptor, line.encode())
        except OSError as error:
            log.warning(
                "%s cannot be written (%s); after a crash the file that caused it will not be known",
                self._path,
                error.strerror,
            )
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _rewrite(self) -> None:
        lines = [f"boot {boot_id()}", *(f"! {count} {key}" for key, count in self._crashes.items())]
        lines += [f"+ {key}" for key in self._in_hand]
        text = "\n".join(lines) + "\n"
        beside = self._path.with_name(f".{self._path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(beside, flags, 0o600)
        except OSError as error:
            log.warning(
                "%s cannot be written (%s); after a crash the file that caused it will not be known",
                self._path,
                error.strerror,
            )
            return
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._bytes = descriptor, 0
        self._write(text)
        with contextlib.suppress(OSError):
            beside.replace(self._path)
        self._bytes = 0


def _crashes_after(path: Path) -> dict[str, int]:
    """How often the controller ended over each file that is suspected now."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}  # none yet
    crashes: dict[str, int] = {}
    in_hand: dict[str, None] = {}
    is_same_boot = False
    for line in lines:
        sign, _, rest = line.partition(" ")
        if sign == "boot":
            is_same_boot = rest == boot_id()
        elif sign == "!":
            count, _, key = rest.partition(" ")
            if count.isdecimal() and len(count) < 4:
                crashes[key] = int(count)
        elif sign == "+":
            in_hand[rest] = None
        elif sign == "~":
            in_hand.pop(rest, None)
        elif sign == "-":
            in_hand.pop(rest, None)
            crashes.pop(rest, None)
    for key in in_hand if is_same_boot else ():
        crashes[key] = crashes.get(key, 0) + 1
    return dict(list(crashes.items())[-SUSPECTS_MAX:])


def boot_id() -> str:
    """Tells one run of the machine from every other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
