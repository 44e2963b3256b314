"""What the program printed stays what it printed: each log has a second name outside of the return folder, so that a
job that puts a file of its own where the log is, or removes it, takes nothing away.
"""

from __future__ import annotations

import os

from racksack_agent import records
from racksack_agent.home import AttemptFolder

STREAMS = ("stdout.log", "stderr.log")


def hold(folder: AttemptFolder) -> None:
    """Give the logs their second names. A file system without hard links goes without."""
    os.makedirs(folder.logs, exist_ok=True)
    for name in STREAMS:
        try:
            os.link(f"{folder.out}/{name}", f"{folder.logs}/{name}")
        except OSError:
            continue


def path_of(folder: AttemptFolder, log: str) -> str:
    """Where a log can be read, also while it runs."""
    kept = f"{folder.logs}/{log}"
    return kept if os.path.exists(kept) else f"{folder.out}/{log}"


def restore(folder: AttemptFolder, beside: str) -> None:
    """Put the logs back in place; what the job put there goes into the folder `beside` in out/. Raises OSError."""
    for name in STREAMS:
        kept, place = f"{folder.logs}/{name}", f"{folder.out}/{name}"
        if not os.path.exists(kept):
            continue
        if os.path.lexists(place) and (os.path.islink(place) or not os.path.samefile(kept, place)):
            os.makedirs(f"{folder.out}/{beside}", exist_ok=True)
            os.rename(place, f"{folder.out}/{beside}/{name}")
        if not os.path.lexists(place):
            os.link(kept, place)
        records.remove_file(kept)
