"""Reading small text files of a project, which may hold anything: a mistake in one is a sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

FILE_BYTES_MAX = 16 * 1024**2


class FileError(ValueError):
    """A file cannot be read as what it should be; the message names it."""


def is_file(project: Path, name: str) -> bool:
    """Whether the project has this file, and it is inside."""
    path = project / name
    try:
        return path.is_file() and path.resolve().is_relative_to(project.resolve())
    except OSError:
        return False


def read_text(project: Path, name: str) -> str:
    """A file's text. Raises FileError."""
    try:
        with (project / name).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise FileError(f"{name} is larger than {FILE_BYTES_MAX >> 20}M")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise FileError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError(f"{name} is not UTF-8 text; save it as such") from None


def read_toml(project: Path, name: str) -> dict[str, Any]:
    """A file's tables. Raises FileError with the line of a mistake."""
    return parse_toml(read_text(project, name), name)


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Tables of a text. Raises FileError with the line of a mistake."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileError(f"{name} is not TOML: {error}; fix it") from None


def table(value: object) -> dict[str, Any]:
    """A table, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def texts(value: object) -> tuple[str, ...]:
    """The texts of a list, or none in place of anything else."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def text(value: object) -> str:
    """A text, or an empty one in place of anything else."""
    return value if isinstance(value, str) else ""
