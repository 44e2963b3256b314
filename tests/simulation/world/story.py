"""What happened, in order, so that a person can follow it."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator

KEPT = 4000  # lines


class Story:
    """The last lines of what happened, each with its time."""

    def __init__(self, clock: Callable[[], float], root: str) -> None:
        """`root`: a folder whose name is another one each time, and not told."""
        self._clock, self._root = clock, root
        self.lines: deque[str] = deque(maxlen=KEPT)

    def note(self, sentence: str) -> None:
        """Something happened."""
        self.lines.append(f"{self._clock():10.3f}  {sentence.replace(self._root, '')}")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """What production logs belongs to the story while this lasts, and goes nowhere else."""
        told = _Told(self)
        logger = logging.getLogger("racksack")
        before = (logger.handlers, logger.propagate, logger.level)
        logger.handlers, logger.propagate = [told], False
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.handlers, logger.propagate = before[:2]
            logger.setLevel(before[2])


class _Told(logging.Handler):
    def __init__(self, story: Story) -> None:
        super().__init__(logging.INFO)
        self._story = story

    def emit(self, record: logging.LogRecord) -> None:
        """One line, and the last of a traceback."""
        error = record.exc_info[1] if record.exc_info else None
        because = f": {error!r}" if error is not None else ""
        self._story.note(f"controller: {record.getMessage()}{because}")
