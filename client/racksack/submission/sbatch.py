"""`#SBATCH` lines of a script as options of `submit`: those that mean the same, in our spelling.

What has no counterpart and changes nothing about the run (mail, account, log file names) is left out with a note; what
would make it another run is refused with the way to write it here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from racksack.errors import UsageError
from racksack.familiar import option_hint

MARK = "#SBATCH"
_SHORT = {
    "J": "job-name", "c": "cpus-per-task", "n": "ntasks", "N": "nodes", "t": "time", "a": "array", "o": "output",
    "e": "error", "p": "partition", "d": "dependency", "b": "begin", "w": "nodelist", "x": "exclude", "G": "gpus",
    "C": "constraint", "A": "account", "q": "qos", "D": "chdir", "i": "input", "H": "hold",
}  # fmt: skip
_SAME = {
    "job-name": "--name", "cpus-per-task": "--cpus", "array": "--array", "partition": "--partition",
    "dependency": "--after", "nodelist": "--node", "exclude": "--exclude-node", "constraint": "--constraint",
    "signal": "--warn", "priority": "--priority",
}  # fmt: skip
_NO_EFFECT = frozenset({
    "output", "error", "account", "qos", "mail-type", "mail-user", "open-mode", "export", "requeue", "no-requeue",
    "comment", "get-user-env", "parsable", "verbose", "quiet", "reservation", "exclusive", "nice", "ntasks-per-node",
})  # fmt: skip
_FLAGS = frozenset({"hold", "requeue", "no-requeue", "exclusive", "parsable", "verbose", "quiet", "get-user-env"})


def translated(words: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """Our options for the words of `#SBATCH` lines, and the names of those that were left out.

    Raises UsageError, naming `where`.
    """
    ours: list[str] = []
    left_out: list[str] = []
    for name, value in _pairs(words, where):
        if name in _NO_EFFECT:
            left_out.append(f"--{name}")
        elif name in _SAME:
            ours += [_SAME[name], value]
        elif name in _READERS:
            ours += _READERS[name](value, where)
        elif name == "hold":
            ours.append("--hold")
        else:
            hint = option_hint(f"--{name}") or "write a line `#JOB ...` with options of `submit` instead"
            raise UsageError(f"{where}: --{name} is not understood here; {hint}")
    return ours, left_out


def _pairs(words: Sequence[str], where: str) -> list[tuple[str, str]]:
    """Long names with their values."""
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif len(word) >= 2 and word[0] == "-" and word[1] in _SHORT:
            name, value, equals = _SHORT[word[1]], word[2:].removeprefix("="), word[2:]
        else:
            raise UsageError(f"{where}: {word!r} is not an option")
        if not equals and name not in _FLAGS:
            if not rest:
                raise UsageError(f"{where}: --{name} lacks its value")
            value = rest.pop(0)
        found.append((name, value))
    return found


def _time(value: str, where: str) -> list[str]:
    """Slurm's minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    match = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?", value)
    if match is None:
        raise UsageError(f"{where}: --time={value} is not a time; write HH:MM:SS")
    days, *parts = (int(part) if part else None for part in match.groups())
    first, second, third = parts
    if days is not None or third is not None:
        hours, minutes, seconds = first, second, third
    else:
        hours, minutes, seconds = 0, first, second
    total = ((days or 0) * 24 + (hours or 0)) * 3600 + (minutes or 0) * 60 + (seconds or 0)
    return ["--time", f"{total}s"] if total else []


def _memory(value: str, _where: str) -> list[str]:
    """A size without a unit is in megabytes; 0 is all of a node, which has no word here."""
    return [] if value == "0" else ["--ram", f"{value}M" if value.isdecimal() else value]


def _gres(value: str, where: str) -> list[str]:
    kind, _, rest = value.partition(":")
    if kind != "gpu":
        raise UsageError(f"{where}: --gres={value}: only GPUs can be asked for; write -C LABEL for a label of the node")
    return ["--gpus", rest or "1"]


def _tasks(value: str, where: str) -> list[str]:
    if value != "1":
        raise UsageError(f"{where}: --ntasks={value}: {option_hint('--ntasks')}")
    return []


def _nodes(value: str, _where: str) -> list[str]:
    return [] if value == "1" else ["--nodes", value]


def _begin(value: str, _where: str) -> list[str]:
    match = re.fullmatch(r"now\+([0-9]+)(second|minute|hour|day|week)?s?", value)
    if match is None:
        return ["--begin", value]
    unit = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}[match[2] or "second"]
    return ["--begin", f"+{int(match[1]) * unit}s"]


def _chdir(value: str, where: str) -> list[str]:
    raise UsageError(f"{where}: --chdir={value}: {option_hint('--chdir')}")


_READERS: dict[str, Callable[[str, str], list[str]]] = {
    "time": _time,
    "mem": _memory,
    "gres": _gres,
    "gpus": lambda value, _where: ["--gpus", value],
    "gpus-per-node": lambda value, _where: ["--gpus", value],
    "ntasks": _tasks,
    "nodes": _nodes,
    "begin": _begin,
    "chdir": _chdir,
}
