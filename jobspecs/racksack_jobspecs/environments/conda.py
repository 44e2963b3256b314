"""environment.yml: its pip part can be installed, its conda packages cannot, but are named."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from racksack_jobspecs import yamlplain, yamltext
from racksack_jobspecs.environments.files import FileError, read_text, table

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PYTHON = re.compile(r"python\s*=+\s*([0-9]+(?:\.[0-9]+){0,2})(?:\.\*)?(?:=.*)?")
_NO_PACKAGES = ("python", "pip", "setuptools", "wheel")


class Found(msgspec.Struct, frozen=True):
    """Lines for pip, the names of conda packages, and the Python version asked for."""

    lines: tuple[str, ...]
    names: tuple[str, ...]
    requires_python: str


def read(project: Path, file: str) -> Found:
    """Read one. Raises FileError."""
    try:
        root = yamltext.load(read_text(project, file))
    except yamltext.YamlError as error:
        raise FileError(f"{file}: {error}") from None
    content = table(yamlplain.plain(root)) if root is not None else {}
    lines: list[str] = []
    names: list[str] = []
    requires = ""
    dependencies = content.get("dependencies")
    for item in dependencies if isinstance(dependencies, list) else ():
        if isinstance(item, dict):
            pip = item.get("pip")
            lines += [str(one) for one in pip] if isinstance(pip, list) else []
            continue
        word = str(item).rpartition("::")[2].strip()
        python = _PYTHON.fullmatch(word)
        if python:
            requires = f"=={python[1]}.*"
        name = _NAME.match(word)
        if name and name[0] not in _NO_PACKAGES:
            names.append(name[0])
    return Found(tuple(lines), tuple(names), requires)
