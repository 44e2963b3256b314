"""What an examination of a spool finds, and how it is told and repaired."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

import msgspec

from racksack_jobspecs.layout import Spool


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One finding: a sentence that says what is wrong and what comes of it."""

    what: str  # store | record | job | sweep | results | content | ids | node
    sentence: str
    remedy: str = ""  # what a repair does; empty where nothing needs, or can, be done
    repaired: bool = False
    is_harmless: bool = False  # the controller deals with it by itself


class Scene(msgspec.Struct):
    """What is examined. `connection` may only be written with `repairs`."""

    spool: Spool
    connection: sqlite3.Connection
    repairs: bool
    damaged: Callable[[str, dict[str, object]], None] = lambda table, row: None  # keeps a row that is taken out

    def fault(self, what: str, sentence: str, remedy: str = "", repair: Callable[[], None] | None = None) -> Fault:
        """A finding; with `repairs` it is repaired at once. Raises what the repair raises."""
        if repair is None or not self.repairs:
            return Fault(what=what, sentence=sentence, remedy=remedy)
        repair()
        return Fault(what=what, sentence=sentence, remedy=remedy, repaired=True)


Check = Callable[[Scene], Iterator[Fault]]
