"""Which files of a project its jobs share on a node: `--shared`, `shared:` of a job file, and `.racksackdata`."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from racksack.errors import ProjectError
from racksack.submission.project import Selection
from racksack.text import clean

MARKS_FILE = ".racksackdata"


def marked(selection: Selection, named: Sequence[str]) -> tuple[Selection, tuple[str, ...]]:
    """The selection with what is shared, and all patterns: the `named` ones and those of `.racksackdata`.

    Raises ProjectError for a named one that matches nothing, and for a file that cannot be read.
    """
    for pattern in named:
        if not _matches(selection.root, pattern):
            raise ProjectError(f"--shared {clean(pattern)}: nothing in {clean(selection.root)} matches")
    patterns = tuple(dict.fromkeys((*named, *_lines(selection.root / MARKS_FILE))))
    paths = {os.fsencode(path) for pattern in patterns for path in _matches(selection.root, pattern)}
    shared = [entry for entry in selection.entries if entry.kind == "f" and _is_in(entry.path, paths)]
    return replace(selection, shared=tuple(shared)), patterns


def _matches(root: Path, pattern: str) -> list[str]:
    return glob.glob(pattern.rstrip("/"), root_dir=root, recursive=True)  # noqa: PTH207 - as the node does it


def _is_in(path: bytes, paths: set[bytes]) -> bool:
    parts = path.split(b"/")
    return any(b"/".join(parts[:count]) in paths for count in range(1, len(parts) + 1))


def _lines(path: Path) -> list[str]:
    """One path or pattern a line; # begins a comment."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{clean(path)} cannot be read: {error}") from error
    found = [line.strip().removeprefix("/") for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for pattern in found:
        if ".." in pattern.split("/"):
            raise ProjectError(f"{clean(path)}: {clean(pattern)} leads out of the project; write a path inside it")
    return found


def advice(selection: Selection) -> str:
    """The largest folder or file at the top of a project that is copied: what to mark first."""
    shared = {entry.path for entry in selection.shared}
    sizes: dict[bytes, int] = {}
    for entry in selection.entries:
        if entry.path not in shared:
            top = entry.path.partition(b"/")[0]
            sizes[top] = sizes.get(top, 0) + entry.size_bytes
    return os.fsdecode(max(sizes, key=lambda top: sizes[top]))
