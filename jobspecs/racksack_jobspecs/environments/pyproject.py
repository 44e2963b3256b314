"""What a pyproject.toml says about the project that it stands in."""

from __future__ import annotations

from pathlib import Path

import msgspec

from racksack_jobspecs.environments.files import read_toml, table, text


class Facts(msgspec.Struct, frozen=True):
    """is_project: it lists packages, or may; is_package: the project can be installed itself."""

    is_project: bool
    is_package: bool
    is_poetry: bool
    requires_python: str


def read(project: Path, file: str) -> Facts:
    """Read one. Raises FileError."""
    tables = read_toml(project, file)
    own, tools = table(tables.get("project")), table(tables.get("tool"))
    old_poetry = table(tools.get("poetry"))
    is_package = "build-system" in tables and old_poetry.get("package-mode") is not False
    is_package = is_package and table(tools.get("uv")).get("package") is not False
    return Facts(
        is_project=bool(own) or "dependencies" in old_poetry or "dependency-groups" in tables,
        is_package=is_package,
        is_poetry="poetry" in tools,
        requires_python=text(own.get("requires-python")),
    )
