"""Data sets on their way to the controller: `--data ./prices`, `--data prices=/big:data/prices`, `--data prices@v3`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from racksack.client import Client
from racksack.errors import UsageError
from racksack.submission import hash_cache, upload
from racksack.submission.project import Selection, select_data
from racksack_jobspecs import data
from racksack_jobspecs.spec import DataUse

Sent = Callable[[int, int], None]


@dataclass(frozen=True)
class LocalData:
    """A data set that lies on this machine, with its digest."""

    use: DataUse
    selection: Selection
    digest: str


def split(words: Sequence[str]) -> tuple[list[DataUse], list[tuple[DataUse, Path]]]:
    """Data sets that the controller has, and those that lie here with their paths. Raises UsageError."""
    known: list[DataUse] = []
    local: list[tuple[DataUse, Path]] = []
    for word in words:
        name, equals, rest = word.partition("=")
        is_path = not equals and ("/" in word.partition("@")[0].partition(":")[0] or word.startswith((".", "~")))
        try:
            if equals or is_path:
                path, inner = _inner(rest if equals else word)
                use = data.parse(f"{name if equals else path.resolve().name}{inner}")
                local.append((use, path))
            else:
                known.append(data.parse(word))
        except ValueError as error:
            raise UsageError(f"--data: {error}; a folder is written NAME=PATH or with a slash: ./{word}") from None
    return known, local


def _inner(text: str) -> tuple[Path, str]:
    """A path here, and `:path/in/project` or nothing."""
    whole = Path(text).expanduser()
    if whole.exists() or ":" not in text:
        return whole, ""
    path, _, inner = text.rpartition(":")
    return Path(path).expanduser(), f":{inner}"


def read(local: Sequence[tuple[DataUse, Path]], on_read: Callable[[int], None] = lambda size: None) -> list[LocalData]:
    """Give each its digest; files that have not changed are not read again. Raises ProjectError."""
    found = []
    for use, path in local:
        selection = select_data(path)
        cache = selection.root / f".data-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]}"
        known = hash_cache.recall(cache)
        digest = hash_cache.digest(selection, known, on_read)
        hash_cache.remember(cache, known)
        content = msgspec.structs.replace(use, content=f"snapshot:{digest}")
        found.append(LocalData(content, selection, digest))
    return found


def bring(client: Client, local: Sequence[LocalData], uploads: ExitStack, on_sent: Sent | None = None) -> list[DataUse]:
    """Send what the controller does not have; what each is in the job file. `uploads` are left once the job was handed
    in, so that a broken one goes on where it stopped. Raises TransferError.
    """
    uses = []
    for one in local:
        if client.has_snapshot(one.digest):
            uses.append(one.use)
            continue
        uploaded = uploads.enter_context(upload.upload_of(client.target, one.digest))
        upload.send(client.target, one.selection, uploaded, None, on_sent)
        uses.append(msgspec.structs.replace(one.use, content=uploaded.name, digest=one.digest))
    return uses
