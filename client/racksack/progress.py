"""Progress bars on a terminal; nothing anywhere else. rich is imported only when a bar is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from racksack.text import use_colour
from racksack.transport.rsync import Progress

_SHOWN_FROM_BYTES = 8 * 1024**2  # smaller transfers are over before a bar is read


@contextmanager
def transfer_bar(label: str, total_bytes: int | None, *, quiet: bool) -> Iterator[Progress | None]:
    """A callback for a transfer, or None where no bar is wanted. `total_bytes` is None when it is not known before."""
    small = total_bytes is not None and total_bytes < _SHOWN_FROM_BYTES
    if quiet or small or not use_colour(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=total_bytes)

        def advance(done_bytes: int, percent: int) -> None:
            guessed = done_bytes * 100 // percent if percent else None
            total = total_bytes if total_bytes is not None else guessed
            bars.update(task, completed=done_bytes, total=total)

        yield advance


@contextmanager
def reading_bar(label: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A callback for the bytes of each file read; the bar comes with the first big one."""
    read_bytes = 0
    with ExitStack() as stack:
        bar: Progress | None = None

        def on_read(size_bytes: int) -> None:
            nonlocal read_bytes, bar
            before, read_bytes = read_bytes, read_bytes + size_bytes
            if before < _SHOWN_FROM_BYTES <= read_bytes:
                bar = stack.enter_context(transfer_bar(label, None, quiet=quiet))
            if bar is not None:
                bar(read_bytes, 0)

        yield on_read
