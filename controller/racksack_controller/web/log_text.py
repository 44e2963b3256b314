"""A log as plain text: what steers a terminal is left out, and of a line that was written over the last state stays."""

from __future__ import annotations

import re

_STEERING = re.compile(
    r"""
    \x1b(?:\[[0-?]*[ -/]*[@-~] | \][^\x07\x1b]*(?:\x07|\x1b\\)? | [@-Z\\^_])  # an escape sequence
    | [\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]  # another control character, tab, \n and \r aside
    """,
    re.VERBOSE,
)


def plain_log(text: str) -> str:
    """The text as a reader without a terminal sees it."""
    return "\n".join(map(_last_state, _STEERING.sub("", text).replace("\x1b", "").split("\n")))


def _last_state(line: str) -> str:
    """Of the states of a progress bar, each after a carriage return, the last."""
    return next((part for part in reversed(line.split("\r")) if part), "")
