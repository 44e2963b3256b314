"""One pattern of a .gitignore, matched as git matches it: against an entry's own path, never against a parent's.

git decides for each entry by the last pattern that matches the entry itself, and does not look into folders that are
left out. Libraries at hand answer another question, whether a path *or any folder above it* matches, and so bring back
everything below a folder that a later line brings back.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_NEVER = r"(?!)"
_STAR, _DEEP = "*", "**/"  # parts that are no expressions yet: an escaped star is `\\*`


@dataclass(frozen=True)
class Pattern:
    """A line of a .gitignore."""

    is_negated: bool
    only_folders: bool
    by_name: bool  # compared with the last part of the path alone
    regex: re.Pattern[str]

    def matches(self, path: str, name: str, *, is_folder: bool) -> bool:
        """Whether it means this entry. `path` is relative to the .gitignore's folder, `name` its last part; both are
        bytes as latin-1 text, since git compares bytes.
        """
        if self.only_folders and not is_folder:
            return False
        return self.regex.fullmatch(name if self.by_name else path) is not None


def parse(line: str) -> Pattern | None:
    """The pattern of a line; None for an empty line and for a comment."""
    text = _without_trailing_spaces(os.fsencode(line).decode("latin-1"))
    if not text or text.startswith("#"):
        return None
    is_negated = text.startswith("!")
    text = text[1:] if is_negated else text
    only_folders = text.endswith("/")
    text = text[:-1] if only_folders else text
    by_name = "/" not in text
    regex = re.compile(_regex(text.removeprefix("/")) if text else _NEVER, re.DOTALL)
    return Pattern(is_negated, only_folders, by_name, regex)


def _without_trailing_spaces(line: str) -> str:
    """Spaces at the end count only behind a backslash."""
    end = len(line)
    while end and line[end - 1] == " ":
        slashes = len(line[: end - 1]) - len(line[: end - 1].rstrip("\\"))
        if slashes % 2:
            break
        end -= 1
    return line[:end]


def _regex(glob: str) -> str:
    """The regular expression for git's wildmatch with WM_PATHNAME.

    A star takes as little as it may and takes no more later on (an atomic group): what comes after the next star can be
    reached from the first place that fits if from any. Otherwise a line such as `*a*a*a*a*a*b` takes longer than
    anybody waits. Only behind the last star, where the rest has to reach the end, may the search go back.
    """
    *stretches, last = _stretches(glob)
    found = "".join(_stretch(stretch, is_last=False) for stretch in stretches[:1])
    found += "".join(f"(?>(?:.*?/)??{_stretch(stretch, is_last=False)})" for stretch in stretches[1:])
    return found + ("(?:.*/)?" if stretches else "") + _stretch(last, is_last=True)


def _stretches(glob: str) -> list[list[str]]:
    """The parts of the expression, `*` as itself, in the stretches that are before, between and behind `**/`."""
    found: list[list[str]] = [[]]
    at = 0
    while at < len(glob):
        character = glob[at]
        if character == "*":
            part, at = _stars(glob, at)
        elif character == "?":
            part, at = "[^/]", at + 1
        elif character == "[":
            part, at = _bracket(glob, at)
        elif character == "\\":
            part, at = (re.escape(glob[at + 1]) if at + 1 < len(glob) else _NEVER), at + 2
        else:
            part, at = re.escape(character), at + 1
        if part == _DEEP:
            found.append([])
        else:
            found[-1].append(part)
    return found


def _stretch(parts: list[str], *, is_last: bool) -> str:
    between: list[str] = [""]
    for part in parts:
        if part == _STAR:
            between.append("")
        else:
            between[-1] += part
    first, *pieces = between
    found = [f"(?>[^/]*?{piece})" for piece in pieces]
    if pieces and is_last:
        found[-1] = f"[^/]*{pieces[-1]}"
    return first + "".join(found)


def _stars(glob: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(glob) and glob[end] == "*":
        end += 1
    is_whole_part = (at == 0 or glob[at - 1] == "/") and (end == len(glob) or glob[end] == "/")
    if end - at < 2 or not is_whole_part:
        return _STAR, end
    return (".*", end) if end == len(glob) else (_DEEP, end + 1)


def _bracket(glob: str, at: int) -> tuple[str, int]:
    """A class such as `[!a-z]`. One without an end, or with a class that there is not, never matches."""
    at += 1
    is_negated = glob[at : at + 1] in ("!", "^")
    at += is_negated
    items, first = "", True
    while first or glob[at : at + 1] != "]":
        first = False
        if at >= len(glob):
            return _NEVER, len(glob)
        if glob.startswith("[:", at) and (close := glob.find("]", at + 2)) >= 0 and glob[close - 1] == ":":
            if glob[at + 2 : close - 1] not in _CLASSES:
                return _NEVER, len(glob)
            items, at = items + _CLASSES[glob[at + 2 : close - 1]], close + 1
            continue
        low, at = _single(glob, at)
        if glob[at : at + 1] == "-" and glob[at + 1 : at + 2] not in ("", "]"):
            high, at = _single(glob, at + 1)
            items += f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""
        else:
            items += re.escape(low)
    if not items:
        return ("[^/]" if is_negated else _NEVER), at + 1
    return f"(?!/)[{'^' if is_negated else ''}{items}]", at + 1


def _single(glob: str, at: int) -> tuple[str, int]:
    """A character of a class, perhaps behind a backslash, and where the next one is."""
    if glob[at] == "\\" and at + 1 < len(glob):
        return glob[at + 1], at + 2
    return glob[at], at + 1
