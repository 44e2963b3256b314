"""From an upload in `incoming/` to an immutable snapshot: examined, recorded, then put in place.

`examine` reads everything and changes nothing that its owner sees; `keep` puts the content into `snapshots/<digest>`.
Between the two the caller commits what the upload is, so that a crash at any point is answered by doing it all again:
both can be repeated, and content that is in place already is simply found there. Everything here is blocking and runs
in a worker thread.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from racksack_controller import disk_room
from racksack_controller.config.limits import DEFAULT_LIMITS, Limits
from racksack_controller.intake.copy_untrusted import Faults, copy_tree, shown_path
from racksack_controller.intake.garbage import GONE, collect_garbage, remove_tree, removing
from racksack_jobspecs import durable
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.readers import KNOWN_MAX, closest, shown
from racksack_jobspecs.snapshot import Entry, digest_of, read_entries, walk
from racksack_jobspecs.spec import Environment, JobSpec
from racksack_jobspecs.units import format_memory

__all__ = [
    "Content",
    "IngestError",
    "IngestPostponed",
    "check_spec",
    "collect_garbage",
    "examine",
    "keep",
    "refer",
]

_USUAL_FILES = {"requirements": "requirements.txt", "pyproject": "pyproject.toml", "lock": "uv.lock"}
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS})
_FOLDER_MODE = 0o755
_ROOT_MODE = 0o700


class IngestError(Exception):
    """The project cannot be taken: its owner must fix it. The sentence says what and how."""


class IngestPostponed(Exception):  # noqa: N818 - it is not the job's error
    """The project cannot be taken now: the controller's disk is full, or the like. Nothing was lost; try later."""


class Content(msgspec.Struct, frozen=True):
    """What an upload holds. `source` is where the examined content is until it is kept."""

    upload: str
    digest: str
    source: Path
    files: int
    size_bytes: int


@contextmanager
def _faults_named(doing: str) -> Iterator[None]:
    """Turn the errors of the operating system into sentences, by whose fault they are."""
    try:
        yield
    except OSError as error:
        where = f" ({shown(str(error.filename))})" if error.filename else ""
        sentence = f"{doing} failed: {error.strerror}{where}"
        if error.errno in _PASSING:
            raise IngestPostponed(f"{sentence}; free space in the spool, and the job is accepted") from error
        raise IngestError(f"{sentence}; send the project again") from error


def examine(
    spool: Spool,
    spec: JobSpec | None,
    owner_uid: int,
    *,
    is_shared: bool,
    upload: str | None = None,
    digest: str = "",
    limits: Limits = DEFAULT_LIMITS,
) -> Content | None:
    """Read the upload that a spec names and give its content a digest; None when there is no such upload.

    With `upload` that one is read; without a spec it is data, of which nothing has to be in it. `digest` is what it
    must have, if it was announced.

    Another user's upload is copied first, because its owner could change it after it was examined. Raises IngestError
    with every reason why it cannot be taken, and IngestPostponed.
    """
    upload = upload or (spec.project if spec is not None else "")
    folder = spool.incoming / upload
    with _faults_named(f"reading the upload {upload}"):
        try:
            info = folder.lstat()
        except FileNotFoundError:
            return None
        _check_upload(upload, info, owner_uid, is_shared)
        size_bytes = _check_size(upload, folder, limits)
        if info.st_uid == os.geteuid() or not is_shared:
            return _examined(spool, spec, upload, folder, digest)
        copy = spool.snapshots / f".copy-{upload}"
        remove_tree(copy)
        try:
            with disk_room.hold(spool.snapshots, size_bytes):
                _copy(folder, copy, owner_uid)
            return _examined(spool, spec, upload, copy, digest)
        except BaseException:
            remove_tree(copy)  # a full disk must not stay full of half a copy
            raise


def _examined(spool: Spool, spec: JobSpec | None, upload: str, source: Path, digest: str) -> Content:
    with ThreadPoolExecutor(1) as writing:  # the disk is as slow as the reading, and neither needs the other
        on_disk = writing.submit(durable.sync_file_system, spool.snapshots)
        content = _content(upload, source)
        announced = digest or (spec.digest if spec is not None else "")
        if announced not in ("", content.digest):
            raise IngestError(
                f"what arrived in {upload} differs from the announced content {announced[:12]}; send it again"
            )
        if spec is not None:
            check_spec(source, spec)
        on_disk.result()
    return content


def _check_upload(upload: str, info: os.stat_result, owner_uid: int, is_shared: bool) -> None:
    if not stat.S_ISDIR(info.st_mode):
        raise IngestError(f"the upload {upload} is not a folder; send the project as a folder")
    if is_shared and info.st_uid != owner_uid:
        raise IngestError(f"the upload {upload} belongs to another user; upload the project yourself")


def _check_size(upload: str, folder: Path, limits: Limits) -> int:
    """Look at sizes before anything is read: a hole costs its owner nothing, and reading it as much as data. The sum
    in bytes.
    """
    files = size_bytes = 0
    for inner, _, names in os.walk(folder):
        files += len(names)
        for name in names:
            info = os.lstat(os.path.join(inner, name))  # noqa: PTH118
            size_bytes += info.st_size if stat.S_ISREG(info.st_mode) else 0
        if files > limits.upload_files:
            raise IngestError(f"the upload {upload} has more than {limits.upload_files} files (limits: files)")
        if size_bytes > limits.upload_bytes:
            most = format_memory(limits.upload_bytes)
            raise IngestError(
                f"the upload {upload} is larger than {most} (limits: upload); leave out what no job needs"
            )
    return size_bytes


def _copy(source: Path, target: Path, owner_uid: int) -> None:
    faults = Faults()
    copy_tree(source, target, owner_uid, faults)
    if faults:
        raise IngestError(faults.sentence("the project"))


def _content(upload: str, source: Path) -> Content:
    """The digest of everything below a folder. Raises IngestError with all that has no place in a snapshot."""
    faults = Faults()
    entries: list[Entry] = []
    for relative, read in read_entries(source, walk(source, faults.add_unreadable)):
        try:
            entry = read()
        except OSError as error:
            if error.errno in _PASSING:
                raise
            faults.add_unreadable(error)
        except ValueError as error:
            faults.add(shown(str(error)))
        else:
            entries.append(entry)
            if entry.kind == "l":
                _check_link(source, relative, faults)
    if faults:
        raise IngestError(faults.sentence("the project"))
    files = [entry.size_bytes for entry in entries if entry.kind == "f"]
    return Content(upload, digest_of(entries), source, len(files), sum(files))


def _check_link(root: Path, relative: bytes, faults: Faults) -> None:
    """A link must stay inside by its text, since the project travels, and by where it arrives over other links."""
    full = os.path.join(os.fsencode(root), relative)  # noqa: PTH118 - bytes paths: names need not be UTF-8
    target = os.readlink(full)  # noqa: PTH115
    landing = os.path.normpath(os.path.join(os.path.dirname(relative), target))  # noqa: PTH118, PTH120
    arrives = os.path.realpath(full)
    home = os.path.realpath(os.fsencode(root))
    is_inside = arrives == home or arrives.startswith(home + b"/")
    if target.startswith(b"/") or landing == b".." or landing.startswith(b"../") or not is_inside:
        faults.add(f"the link {shown_path(relative)} points outside the project (to {shown_path(target)})")


def check_spec(root: Path, spec: JobSpec) -> None:
    """What the spec names must be in the project. Raises IngestError with all that is not."""
    problems = [
        _missing(root, "the entrypoint", spec.entrypoint),
        *(_missing(root, "the requirements file", name) for name in _requirement_files(spec.environment)),
        *itertools.islice(
            (found for one in sorted(scripts_of(spec)) if (found := _missing(root, "the script", one))), 10
        ),
        *(
            f"there is no {shown(path)}, which stage_in_ram (--ramdisk) names"
            for path in spec.stage_in_ram
            if not (root / path).exists()
        ),
    ]
    wrong = [problem for problem in problems if problem]
    if wrong:
        raise IngestError("; ".join(wrong))


def scripts_of(spec: JobSpec) -> set[str]:
    """The programs of a sweep over a list of jobs, by their names in the project."""
    return {script.script for script in spec.sweep.scripts} if spec.sweep is not None else set()


def _requirement_files(environment: Environment) -> list[str]:
    name = environment.file or _USUAL_FILES.get(environment.kind)
    return [name] if name else []


def _missing(root: Path, what: str, name: str) -> str:
    """What is wrong with a file that the spec names; empty when it is there."""
    path = root / name
    if path.is_file():
        return ""
    if path.is_dir():
        return f"{what} {shown(name)} is a folder; name the file in it"
    parent = path.parent
    some = itertools.islice(parent.iterdir(), KNOWN_MAX) if parent.is_dir() else ()
    meant = closest(path.name, [entry.name for entry in some if entry.is_file()])
    return f"{what} {shown(name)} is not in the project; " + (
        f"did you mean {shown(meant)}?" if meant else "send it too"
    )


def keep(spool: Spool, content: Content) -> None:
    """Put examined content into `snapshots/`, once, read-only. Raises IngestError and IngestPostponed."""
    target = spool.snapshots / content.digest
    with _faults_named(f"keeping the upload {content.upload}"):
        _make_read_only(content.source)
        with removing:
            if target.is_dir():
                os.utime(target)
            else:
                content.source.rename(target)
                os.utime(target)
        durable.sync_folder(spool.snapshots)
        retire_upload(spool, content.upload)
        remove_tree(spool.snapshots / f".copy-{content.upload}")


def retire_upload(spool: Spool, upload: str) -> None:
    """Remove an upload, if it is still there. It is renamed first: half of it must never be taken for all of it."""
    gone = spool.incoming / f"{GONE}{secrets.token_hex(8)}"
    try:
        (spool.incoming / upload).rename(gone)
    except FileNotFoundError:
        return
    remove_tree(gone)


def _make_read_only(root: Path) -> None:
    """Take write permission from every file. Folders keep the controller's own, without which none can be renamed.

    The root stays closed to all others throughout; an ACL alone opens it, to whoever uploaded the content.
    """
    root.chmod(_ROOT_MODE)
    for folder, folders, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode):
                wanted = 0o555 if info.st_mode & stat.S_IXUSR else 0o444
                if stat.S_IMODE(info.st_mode) != wanted:
                    os.chmod(path, wanted)  # noqa: PTH101
        for name in folders:
            path = os.path.join(folder, name)  # noqa: PTH118
            if not os.path.islink(path):  # noqa: PTH114
                os.chmod(path, _FOLDER_MODE)  # noqa: PTH101


def refer(spool: Spool, digest: str) -> Path | None:
    """The kept content with this digest, marked as used now; None when it is not there."""
    target = spool.snapshots / digest
    with removing:
        try:
            os.utime(target)
        except FileNotFoundError:
            return None
    return target
