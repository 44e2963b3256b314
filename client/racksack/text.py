"""What is printed: untrusted text made harmless, plain tables, colours where a terminal wants them, JSON for scripts.

Names of jobs, files and nodes come from other people. Every character that could steer a terminal (control characters,
escape sequences, bidirectional overrides, bytes that are not UTF-8) is shown as an escape. Tables are drawn here and
not by a library because `racksack status` is run all day and must start in no time.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, TextIO

import click

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "dim": "2", "bold": "1"}
_STATE_COLOURS = {
    "running": "green",
    "up": "green",
    "done": "blue",
    "staging": "cyan",
    "preparing": "cyan",
    "collecting": "cyan",
    "booting": "cyan",
    "queued": "yellow",
    "held": "yellow",
    "draining": "yellow",
    "drained": "yellow",
    "stopping": "yellow",
    "off": "dim",
    "on": "green",
    "cancelled": "dim",
}
_FAULT_COLOUR = "red"


def clean(value: object) -> str:
    """`value` on one line, with everything that could steer a terminal shown as an escape."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _harmless(character) else _escape(character) for character in text)


def clean_lines(value: object) -> str:
    """Like `clean`, but line breaks and tabs stay: for sentences of several lines."""
    return "\n".join(clean(line.replace("\t", "    ")) for line in str(value).splitlines())


def _harmless(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] != "C" and category not in ("Zl", "Zp")


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


_STEERING = re.compile(
    rb"\x1b\[[0-9;:]*m"  # colours pass
    rb"|\x1b[\[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]",
    re.DOTALL,
)


def for_terminal(data: bytes) -> bytes:
    """What a job printed, for a terminal: colours, tabs, line ends and backspaces pass, all that steers more is shown.

    A log could otherwise set the title, the clipboard or the answerback of whoever reads it.
    """
    return _STEERING.sub(_shown, data) if b"\x1b" in data or not data.isascii() or _STEERING.search(data) else data


def _shown(match: re.Match[bytes]) -> bytes:
    found = match[0]
    if found.startswith(b"\x1b[") and found.endswith(b"m") and found[2:-1].strip(b"0123456789;:") == b"":
        return found
    return found.replace(b"\x1b", b"\\e").translate(None, bytes([*range(9), 11, 12, *range(14, 32), 127]))


def use_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal of somebody who has not asked for plain text (NO_COLOR, TERM=dumb)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str | None, stream: TextIO | None = None) -> str:
    """`text` in a colour when the stream (default: stdout) shows colours."""
    if colour is None or not use_colour(stream or sys.stdout):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def state_colour(state: str) -> str:
    """The colour of a job's or node's state; whatever is not listed is a fault."""
    return _STATE_COLOURS.get(state, _FAULT_COLOUR)


def display_width(text: str) -> int:
    """Columns that `text` takes in a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), state: str | None = None
) -> str:
    """Aligned columns with a header line.

    Columns named in `right` are right-aligned; the column named `state` is coloured by its value. On a terminal the
    last column is cut to the width of the window; piped, nothing is ever cut.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(header, *cells, strict=True)]
    room = _last_column_room(widths)
    lines = [paint(_line(header, widths, header, right), "bold")]
    for row in cells:
        row[-1] = _cut(row[-1], room)
        painted = _state_painted(header, row, widths, state)
        lines.append(_line(painted, widths, header, right, plain=row))
    return "\n".join(lines)


def _last_column_room(widths: Sequence[int]) -> int | None:
    if not sys.stdout.isatty():
        return None
    import shutil

    return max(10, shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1))


def _cut(text: str, room: int | None) -> str:
    return text if room is None or display_width(text) <= room else text[: room - 1] + "…"


def _state_painted(header: Sequence[str], row: Sequence[str], widths: Sequence[int], state: str | None) -> list[str]:
    painted = list(row)
    if state is not None:
        at = header.index(state)
        painted[at] = paint(row[at], state_colour(row[at].split(" ")[0].lower()))
    return painted


def _line(
    cells: Sequence[str],
    widths: Sequence[int],
    header: Sequence[str],
    right: Sequence[str],
    plain: Sequence[str] | None = None,
) -> str:
    parts = []
    for index, cell in enumerate(cells):
        padding = " " * (widths[index] - display_width((plain or cells)[index]))
        parts.append(padding + cell if header[index] in right else cell + padding)
    return "  ".join(parts).rstrip()


def kwh_text(kwh: float | None) -> str:
    """Energy for people: `1.23 kWh`, small amounts in Wh; `-` for none."""
    if kwh is None:
        return "-"
    if 0 < abs(kwh) < 1e-5:
        return "<0.01 Wh"
    return f"{kwh:.2f} kWh" if abs(kwh) >= 0.1 else f"{1000 * kwh:.2f} Wh"


def counted(number: int, what: str) -> str:
    """`1 point`, `2,331 points`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


_BLANK = ("\t", "\r", "\n")
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # also the wide ones of Asian keyboards


def csv_cell(value: object) -> object:
    """A value for a spreadsheet: a text that it could take for a formula gets a quote before it."""
    is_formula = isinstance(value, str) and (value[:1] in _BLANK or value.lstrip().startswith(_FORMULA))
    return f"'{value}" if value and is_formula else value


def say(text: str) -> None:
    """A line on stderr: for the person, not for the next program in a pipe."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """`value` as JSON on stdout; every `*_at_s` gets a sibling `*_at` in ISO 8601 with the local zone."""
    import json

    print(json.dumps(_with_local_times(value), indent=2))


def _with_local_times(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_with_local_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    whole: dict[object, object] = {}
    for key, item in value.items():
        whole[key] = _with_local_times(item)
        if isinstance(key, str) and key.endswith("_at_s") and isinstance(item, int | float):
            whole[key.removesuffix("_s")] = iso_local(item)
    return whole


def iso_local(at_s: float) -> str:
    """A Unix time as ISO 8601 in the local zone."""
    from datetime import UTC, datetime

    if not abs(at_s) < _TIME_S_MAX:
        return ""
    return datetime.fromtimestamp(at_s, UTC).astimezone().isoformat(timespec="seconds")


_TIME_S_MAX = 1e11  # Unix seconds; what lies beyond is no time that a controller means


def short_local(at_s: float | None) -> str:
    """A Unix time for a table: the time today, the day and time otherwise; `-` for none."""
    if at_s is None:
        return "-"
    import time

    if not abs(at_s) < _TIME_S_MAX:
        return "?"
    then, today = time.localtime(at_s), time.localtime()
    same_day = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if same_day else "%m-%d %H:%M", then)


def gpu_text(gpus: Any) -> str:  # noqa: ANN401 - a count, a request or the devices
    """GPUs for a table."""
    if not gpus:
        return "-"
    if isinstance(gpus, list):
        return str(len(gpus))
    if isinstance(gpus, dict):
        count = f"{gpus.get('count', 1):g}"
        return f"{gpus['model']}:{count}" if gpus.get("model") else count
    return f"{gpus:g}" if isinstance(gpus, int | float) else str(gpus)


def show_screen(text: str, *, clear: bool) -> None:
    """Print a page; with `clear` on an empty screen, when there is one."""
    click.echo(("\x1b[H\x1b[2J" if clear and sys.stdout.isatty() else "") + text)
