"""Project content on this node: a folder per digest, put in place whole by a rename, never changed, pruned when
there is too much.

Content is only believed after its digest was computed here. Two requests for the same digest may come at once, from
two of us too: the rename decides, the other's copy is thrown away. `<digest>.used` beside the folder holds its size;
its time is the last use; `<digest>.verified` says when it was read last, see `verified`.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import shutil
import stat
import tarfile
import time
from typing import List, Optional, Tuple

from racksack_agent import digest as content
from racksack_agent import records, verified
from racksack_agent.boot import boot_id
from racksack_agent.home import Home
from racksack_agent.problems import RefusedError
from racksack_agent.serve import request_checks
from racksack_agent.serve.locking import locked

_KEPT_BYTES_MAX = 20 << 30
_FREE_SHARE_MIN = 0.05  # below this share of free disk space, content that no living attempt needs goes first
_YOUNG_S = 600.0  # content that was just brought is for an attempt that is about to be launched


class Snapshots:
    """The contents of one home."""

    def __init__(self, home: Home, boot: Optional[str] = None) -> None:
        """`boot` names this start of the machine."""
        self._home = home
        self._folder = home.snapshots
        self._boot = boot if boot is not None else boot_id()

    def path(self, digest: str) -> str:
        """Where a content is, or would be."""
        return f"{self._folder}/{request_checks.digest(digest)}"

    def has(self, digest: str) -> bool:
        """Whether it is here, and whole: content that is damaged is removed. Being asked for counts as a use.

        Content that was not used since the machine's start, or was changed, is read: seconds for gigabytes.
        """
        path = self.path(digest)
        if not os.path.isdir(path):
            return False
        if not verified.is_whole(path, digest, self._boot):
            self._remove(digest)
            return False
        self.use(digest)
        return True

    def is_ready(self, digest: str) -> bool:
        """Whether it is here and was verified since the machine's start; never reads it. Counts as a use, too."""
        if not verified.is_noted(self.path(digest), self._boot):
            return False
        self.use(digest)
        return True

    def use(self, digest: str) -> None:
        """Note a use."""
        try:
            os.utime(self.path(digest) + ".used")
        except FileNotFoundError:
            records.replace(self.path(digest) + ".used", b"0")

    def put(self, digest: str, tar_b64: str) -> None:
        """Take content from an archive. Raises RefusedError when it is not what it says, or leads out of its folder."""
        if self.has(digest):
            return
        beside = f"{self._home.incoming}/.put-{digest}-{os.getpid()}-{time.monotonic_ns()}"
        try:
            archive = io.BytesIO(base64.b64decode(tar_b64, validate=True))
            os.mkdir(beside)
            with tarfile.open(fileobj=archive, encoding="utf-8", errors="surrogateescape") as tar:
                unpack(tar, beside)
            self._take(digest, beside)
        except (binascii.Error, tarfile.TarError, EOFError) as problem:
            raise RefusedError("bad_request", f"the content is not a tar archive: {problem}") from problem
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def adopt(self, digest: str, incoming: str) -> None:
        """Take content from `incoming/<name>`. Raises RefusedError; what does not fit stays, so that it can be
        mended.
        """
        if "/" in incoming or incoming in ("", ".", "..") or incoming.startswith(".put-"):
            raise RefusedError("bad_request", f"{incoming!r} is not a name in incoming/")
        source = f"{self._home.incoming}/{incoming}"
        if self.has(digest):
            shutil.rmtree(source, ignore_errors=True)
            return
        if not os.path.isdir(source):
            raise RefusedError("missing", f"nothing arrived in incoming/{incoming}")
        with locked(self._home.incoming + "/.lock"):  # two must not check and rename one folder at the same time
            if not self.has(digest):
                self._take(digest, source)

    def _take(self, digest: str, source: str) -> None:
        """Check and rename into place. Raises RefusedError of the kind `digest`."""
        try:
            found, size_bytes = content.digest_and_size(source)
        except ValueError as problem:
            raise RefusedError("digest", f"the content cannot be taken: {problem}") from problem
        if found != digest:
            raise RefusedError("digest", f"the content that arrived has the digest {found[:12]}, not {digest[:12]}")
        records.replace(self.path(digest) + ".used", str(size_bytes).encode())
        try:
            os.chmod(source, 0o755)  # noqa: S103 - the home is closed to others
            os.rename(source, self.path(digest))
        except OSError:
            if not os.path.isdir(self.path(digest)):
                raise
            shutil.rmtree(source, ignore_errors=True)  # another was quicker
        verified.note(self.path(digest), self._boot)
        self.prune()

    def digests(self, most: int = 10_000) -> List[str]:
        """What was here when it was looked at last, the least recently used left out."""
        return [digest for _, _, digest in sorted(self._uses())[-most:]]

    def prune(self, kept_bytes_max: int = _KEPT_BYTES_MAX, young_s: float = _YOUNG_S) -> List[str]:
        """Remove the least recently used while there is too much; returns what went."""
        needed = self._needed()
        uses = sorted(self._uses())
        total_bytes = sum(size_bytes for _, size_bytes, _ in uses)
        gone = []
        for used_s, size_bytes, digest in uses:
            if total_bytes <= kept_bytes_max and not self._disk_is_low():
                break
            if digest in needed or abs(time.time() - used_s) < young_s:
                continue
            self._remove(digest)
            gone.append(digest)
            total_bytes -= size_bytes
        return gone

    def _remove(self, digest: str) -> None:
        verified.remove(self.path(digest), f"{self._home.incoming}/.put-pruned-{digest}-{time.monotonic_ns()}")

    def _uses(self) -> List[Tuple[float, int, str]]:
        found = []
        for name in os.listdir(self._folder):
            if name.endswith(".used"):
                try:
                    with open(f"{self._folder}/{name}", "rb") as file:
                        found.append((os.fstat(file.fileno()).st_mtime, int(file.read() or b"0"), name[:-5]))
                except (FileNotFoundError, ValueError):
                    continue
        return found

    def _needed(self) -> set[str]:
        """What attempts that have not copied it yet need; of an order that is damaged in part, what can be read."""
        found: set[str] = set()
        for name in os.listdir(self._home.attempts):
            folder = self._home.attempt(name)
            if not os.path.exists(folder.exit):
                launch = records.read(folder.launch) or {}
                data, earlier = launch.get("data"), launch.get("checkpoint")
                found.add(str(launch.get("digest")))
                if isinstance(earlier, dict):
                    found.add(str(earlier.get("digest")))
                found.update(str(one.get("digest")) for one in data or () if isinstance(one, dict))
        return found

    def _disk_is_low(self) -> bool:
        space = os.statvfs(self._folder)
        return space.f_bavail < space.f_blocks * _FREE_SHARE_MIN


def unpack(tar: tarfile.TarFile, target: str) -> None:
    """Unpack files, links and folders; links last, so that nothing is written through one. Raises RefusedError for
    anything else.
    """
    links = []
    for member in tar:
        path = f"{target}/{_inside(member.name)}"
        if member.isdir():
            os.makedirs(path, exist_ok=True)
        elif member.issym():
            links.append((member.linkname, path))
        elif member.isreg():
            _write(tar, member, path)
        else:
            raise RefusedError("bad_request", f"the archive holds {member.name!r}, which is no file, link or folder")
    for linked, path in links:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(linked, path)


def _inside(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise RefusedError("bad_request", f"the archive holds {name!r}, which points outside the project")
    return "/".join(parts)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # noqa: S101 - it is a regular file
    mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise RefusedError("bad_request", f"the archive holds {member.name!r} twice") from None
    with open(file, "wb") as target:
        shutil.copyfileobj(source, target)
