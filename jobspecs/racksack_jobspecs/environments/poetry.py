"""poetry.lock as constraints: what to install stands in pyproject.toml, in which versions stands in the lock."""

from __future__ import annotations

from pathlib import Path

from racksack_jobspecs.environments.files import is_file, read_toml, table, text


def constraints(project: Path, folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lines `name==version` and notes. A package that is locked in several versions is left to the solver. Raises
    FileError.
    """
    file = str(Path(folder) / "poetry.lock")
    if not is_file(project, file):
        return (), ()
    packages = read_toml(project, file).get("package")
    versions: dict[str, set[str]] = {}
    for package in packages if isinstance(packages, list) else ():
        entry = table(package)
        name, version = text(entry.get("name")), text(entry.get("version"))
        if name and version and not table(entry.get("source")):
            versions.setdefault(name, set()).add(version)
    several = sorted(name for name, found in versions.items() if len(found) > 1)
    lines = tuple(f"{name}=={min(found)}" for name, found in sorted(versions.items()) if len(found) == 1)
    notes = (
        (f"{file} has several versions of {', '.join(several[:3])}; the newest that fits is taken",) if several else ()
    )
    return lines, notes
