"""Pipfile.lock and Pipfile as requirements, in the way of `pipenv requirements`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from racksack_jobspecs.environments.files import FileError, read_text, read_toml, table, text, texts
from racksack_jobspecs.environments.script import Listed

# The public index, which is asked anyway: its host now, and the one it had before; as labels of the name.
_PUBLIC = (["pypi", "org"], ["pypi", "python", "org"])


def locked(project: Path, file: str) -> Listed:
    """The locked versions. Raises FileError."""
    try:
        content = table(json.loads(read_text(project, file)))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{file} is not JSON: {error}; regenerate it with `pipenv lock`") from None
    meta, packages = table(content.get("_meta")), table(content.get("default"))
    entries = {name: table(entry) for name, entry in packages.items()}
    with_hashes = bool(entries) and all(entry.get("hashes") for entry in entries.values())
    lines = [_line(name, entry, with_hashes) for name, entry in entries.items()]
    return Listed((*_indexes(meta.get("sources")), *lines), _python(table(meta.get("requires"))))


def listed(project: Path, file: str) -> Listed:
    """The packages that were asked for, in whatever version there is. Raises FileError."""
    content = read_toml(project, file)
    packages = table(content.get("packages"))
    entries = {name: entry if isinstance(entry, dict) else {"version": entry} for name, entry in packages.items()}
    lines = [_line(name, entry, with_hashes=False) for name, entry in entries.items()]
    return Listed((*_indexes(content.get("source")), *lines), _python(table(content.get("requires"))))


def _host(url: str) -> list[str]:
    try:
        return (urlsplit(url).hostname or "").split(".")
    except ValueError:  # no address; the installer says so with the file
        return []


def _indexes(sources: object) -> list[str]:
    urls = [text(table(source).get("url")) for source in sources] if isinstance(sources, list) else []
    urls = [url for url in urls if url]
    first = [f"--index-url {url}" for url in urls[:1] if _host(url) not in _PUBLIC]
    return first + [f"--extra-index-url {url}" for url in urls[1:]]


def _python(requires: dict[str, Any]) -> str:
    version = text(requires.get("python_full_version")) or text(requires.get("python_version"))
    return f"=={version}.*" if version.count(".") == 1 else f"=={version}" if version else ""


def _line(name: str, entry: dict[str, Any], with_hashes: bool) -> str:
    extras = f"[{','.join(texts(entry.get('extras')))}]" if entry.get("extras") else ""
    marker = text(entry.get("markers"))
    suffix = f" ; {marker}" if marker else ""
    if text(entry.get("git")):
        ref = text(entry.get("ref"))
        return f"{name}{extras} @ git+{entry['git']}{'@' + ref if ref else ''}{suffix}"
    if text(entry.get("path")):
        return f"{'-e ' if entry.get('editable') else ''}{entry['path']}{extras}"
    if text(entry.get("file")) or text(entry.get("url")):
        return f"{name}{extras} @ {entry.get('file') or entry['url']}{suffix}"
    version = text(entry.get("version"))
    hashes = "".join(f" --hash={one}" for one in texts(entry.get("hashes"))) if with_hashes else ""
    return f"{name}{extras}{'' if version == '*' else version}{suffix}{hashes}"
