"""The ways to say what is to run: DIR ENTRY, a script alone as sbatch takes it, a command line, a job file.

A command line becomes a small script in the project for as long as it is sent, since a job is a file of its project.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from racksack.errors import ProjectError, UsageError
from racksack.submission.draft import is_job_file
from racksack.submission.project import Selection
from racksack.text import clean

COMMAND_PREFIX = ".racksack-command-"
_HEAD_BYTES = 4096


def script_alone(project: Path, entrypoint: str | None) -> tuple[Path, str | None]:
    """`run.sh` means `. run.sh`, `pipe/run.sh` means `pipe run.sh`. Raises UsageError where that would be too much."""
    if entrypoint is not None or is_job_file(project) or not project.is_file():
        return project, entrypoint
    _check_not_too_much(project.absolute().parent, f"the folder of {clean(project)}")
    return project.parent, project.name


def _check_not_too_much(folder: Path, what: str) -> None:
    """A home sent by accident is a long wait and a leak."""
    if folder.resolve() in (Path.home().resolve(), Path("/")):
        place = "/" if folder.resolve() == Path("/") else "your home"
        raise UsageError(f"{what} is sent whole, and it is {place}; name a folder that holds what the job needs")


@contextmanager
def command_script(project: Path, wrap: str | None, arguments: Sequence[str]) -> Iterator[str]:
    """A script in the project that runs a command line; its name. It is gone after the block. Raises ProjectError."""
    _check_not_too_much(project, f"the folder {clean(project)}")
    line = wrap if wrap is not None else f"exec {shlex.join(arguments)}"
    text = f"#!/bin/sh\n{line}\n"
    path = project / f"{COMMAND_PREFIX}{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:12]}.sh"
    try:
        path.write_bytes(text.encode(errors="surrogateescape"))
        path.chmod(0o755)
    except OSError as error:
        raise ProjectError(f"{clean(path)} cannot be written: {error.strerror}; a command needs it there") from error
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def check_runnable(selection: Selection, entrypoint: str) -> None:
    """Whether a node can start this file: Python, executable, or with a first line that names its interpreter.

    Raises ProjectError.
    """
    path = selection.root / entrypoint
    if path.suffix == ".py":
        return
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return  # named where the files are read
    first = head.split(b"\n", 1)[0]
    name = clean(entrypoint)
    if first.startswith(b"#!") and first.endswith(b"\r"):
        raise ProjectError(f"{name} has Windows line ends, so no interpreter is found; convert it (dos2unix)")
    if not first.startswith(b"#!") and not os.access(path, os.X_OK):
        raise ProjectError(
            f"{name} cannot be started: it is neither a .py file nor executable, and names no interpreter; "
            "begin it with a line such as #!/bin/bash"
        )
