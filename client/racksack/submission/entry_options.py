"""Options in the entry file: lines `#JOB --cpus 16` before its first line of code, as sbatch has them.

Where there are none, `#SBATCH` lines are read in their place.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from racksack.errors import UsageError
from racksack.text import clean, say

MARK = "#JOB"
HEAD_BYTES_MAX = 64 * 1024
_ADDED_UP = frozenset({"env", "outputs", "include", "exclude"})  # of these both count
# About this command and this moment, not about the job.
_NOT_HERE = frozenset(
    {"project", "entrypoint", "controller", "as_json", "submission", "wait", "follow", "fetch", "exit_code"}
    | {"dry_run", "wrap", "parsable", "quiet", "yes"}
)


def words_of(path: Path, wanted: str = MARK) -> list[str]:
    """The words of all such lines of a file; [] for a file without any. Raises UsageError with the line's number."""
    words = []
    for number, text in _marked(path, wanted):
        try:
            words += shlex.split(text, comments=True)
        except ValueError as error:
            raise UsageError(f"{clean(path.name)}, line {number}: {error}") from None
    return words


def _words(path: Path) -> tuple[list[str], str]:
    """The options of a file in our spelling, and what to call them. Says which of sbatch's are left out."""
    words = words_of(path)
    if words:
        return words, f"the {MARK} lines of {clean(path.name)}"
    from racksack.submission import sbatch

    where = f"the {sbatch.MARK} lines of {clean(path.name)}"
    theirs = words_of(path, sbatch.MARK)
    ours, left_out = sbatch.translated(theirs, where) if theirs else ([], [])
    if theirs:
        without = f"; without effect here: {clean(' '.join(left_out))}" if left_out else ""
        say(f"note: {where} are read as: {clean(shlex.join(ours)) or 'nothing'}{without}")
    return ours, where


def _marked(path: Path, wanted: str) -> Iterator[tuple[int, str]]:
    """Line number and text after the mark, of the comments at the top. What cannot be read has none."""
    try:
        if not path.is_file():
            return
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES_MAX)
    except OSError:
        return  # the look through the project names it
    for number, line in enumerate(head.decode("utf-8", "replace").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            return
        mark, _, rest = line.partition(" ")
        if mark == wanted:
            yield number, rest


def merged(command: click.Command, given: Mapping[str, Any], explicit: frozenset[str], path: Path) -> dict[str, Any]:
    """The options of a command line with those of the entry file behind them. Raises UsageError.

    explicit: names of options that stand on the command line. Those win; environment, outputs and what is sent add up.
    """
    words, where = _words(path)
    if not words:
        return dict(given)
    try:
        context = command.make_context("submit", ["DIR", "ENTRY", *words])
    except click.UsageError as error:
        raise UsageError(f"{where}: {error.format_message()}") from None
    found = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    if wrong := sorted((found.keys() & _NOT_HERE) - {"project", "entrypoint"}):
        raise UsageError(f"{where}: --{wrong[0].replace('_', '-')} is for the command line, not for the job")
    result = dict(given)
    for name, value in found.items():
        if name in _ADDED_UP:
            result[name] = (*value, *given[name])
        elif name not in explicit and name not in _NOT_HERE:
            result[name] = value
    return result
