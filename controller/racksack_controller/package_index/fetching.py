"""Files of a package index: fetched once, compared with their sum, kept, and given to whoever asks meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from racksack_controller import disk_room

CHUNK_BYTES = 256 * 1024
AT_ONCE = 6  # downloads from the real index
STALL_S = 60.0
UNKNOWN_BYTES_MAX = 1024**3  # of a file whose length is not announced
_TRASH_AGE_S = 3600.0

Ask = Callable[..., Any]  # a request for one file


class FetchError(Exception):
    """A file could not be had; the sentence says why."""


class Download:
    """One file on its way: it grows in `path`, and whoever wants it reads along."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self.is_done = False
        self.problem = ""
        self._news = asyncio.Condition()

    async def grow(self, size_bytes: int, *, is_done: bool = False, problem: str = "") -> None:
        """Tell the readers."""
        async with self._news:
            self.size_bytes, self.is_done, self.problem = size_bytes, is_done or bool(problem), problem
            self._news.notify_all()

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it as it comes. Raises FetchError when it does not come whole."""
        with await asyncio.to_thread(self.path.open, "rb") as file:
            offset = 0
            while True:
                async with self._news:
                    await self._news.wait_for(lambda: self.size_bytes > offset or self.is_done)  # noqa: B023 - at once
                    problem, is_last = self.problem, self.is_done and self.size_bytes <= offset
                if problem:
                    raise FetchError(problem)
                if is_last:
                    return
                data = await asyncio.to_thread(os.pread, file.fileno(), CHUNK_BYTES, offset)
                offset += len(data)
                yield data


class Files:
    """The files that are kept, by the sums of their addresses, and those on their way."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._under_way: dict[str, Download] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def prepare(self) -> None:
        """Make the folder; what was half fetched goes. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob(".new-*"):
            path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def get(
        self, session: aiohttp.ClientSession, url: str, sha256: str, headers: Mapping[str, str] | None = None
    ) -> Path | Download:
        """The file, or what comes of it so far."""
        key = hashlib.sha256(f"{url} {sha256}".encode()).hexdigest()
        path = self._folder / key
        if key not in self._under_way:
            if _touched(path):  # not in a thread: what is not on its way now must be here, or it is fetched twice
                return path
            download = self._under_way[key] = Download(self._folder / f".new-{key}-{secrets.token_hex(4)}")
            download.path.touch()
            task = asyncio.create_task(
                self._fetch(
                    partial(session.get, url, headers={"Accept-Encoding": "identity", **(headers or {})}),
                    url,
                    sha256,
                    key,
                    download,
                )
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._under_way[key]

    async def _fetch(self, ask: Ask, url: str, sha256: str, key: str, download: Download) -> None:
        problem = "the controller is being stopped"
        try:
            async with self._slots:
                problem = await self._receive(ask, url, sha256, download)
            if not problem:
                await asyncio.to_thread(download.path.rename, self._folder / key)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            problem = f"{_host_of(url)} could not deliver it: {str(error) or type(error).__name__}"
        finally:
            self._under_way.pop(key, None)
            with contextlib.suppress(FileNotFoundError):
                if problem:
                    download.path.unlink()
            await download.grow(download.size_bytes, is_done=True, problem=problem)
        await asyncio.to_thread(self._prune)

    async def _receive(self, ask: Ask, url: str, sha256: str, download: Download) -> str:
        """Write what comes; why it does not count, or nothing. Raises aiohttp.ClientError, OSError, TimeoutError."""
        whole = hashlib.sha256()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL_S, sock_read=STALL_S)
        async with ask(timeout=timeout) as answer:
            if answer.status != 200:
                return f"{_host_of(url)} answered with {answer.status}"
            most = UNKNOWN_BYTES_MAX if answer.content_length is None else answer.content_length
            with disk_room.hold(self._folder, most), await asyncio.to_thread(download.path.open, "wb") as file:
                size_bytes = 0
                async for data in answer.content.iter_chunked(CHUNK_BYTES):
                    await asyncio.to_thread(_write, file.fileno(), data)
                    whole.update(data)
                    size_bytes += len(data)
                    if size_bytes > most:
                        return f"what {_host_of(url)} sent is larger than {most} bytes"
                    await download.grow(size_bytes)
        if sha256 and whole.hexdigest() != sha256:
            return f"what {_host_of(url)} sent does not match the checksum on its page"
        return ""

    def _prune(self) -> None:
        """Let the least recently used go while there is too much. Runs in a thread."""
        found = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                info = path.stat()
                if not path.name.startswith(".new-") or info.st_mtime < time.time() - _TRASH_AGE_S:
                    found.append((info.st_mtime, info.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._bytes_max:
                return
            path.unlink(missing_ok=True)
            total -= size


def _touched(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _host_of(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or "the index"
