"""Progress bars on a terminal; nothing anywhere else. rich is imported only when a bar is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from racksack.rsync import Progress
from racksack.text import use_colour

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
            total = total_bytes if total_bytes is not None else done_bytes * 100 // max(percent, 1)
            bars.update(task, completed=done_bytes, total=total)

        yield advance
