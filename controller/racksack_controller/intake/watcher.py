"""Watches the drop folder and gives out each job file once it is complete.

inotify (through watchdog) makes it quick, and a look through the whole folder every `rescan_s` makes it certain: events
may be lost, and some file systems have none. A file that was renamed into place is complete; others must be still for
`settle_s` and have no writer. Reading and parsing happen in a worker thread, a bounded batch at a time, and users take
turns in a batch. Of each user so much is read until it is settled (see `names`), so neither a bad file nor a million of
them hold up the others.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
from watchdog.events import FileClosedEvent, FileCreatedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver

from racksack_controller.intake.drop import DroppedFile, Heard, Identity, NotYet, leases_work, look
from racksack_controller.intake.names import Entry, Listing, Names, UnderWay
from racksack_controller.intake.reject import finish_taken
from racksack_jobspecs.layout import Spool

log = logging.getLogger("racksack.spool")

BATCH = 64
AGAIN_FIRST_S = 30.0  # a file that was given out and is still there is given out again, ever more rarely
AGAIN_MOST_S = 3600.0

_EVENTS: list[type[FileSystemEvent]] = [FileMovedEvent, FileCreatedEvent, FileClosedEvent]


class Given(msgspec.Struct, frozen=True):
    """A file that was given out; if it is still there at `again_at_s` it is given out once more."""

    identity: Identity
    given_at_s: float
    again_at_s: float
    delay_s: float


class Later(enum.Enum):
    """An entry that was not looked at, since enough of its user is under way."""

    LATER = "later"


LATER = Later.LATER


class Watcher:
    """The watch over one drop folder; `files` runs it."""

    def __init__(self, spool: Spool, settle_s: float, rescan_s: float) -> None:
        self._jobs = spool.jobs
        self._settle_s = settle_s
        self._rescan_s = rescan_s
        self._names = Names()
        self._under_way = UnderWay()
        self._listing: asyncio.Task[tuple[float, dict[str, int]]] | None = None
        self._given: dict[str, Given] = {}
        self._news: deque[tuple[str, int, Heard]] = deque()
        self._wake = asyncio.Event()
        self._leases = False
        self._observer: BaseObserver | None = None
        self._folder: tuple[int, int] | None = None  # the folder that is listened to
        self._has_begun = False

    @property
    def hears(self) -> bool | None:
        """Whether the kernel tells of new files; None before the watch has begun. Without it the rescans must do."""
        if not self._has_begun:
            return None
        return self._observer is not None and self._observer.is_alive()

    async def files(self) -> AsyncIterator[DroppedFile]:
        """Each complete file, for as long as it is asked for; a file that stays in the folder comes again later.

        A folder that cannot be read for a while is looked at again at the next rescan.
        """
        await asyncio.to_thread(finish_taken, self._jobs)
        self._leases = await asyncio.to_thread(leases_work, self._jobs)
        self._observer = self._listen(asyncio.get_running_loop())
        self._folder = await asyncio.to_thread(_identity, self._jobs)
        self._has_begun = True
        try:
            rescan_at_s = 0.0
            while True:
                self._wake.clear()
                self._take_news()
                if self._listing is None and (time.monotonic() >= rescan_at_s or self._names.has_room_again()):
                    self._listing = asyncio.create_task(asyncio.to_thread(_list, self._jobs))
                    self._listing.add_done_callback(lambda _: self._wake.set())
                if self._listing is not None and self._listing.done():
                    self._note_listing(self._listing)
                    await self._follow_folder()
                    self._listing, rescan_at_s = None, time.monotonic() + self._rescan_s
                for file in await self._look_at_due():
                    yield file
                await self._wait(rescan_at_s)
        finally:
            if self._listing is not None:
                self._listing.cancel()
                self._listing = None
            if self._observer is not None:
                await asyncio.to_thread(_stop, self._observer)

    async def _follow_folder(self) -> None:
        """Listen to the folder that is there now: it may have been removed and made again."""
        there = await asyncio.to_thread(_identity, self._jobs)
        if there is None or there == self._folder:
            return
        log.warning("%s was replaced by another folder; watching that one", self._jobs)
        if self._observer is not None:
            await asyncio.to_thread(_stop, self._observer)
        self._observer = self._listen(asyncio.get_running_loop())
        self._folder = there

    def settled(self, file: DroppedFile) -> None:
        """A file that was given out is over and done with; another of its user may come."""
        self._under_way.end(file)
        self._wake.set()

    def again(self, file: DroppedFile) -> None:
        """A file that could not be taken for a passing reason, such as a full disk, is due once more."""
        given = self._given.get(file.path.name)
        if given is not None and given.identity == file.identity:
            del self._given[file.path.name]
            self._names.add(file.path.name, file.owner_uid, time.monotonic())
        self.settled(file)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> BaseObserver | None:
        """Start to hear of changes; without inotify the rescans must do."""
        try:
            observer = InotifyObserver(generate_full_events=True)
            handler = _Handler(lambda name, uid, heard: self._hear(loop, name, uid, heard))
            observer.schedule(handler, str(self._jobs), recursive=False, event_filter=_EVENTS)
            observer.start()
        except OSError as error:
            log.warning("changes in %s are not reported (%s); scanning every %g s", self._jobs, error, self._rescan_s)
            return None
        return observer

    def _hear(self, loop: asyncio.AbstractEventLoop, name: str, uid: int, heard: Heard) -> None:
        """Called in watchdog's thread."""
        self._news.append((name, uid, heard))
        if not self._wake.is_set() and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    def _take_news(self) -> None:
        now = time.monotonic()
        while self._news:
            name, uid, heard = self._news.popleft()
            entry = self._names.add(name, uid, now)
            if entry is None:
                continue  # a later look through the folder meets it
            entry.due_s = now
            # A rename brings another file, so it says nothing about the writers of the one before.
            created = heard.created or (entry.heard.created and not heard.renamed)
            closed = heard.closed or (entry.heard.closed and not heard.created and not heard.renamed)
            renamed = heard.renamed or (entry.heard.renamed and not heard.created and not heard.closed)
            entry.heard = Heard(renamed, created, closed)

    def _note_listing(self, listing: asyncio.Task[tuple[float, dict[str, int]]]) -> None:
        """Add what no event told of, and forget what is gone."""
        try:
            began_s, present = listing.result()
        except OSError as error:
            log.error("%s cannot be listed (%s); retrying in %g s", self._jobs, error.strerror, self._rescan_s)
            return
        now = time.monotonic()
        self._given = {
            name: given for name, given in self._given.items() if name in present or given.given_at_s >= began_s
        }
        for name, uid in present.items():
            if name not in self._given or self._given[name].again_at_s <= now:
                self._names.add(name, uid, now)

    async def _look_at_due(self) -> list[DroppedFile]:
        """Look at one batch of the entries whose time has come."""
        now = time.monotonic()
        batch = self._names.due(now, BATCH, self._under_way.full())
        if not batch:
            return []
        room = {entry.uid: self._under_way.room_bytes(entry.uid) for _, entry in batch}
        found = await asyncio.to_thread(self._look_at, batch, room, now)
        return [
            file for (name, entry), seen in zip(batch, found, strict=False) for file in self._note(name, entry, seen)
        ]

    def _look_at(
        self, batch: list[tuple[str, Entry]], room: dict[int, int], now_s: float
    ) -> list[DroppedFile | NotYet | Later | None]:
        """Runs in a worker thread. Of each user `room` bytes are read, and what goes beyond is left for later."""
        wall_s, settle_s, leases = time.time(), self._settle_s, self._leases
        found: list[DroppedFile | NotYet | Later | None] = []
        for name, entry in batch:
            if room[entry.uid] <= 0:
                found.append(LATER)
                continue
            seen = look(self._jobs / name, entry.heard, entry.before, settle_s, now_s, wall_s, leases)
            if isinstance(seen, DroppedFile):
                room[entry.uid] -= len(seen.text)
            found.append(seen)
        return found

    def _note(self, name: str, entry: Entry, seen: DroppedFile | NotYet | Later | None) -> list[DroppedFile]:
        """Remember what was seen; gives the file if it is to be given out."""
        now = time.monotonic()
        if seen is None:
            self._names.remove(name)
        elif isinstance(seen, NotYet):
            entry.before = seen
            left_s = seen.still_since_s + self._settle_s - now
            entry.due_s = now + (left_s if left_s > 0 else self._settle_s)
        elif isinstance(seen, DroppedFile):
            self._names.remove(name)
            return self._give(name, seen, now)
        return []

    def _give(self, name: str, file: DroppedFile, now: float) -> list[DroppedFile]:
        """The file, unless it was given out a moment ago."""
        given = self._given.get(name)
        delay_s = AGAIN_FIRST_S
        if given is not None and given.identity == file.identity:
            if now < given.again_at_s:
                return []
            delay_s = min(given.delay_s * 2, AGAIN_MOST_S)
        self._given[name] = Given(file.identity, now, now + delay_s, delay_s)
        self._under_way.begin(file)
        return [file]

    async def _wait(self, rescan_at_s: float) -> None:
        """Until there is news or the next entry or rescan is due."""
        due_s = self._names.next_due_s(self._under_way.full())
        until = rescan_at_s if self._listing is None else time.monotonic() + self._rescan_s
        delay = (until if due_s is None else min(due_s, until)) - time.monotonic()
        if delay <= 0 or self._news:
            return
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return


def is_job_name(name: str) -> bool:
    """Whether a name in the folder is that of a job file."""
    return name.endswith((".yaml", ".yml")) and not name.startswith(".")


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode; None while it is not there."""
    try:
        info = folder.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _list(jobs: Path) -> tuple[float, dict[str, int]]:
    """When it began, and the owner of each entry with the name of a job file, oldest first. Raises OSError."""
    began_s, found = time.monotonic(), Listing()
    with os.scandir(jobs) as entries:
        for entry in entries:
            if is_job_name(entry.name):
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.add(info.st_uid, info.st_ctime_ns, entry.name)
    return began_s, found.oldest()


class _Handler(FileSystemEventHandler):
    """Passes on what concerns job files, with their owner."""

    def __init__(self, hear: Callable[[str, int, Heard], None]) -> None:
        self._hear = hear

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called in watchdog's thread."""
        renamed = isinstance(event, FileMovedEvent)
        path = os.fsdecode(event.dest_path if renamed else event.src_path)
        name = Path(path).name
        if event.is_directory or not is_job_name(name):
            return
        try:
            uid = os.lstat(path).st_uid
        except OSError:
            return  # gone again; should it come back, that is another event
        created, closed = isinstance(event, FileCreatedEvent), isinstance(event, FileClosedEvent)
        self._hear(name, uid, Heard(renamed, created, closed))


def _stop(observer: BaseObserver) -> None:
    observer.stop()
    observer.join(timeout=5)
