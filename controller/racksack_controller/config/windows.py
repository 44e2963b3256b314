"""Times of day, as `quiet` of the power block and of a notify channel name them."""

from __future__ import annotations

import re

from racksack_controller.core.power_policy import Window
from racksack_jobspecs.readers import Report, shown, word_of
from racksack_jobspecs.yamltext import Node

_WINDOW = re.compile(r"((?:[01]?[0-9]|2[0-3]):[0-5][0-9])\s*-\s*((?:[01]?[0-9]|2[0-3]):[0-5][0-9])")


def window_of(node: Node, _path: str, _report: Report) -> Window:
    """`22:00-07:00`; an end before the begin is on the next day."""
    word = word_of(node)
    match = _WINDOW.fullmatch(word)
    if match is None or match[1] == match[2]:
        raise ValueError(f"{shown(word)} is not a time range; write its begin and end, such as 22:00-07:00")
    begin_s, end_s = (int(at[:-3]) * 3600 + int(at[-2:]) * 60 for at in match.groups())
    return Window(begin_s, end_s)
