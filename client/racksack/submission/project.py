"""What of a project folder is sent: one pass over it, before anything else happens.

Every entry that could not arrive as it is here (links that lead out of the project, devices, sockets, pipes, what may
not be read) is named in one error, all of them together, since each would be a surprise on the node.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from racksack.errors import ProjectError
from racksack.result_folder import MARK
from racksack.submission.ignore import EARLIER_RESULTS, SECRET, Rule, Rules, rules_for
from racksack.text import clean

# Paths are bytes here, since names need not be UTF-8; pathlib has no bytes.
# ruff: noqa: PTH115, PTH117, PTH118, PTH120

PROBLEMS_SHOWN_MAX = 10
FILES_WARNED = 10_000
BYTES_WARNED = 1024**3


@dataclass(frozen=True)
class Found:
    """One entry that is sent, with what tells whether it changed since the last look."""

    path: bytes  # relative to the project
    kind: str  # f file, l symbolic link, d empty folder; as in a snapshot's manifest
    executable: bool
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class Selection:
    """What is sent of a project and what is not."""

    root: Path
    entries: tuple[Found, ...]
    left_out: dict[Rule, int]  # entries (a folder counts once) by the rule that left them out
    shared: tuple[Found, ...] = ()  # of the entries: files that jobs do not copy
    secrets: tuple[bytes, ...] = ()  # entries that were left out since they are likely to be secrets

    @property
    def files(self) -> int:
        """Number of files."""
        return sum(entry.kind == "f" for entry in self.entries)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def copied_bytes(self) -> int:
        """Bytes of the files that each job copies on its node."""
        return self.size_bytes - sum(entry.size_bytes for entry in self.shared)

    def largest(self, count: int = 10) -> list[Found]:
        """The largest files, largest first."""
        files = (entry for entry in self.entries if entry.kind == "f" and entry.size_bytes)
        return sorted(files, key=lambda entry: -entry.size_bytes)[:count]


def select(root: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Selection:
    """Look through a project. Raises ProjectError with every reason why it cannot be sent."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise ProjectError(f"the project {clean(root)} {what}; name the folder that holds the program")
    walk = _Walk(root.resolve(), rules_for(root, include, exclude))
    entries = tuple(sorted(walk.run(), key=lambda entry: entry.path))
    if walk.problems:
        raise ProjectError(_sentence(root, walk.problems))
    return Selection(root.resolve(), entries, dict(walk.left_out), secrets=tuple(sorted(walk.secrets)))


def select_data(path: Path) -> Selection:
    """All of a data set: a folder, with nothing left out, or one file. Raises ProjectError."""
    root = path if path.is_dir() else path.parent
    if not path.exists():
        raise ProjectError(f"the data {clean(path)} does not exist; name a folder or a file")
    walk = _Walk(root.resolve(), Rules(()))
    entries = tuple(sorted(walk.run(), key=lambda entry: entry.path))
    if not path.is_dir():
        entries, walk.problems = tuple(entry for entry in entries if entry.path == os.fsencode(path.name)), []
    if walk.problems:
        raise ProjectError(_sentence(path, walk.problems))
    return Selection(root.resolve(), entries, {})


def copy_selected(selection: Selection, folder: Path) -> None:
    """Put what is sent into another folder; files are linked where that is possible. Raises OSError."""
    for found in selection.entries:
        source = os.path.join(os.fsencode(selection.root), found.path)
        target = os.path.join(os.fsencode(folder), found.path)
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103
        if found.kind == "d":
            os.makedirs(target, exist_ok=True)  # noqa: PTH103
        elif found.kind == "l":
            os.symlink(os.readlink(source), target)  # noqa: PTH211
        else:
            try:
                os.link(source, target)
            except OSError:  # another file system, or files of somebody else
                shutil.copy2(source, target)


def check_entrypoint(selection: Selection, entrypoint: str, include_hint: bool = True) -> str:
    """The entrypoint as a path inside the project. Raises ProjectError when it is not among what is sent."""
    root = selection.root
    candidate = Path(os.path.normpath(root / entrypoint))
    if not candidate.is_relative_to(root) or candidate == root:
        raise ProjectError(
            f"the entrypoint {clean(entrypoint)} is outside the project; name a file inside {clean(root)}"
        )
    relative = candidate.relative_to(root)
    if any(entry.path == os.fsencode(relative) and entry.kind != "d" for entry in selection.entries):
        if relative.name == "__main__.py" and (candidate.parent / "__init__.py").is_file():
            _refuse_inside_of_package(root, relative.parent, entrypoint)
        return str(relative)
    if candidate.is_dir():
        if (candidate / "__main__.py").is_file():
            _refuse_inside_of_package(root, relative, entrypoint)
        raise ProjectError(f"the entrypoint {clean(entrypoint)} is a folder; name the file in it that is to run")
    if candidate.exists():
        hint = f"; include it with --include '/{relative}'" if include_hint else ""
        raise ProjectError(f"the entrypoint {clean(entrypoint)} is left out by a rule for what to send{clean(hint)}")
    raise ProjectError(
        f"there is no {clean(entrypoint)} in {clean(root)}; name the file that is to run, relative to it"
    )


def _refuse_inside_of_package(root: Path, package: Path, entrypoint: str) -> NoReturn:
    """A package's `__main__.py` run by its path cannot import its own package relatively, as Python says only later."""
    command = f"submit {clean(root)} -- python -m {clean('.'.join(package.parts))}"
    raise ProjectError(f"the entrypoint {clean(entrypoint)} is a package; run it with `{command}`")


class _Walk:
    """One pass over a folder tree, gathering entries, what was left out, and problems."""

    def __init__(self, root: Path, rules: Rules) -> None:
        self.root = os.fsencode(root)
        self.rules = rules
        self.left_out: Counter[Rule] = Counter()
        self.secrets: list[bytes] = []
        self.problems: list[str] = []

    def run(self) -> Iterator[Found]:
        pending = [b""]
        while pending:
            folder = pending.pop()
            kept = results = 0
            for entry in self._list(folder):
                relative = os.path.join(folder, entry.name)
                is_folder = entry.is_dir(follow_symlinks=False)
                rule = self._left_out_by(relative, is_folder=is_folder)
                if rule is not None:
                    results += rule is EARLIER_RESULTS
                    continue
                kept += 1
                if is_folder:
                    pending.append(relative)
                else:
                    yield from self._file(relative, entry)
            if not kept and not results and folder:
                yield Found(folder, "d", False, 0, 0, 0, 0)

    def _left_out_by(self, relative: bytes, *, is_folder: bool) -> Rule | None:
        """The rule that leaves an entry out, counted; None when it is sent."""
        decision = self.rules.decides(relative, is_folder=is_folder)
        rule = decision[0] if decision is not None and decision[1] else None
        if decision is None and is_folder and os.path.lexists(os.path.join(self.root, relative, os.fsencode(MARK))):
            rule = EARLIER_RESULTS
        if rule is not None:
            self.left_out[rule] += 1
            if rule.source == SECRET:
                self.secrets.append(relative)
        return rule

    def _list(self, folder: bytes) -> list[os.DirEntry[bytes]]:
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                return list(entries)
        except OSError as error:
            self.problems.append(f"the folder {_shown(folder or b'.')} cannot be read ({error.strerror})")
            return []

    def _file(self, relative: bytes, entry: os.DirEntry[bytes]) -> Iterator[Found]:
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError as error:
            self.problems.append(f"{_shown(relative)} cannot be looked at ({error.strerror})")
            return
        if stat.S_ISLNK(info.st_mode):
            kind = "l"
            self._check_link(relative)
        elif stat.S_ISREG(info.st_mode):
            kind = "f"
            if not os.access(entry.path, os.R_OK):
                self.problems.append(f"{_shown(relative)} cannot be read; allow it, or leave it out with --exclude")
        else:
            self.problems.append(f"{_shown(relative)} is a device, socket or pipe; leave it out with --exclude")
            return
        executable = kind == "f" and bool(info.st_mode & stat.S_IXUSR)
        size_bytes = info.st_size if kind == "f" else 0
        yield Found(relative, kind, executable, size_bytes, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)

    def _check_link(self, relative: bytes) -> None:
        """A link must stay inside the project by its text alone, because only the project travels."""
        target = os.readlink(os.path.join(self.root, relative))
        landing = os.path.normpath(os.path.join(os.path.dirname(relative), target))
        if os.path.isabs(target) or landing == b".." or landing.startswith(b"../"):
            self.problems.append(
                f"the link {_shown(relative)} points outside the project (to {_shown(target)}); "
                "put what it points to into the project, or leave it out with --exclude"
            )


def _shown(path: bytes) -> str:
    return clean(os.fsdecode(path))


def _sentence(root: Path, problems: Sequence[str]) -> str:
    shown = list(problems[:PROBLEMS_SHOWN_MAX])
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    return f"{clean(root)} cannot be sent: " + "\n  ".join(["", *shown] if len(shown) > 1 else shown)
