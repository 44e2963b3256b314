"""Reads one mapping of parsed YAML key by key and collects every mistake as (path, sentence); raises nothing."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from racksack_jobspecs.units import parse_duration

T = TypeVar("T")

Mistakes = list[tuple[str, str]]


class Fields:
    """The keys of one block. Ask for each known key, then call `finish` to have the others refused."""

    def __init__(self, block: Mapping[Any, Any], path: str, mistakes: Mistakes) -> None:
        # YAML 1.1, hence PyYAML, reads the bare keys on and off as true and false.
        self._block = {{True: "on", False: "off"}.get(key, key): value for key, value in block.items()}
        self.path = path
        self._mistakes = mistakes
        self._known: list[str] = []

    def wrong(self, key: str, sentence: str) -> None:
        """Record a mistake at `key`, or at the block itself when `key` is empty."""
        self._mistakes.append((f"{self.path}.{key}" if key else self.path, sentence))

    def at(self, path: str, block: Mapping[Any, Any]) -> Fields:
        """The keys of another block, with the same list of mistakes."""
        return Fields(block, path, self._mistakes)

    def inner(self, key: str, block: Mapping[Any, Any]) -> Fields:
        """The keys of the block at `key`."""
        return self.at(f"{self.path}.{key}", block)

    def count(self) -> int:
        """How many mistakes were recorded so far, by all who share the list."""
        return len(self._mistakes)

    def raw(self, key: str) -> Any:  # noqa: ANN401 - parsed YAML
        """The value as it stands, or None."""
        self._known.append(key)
        return self._block.get(key)

    def text(self, key: str, example: str, required: bool = False) -> str | None:
        """A word or phrase. Numbers are taken as written."""
        value = self.raw(key)
        if value is None:
            if required:
                self.wrong(key, f"is missing; write {key}: {example}")
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
            self.wrong(key, f"must be text, such as {key}: {example}")
            return None
        return str(value).strip()

    def whole(self, key: str, default: int, lowest: int, highest: int) -> int:
        """A whole number in a range."""
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            self.wrong(key, f"must be a whole number from {lowest} to {highest}, such as {default}")
            return default
        return value

    def number(self, key: str, example: float) -> float:
        """A number of zero or more; zero after a mistake."""
        value = self.raw(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
            self.wrong(key, f"must be a number of zero or more, such as {key}: {example:g}")
            return 0.0
        return float(value)

    def yes(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(key, "must be true or false")
            return default
        return value

    def choice(self, key: str, words: tuple[str, ...]) -> str:
        """One of some words; the first is the default."""
        value = self.raw(key)
        if value is None:
            return words[0]
        if value not in words:
            self.wrong(key, f"must be one of {', '.join(words)}")
            return words[0]
        return str(value)

    def duration(self, key: str, default_s: float) -> float:
        """A duration in seconds."""
        value = self.raw(key)
        if value is None:
            return default_s
        parsed = self._parsed(key, value, parse_duration)
        return default_s if parsed is None else parsed

    def absolute_path(self, key: str, example: str) -> Path | None:
        """An absolute path. Whether the file is there is seen at use."""
        value = self.text(key, example)
        if value is None:
            return None
        if not value.startswith("/"):
            self.wrong(key, f"must be an absolute path, such as {example}")
        return Path(value)

    def argv(self, key: str) -> tuple[str, ...]:
        """An argument vector: a list of words, since no shell is used."""
        value = self.raw(key)
        if value is None:
            return ()
        if isinstance(value, list) and any(isinstance(word, bool) for word in value):
            self.wrong(key, 'has a bare on, off, yes or no, which YAML reads as true or false; put it in quotes: "on"')
            return ()
        if not isinstance(value, list) or not value or not all(isinstance(word, (str, int, float)) for word in value):
            self.wrong(key, f"must be a list of words, since no shell is used: {key}: [/usr/bin/virsh, start, r1]")
            return ()
        return tuple(str(word) for word in value)

    def finish(self) -> None:
        """Refuse the keys nobody asked for."""
        for key in self._block:
            if key not in self._known:
                close = difflib.get_close_matches(str(key), self._known, n=1)
                hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(self._known))}"
                self.wrong(str(key), f"is not a setting here{hint}")

    def _parsed(self, key: str, value: object, parse: Callable[[object], T]) -> T | None:
        try:
            return parse(value)
        except ValueError as error:
            self.wrong(key, str(error))
            return None
