"""Reads from env.log why an environment could not be made."""

from __future__ import annotations

import os
import re

_TAIL_BYTES = 16 * 1024


def tail(path: str) -> str:
    """The end of a log."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


_SAYS_WHY = re.compile(r"\s*(?:error:|ERROR:|╰─▶|└─▶|\u00d7|x )\s*(.*)")


def failure(path: str) -> str:
    """Why the last command in a log failed: the lines in which it says so, joined, else its last line. Hints, which are
    about other programs than ours, are left out.
    """
    lines = [line.rstrip() for line in tail(path).rpartition("\n$ ")[2].splitlines()[1:]]
    told = [line for line in lines if line.strip() and not line.strip().startswith("hint:")]
    for at, line in enumerate(told):
        match = _SAYS_WHY.match(line)
        if match:
            rest = [_SAYS_WHY.sub(r"\1", more) for more in told[at:]]
            return " ".join(" ".join(rest).split())[:400]
    return told[-1].strip()[:300] if told else "the log says nothing"
