"""How to take changes back: the undoing of each, in the order in which they were made.

An event is all or nothing. Whoever changes something notes first how it is undone; what fails half-way is rolled back
to a mark, in reverse order, and everything is as it was. Undoing never raises: it only puts back what stood there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
_ABSENT = object()


class Journal:
    """The changes since they were last known to be good."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def note(self, undo: Callable[[], object]) -> None:
        """Something is about to change; `undo` takes it back, also when the change itself fails."""
        self._undo.append(undo)

    def assign(self, table: dict[Key, Value], key: Key, value: Value) -> None:
        """`table[key] = value`."""
        self._undo.append(partial(_restore, table, key, table.get(key, _ABSENT)))
        table[key] = value

    def drop(self, table: dict[Key, Value], key: Key) -> None:
        """Remove a key, if it is there."""
        if key in table:
            self._undo.append(partial(_restore, table, key, table[key]))
            del table[key]

    def mark(self) -> int:
        """Where `roll_back` may go back to."""
        return len(self._undo)

    def roll_back(self, mark: int = 0) -> None:
        """Undo everything since the mark."""
        while len(self._undo) > mark:
            self._undo.pop()()

    def forget(self) -> None:
        """Everything that was changed is good; nothing of it will be undone."""
        self._undo = []


def _restore(table: dict[Any, Any], key: object, old: object) -> None:
    if old is _ABSENT:
        table.pop(key, None)
    else:
        table[key] = old
