"""The controller's log: one line for each decision, whatever the words in it are made of.

Sentences of nodes, jobs and users end up here. What could steer a terminal or look like another line is shown as an
escape, long lines are cut, and a warning that comes again and again (whoever can provoke it) is left out for a while.
"""

from __future__ import annotations

import logging
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from racksack_jobspecs.bounds import cut

LINE_CHARS_MAX = 4000
FILE_BYTES_MAX = 5 * 1024**2
BURST = 200  # lines of one kind in a period
PERIOD_S = 60.0


class OneLine(logging.Formatter):
    """A record as one line; a traceback follows it, indented, with the same care."""

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        lines = super().format(record).split("\n")
        is_traced = record.exc_info is not None or record.stack_info is not None
        if not is_traced:
            return _legible("\n".join(lines))
        return "\n    ".join(map(_legible, lines))

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name of the base class
        """The last lines of a traceback: an exception's own words may be anything long."""
        return super().formatException(ei)[-20 * LINE_CHARS_MAX :]  # type: ignore[arg-type]


def _legible(line: str) -> str:
    """The line, cut, with escapes for what no terminal should get as it is."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in cut(line, LINE_CHARS_MAX))


class Sparing(logging.Filter):
    """Lets so many warnings of one kind (written by one place in the code) pass in a period, and says that it did.

    Decisions (INFO) all pass: they cost whoever causes them a job or a connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[tuple[str, int], int] = {}
        self._began_s = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.levelno < logging.WARNING:
            return True
        now_s = time.monotonic()
        if now_s - self._began_s > PERIOD_S:
            self._counts, self._began_s = {}, now_s
        place = (record.pathname, record.lineno)
        count = self._counts[place] = self._counts.get(place, 0) + 1
        if count == BURST:
            record.msg, record.args = f"{record.getMessage()} (repeats are suppressed for a minute)", ()
        return count <= BURST


def set_up(path: Path | None) -> None:
    """Log to a file, which is begun anew when it has grown, or to standard error (systemd adds the time)."""
    handler: logging.Handler = logging.StreamHandler()
    if path is not None:
        handler = RotatingFileHandler(path, maxBytes=FILE_BYTES_MAX, backupCount=1)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.addFilter(Sparing())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # a traceback for each stranger's malformed request
