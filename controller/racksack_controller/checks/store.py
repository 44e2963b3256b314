"""Whether the store is intact: SQLite's own quick check over a connection of its own. Blocks; only reads.

It reads the whole file, so it ends itself after a while, and what was found holds for a minute: whoever asks again and
again does not keep the disk busy.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from racksack_jobspecs.findings import Finding, failed, not_looked_at, ok
from racksack_jobspecs.units import format_memory

LIMIT_S = 20.0
HOLDS_S = 60.0
MISTAKES_MAX = 3
_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's machine, between two looks at the clock
REMEDY = "stop the controller and see docs/operating.md, 'The store'"


class StoreCheck:
    """The check of one store."""

    def __init__(self, path: Path, limit_s: float = LIMIT_S) -> None:
        self._path = path
        self._limit_s = limit_s
        self._found: Finding | None = None
        self._found_at_s = 0.0

    def look(self) -> list[Finding]:
        """What the check found, now or within the last minute."""
        if self._found is None or time.monotonic() - self._found_at_s > HOLDS_S:
            self._found = self._check()
            self._found_at_s = time.monotonic()
        return [self._found]

    def _check(self) -> Finding:
        began = time.monotonic()
        try:
            size = format_memory(max(1, self._path.stat().st_size))
            mistakes = self._mistakes(began + self._limit_s)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                return not_looked_at("store", self._too_large(size))
            return failed("store", f"{self._path} cannot be read: {error}; {REMEDY}")
        except OSError as error:
            return failed("store", f"{self._path} cannot be read: {error.strerror}; {REMEDY}")
        if mistakes:
            return failed("store", f"{self._path} is damaged: {'; '.join(mistakes)}; {REMEDY}")
        return ok("store", f"intact ({size}, checked in {time.monotonic() - began:.2f} s)")

    def _mistakes(self, until_s: float) -> list[str]:
        connection = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.set_progress_handler(lambda: time.monotonic() > until_s, _STEPS_BETWEEN_LOOKS)
            rows = connection.execute(f"PRAGMA quick_check({MISTAKES_MAX})").fetchall()
        finally:
            connection.close()
        return [" ".join(str(row[0]).split()) for row in rows if row[0] != "ok"]

    def _too_large(self, size: str) -> str:
        return (
            f"its {size} could not be looked through within {self._limit_s:g} s; "
            f"`sqlite3 {self._path} 'PRAGMA quick_check'` has no such limit"
        )
