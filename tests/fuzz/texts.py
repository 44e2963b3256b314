"""Texts from outside, fed to what reads them. Each target takes bytes and raises for what must not be.

A reader may refuse a text in the way that it documents; whatever else it raises is a finding, and so is an answer that
breaks a promise.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from racksack.log_times import _NOTE
from racksack.result_folder import read_mark
from racksack.submission import gitwild
from racksack.submission.entry_options import words_of
from racksack.submission.sbatch import translated
from racksack.text import clean, clean_lines, csv_cell, for_terminal
from racksack_controller.config.config import ConfigError, parse_config
from racksack_controller.logs import OneLine
from racksack_controller.package_index import pages
from racksack_controller.simulate.workload import WorkloadError, parse_batsim, parse_swf
from racksack_controller.web.log_text import plain_log
from racksack_jobspecs.dependency import parse_dependencies
from racksack_jobspecs.environments.plan import PlanError, plan_of
from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.recurrence import cron_of
from racksack_jobspecs.spec import Environment
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.units import parse_cpus, parse_duration, parse_memory
from racksack_jobspecs.write import job_file

SENTENCE_CHARS_MAX = 1200


@contextlib.contextmanager
def folder_of(files: dict[str, bytes]) -> Iterator[Path]:
    """A folder with these files, for readers that take a path; it is on tmpfs where there is one."""
    place = Path(tempfile.mkdtemp(prefix="rs-fz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        for name, data in files.items():
            (place / name).write_bytes(data)
        yield place
    finally:
        shutil.rmtree(place)


def text(data: bytes) -> str:
    """As a shell hands on what is no UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def _is_sentence(problem: object) -> None:
    assert "\n" not in str(problem), problem
    assert len(str(problem)) <= SENTENCE_CHARS_MAX, problem
    str(problem).encode()


def job_files(data: bytes) -> None:
    """A spec that is written back as itself, or sentences."""
    try:
        spec = parse_job(data)
    except JobFileError as error:
        for problem in error.problems:
            _is_sentence(problem)
        return
    assert parse_job(job_file(spec)) == spec
    msgspec.json.encode(spec)


def configuration(data: bytes) -> None:
    """A configuration or sentences."""
    try:
        parse_config(data)
    except ConfigError as error:
        for problem in error.problems:
            _is_sentence(problem)


_VALUES: dict[str, Any] = {"a": 3, "b": -2.5, "c": "x", "d": True, "e": None, "f": math.nan, "g": 2**62, "h": math.inf}


def expression(data: bytes) -> None:
    """For one point it has the value that it has in columns, or none in both."""
    import numpy as np

    from racksack_controller.sweeps.search import column_expressions

    try:
        parsed = expressions.parse(text(data))
    except ValueError as error:
        _is_sentence(error)
        return
    expressions.holds(parsed.text, _VALUES)
    expressions.leaves_in(parsed.text, _VALUES)
    columns = {
        name: np.array([value] * 3, dtype=object if value is None or isinstance(value, str) else None)
        for name, value in _VALUES.items()
    }
    if all(name in _VALUES for name in parsed.names):
        with contextlib.suppress(ValueError), np.errstate(all="ignore"):
            column_expressions.evaluate(parsed, columns)


def workloads(data: bytes) -> None:
    """Tasks with numbers that a simulation can take, or WorkloadError."""
    for read in (lambda: parse_swf(data.decode("utf-8", "replace").splitlines()), lambda: parse_batsim(text(data))):
        with contextlib.suppress(WorkloadError):
            for task in read():
                assert math.isfinite(task.submit_s + task.run_s + task.limit_s), task
                assert task.run_s > 0, task


def _reads(read: Callable[[str], object]) -> Callable[[str], None]:
    def tried(word: str) -> None:
        try:
            read(word)
        except ValueError as error:
            _is_sentence(error)

    return tried


_WORDS = [_reads(read) for read in (parse_memory, parse_duration, parse_cpus, cron_of, parse_dependencies)]


def words(data: bytes) -> None:
    """Units, dependencies and recurrences."""
    for read in _WORDS:
        read(text(data))


_FILES = [
    "requirements.txt",
    "pyproject.toml",
    "setup.py",
    "Pipfile.lock",
    "Pipfile",
    "poetry.lock",
    "uv.lock",
    "environment.yml",
    "main.py",
    "pylock.toml",
]


def environments(data: bytes) -> None:
    """A project's files, the first byte says which one it is; a plan or a sentence."""
    if not data:
        return
    name = _FILES[data[0] % len(_FILES)]
    files = {"main.py": b"", name: data[1:]}
    if name == "poetry.lock":
        files["pyproject.toml"] = b"[tool.poetry]\nname='x'\n"
    with folder_of(files) as project:
        try:
            plan_of(project, "main.py", Environment())
        except PlanError as error:
            _is_sentence(error)


def entry_files(data: bytes) -> None:
    """Options in the entry file, `#JOB` and `#SBATCH`."""
    from racksack.errors import UsageError

    with folder_of({"main.py": data}) as project, contextlib.suppress(UsageError):
        translated(words_of(project / "main.py", "#SBATCH"), "main.py")
    with folder_of({"main.py": data}) as project, contextlib.suppress(UsageError):
        words_of(project / "main.py")


def ignore_lines(data: bytes) -> None:
    """A pattern, the line; matched against a name that costs most where a pattern backtracks."""
    line, _, path = text(data).partition("\n")
    found = gitwild.parse(line)
    if found is not None:
        for one in (path[:200], "a" * 60 + "/" + "a" * 60):
            found.matches(one, one.rpartition("/")[2], is_folder=False)


def shown_texts(data: bytes) -> None:
    """What is shown of a stranger's text: one line without controls, a table cell that is no formula."""
    import logging

    word = text(data)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in clean(word))
    assert "\n" not in clean(word)
    clean_lines(word).encode()
    clean(word).encode()
    assert not str(csv_cell(word)).lstrip().startswith(("=", "+", "-", "@")) or str(csv_cell(word)).startswith("'")
    for_terminal(data)
    plain_log(data.decode("utf-8", "replace"))
    line = OneLine("%(message)s").format(logging.LogRecord("x", 20, "", 0, "%s", (word,), None))
    assert "\n" not in line
    assert "\x1b" not in line
    _NOTE.fullmatch(data)


def marks(data: bytes) -> None:
    """The mark in a folder of results."""
    with folder_of({"mark": data}) as place:
        read_mark(place / "mark")


def index_pages(data: bytes) -> None:
    """A page of a package index, in both of its forms."""
    for kind in ("text/html", "application/vnd.pypi.simple.v1+json"):
        with contextlib.suppress(pages.PageError):
            page = pages.read("name", data, kind, "https://index.example/simple/name/", "")
            pages.as_json(page)
            pages.as_html(page)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "job_files": job_files,
    "configuration": configuration,
    "expression": expression,
    "workloads": workloads,
    "words": words,
    "environments": environments,
    "entry_files": entry_files,
    "ignore_lines": ignore_lines,
    "shown_texts": shown_texts,
    "marks": marks,
    "index_pages": index_pages,
}
