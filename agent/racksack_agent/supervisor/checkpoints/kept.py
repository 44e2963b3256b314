"""The checkpoints of an attempt on its node: `checkpoints/<number>/` with the files, `<number>.json` written last.

The newest is kept, and the one that the controller is bringing away (`pulled`), as long as that takes.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from racksack_agent import durable, records
from racksack_agent.home import AttemptFolder

Record = Dict[str, Any]

UNFINISHED = ".unfinished"
_PULLED = "pulled"


def numbers(folder: AttemptFolder) -> List[int]:
    """The complete ones, oldest first."""
    try:
        names = os.listdir(folder.checkpoints)
    except FileNotFoundError:
        return []
    return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())


def newest(folder: AttemptFolder) -> Optional[Record]:
    """The record of the newest complete one."""
    for number in reversed(numbers(folder)):
        record = records.read(f"{folder.checkpoints}/{number}.json")
        if record is not None and os.path.isdir(path_of(folder, number)):
            return record
    return None


def path_of(folder: AttemptFolder, number: int) -> str:
    """Where the files of one are."""
    return f"{folder.checkpoints}/{number}"


def add(folder: AttemptFolder, unfinished: str, record: Record) -> None:
    """Put a copy in place: once this returns it survives a power cut. Raises OSError."""
    number = record["number"]
    durable.sync_tree(unfinished)
    _remove(path_of(folder, number))  # of one whose record never came
    os.rename(unfinished, path_of(folder, number))
    records.replace(f"{folder.checkpoints}/{number}.json", records.encode(record), sync=True)
    prune(folder, number)


def pin(folder: AttemptFolder) -> Optional[Record]:
    """The newest one, which stays until another is pinned: it is about to be brought away. Raises OSError."""
    while True:
        record = newest(folder)
        if record is None:
            return None
        records.replace(f"{folder.checkpoints}/{_PULLED}", records.encode({"number": record["number"]}))
        if os.path.isdir(path_of(folder, record["number"])):
            return record  # else it made room for a newer one just before it was pinned


def prune(folder: AttemptFolder, newest_number: int) -> None:
    """Remove those that neither are the newest nor are being brought away. Raises OSError."""
    pinned = (records.read(f"{folder.checkpoints}/{_PULLED}") or {}).get("number")
    for number in numbers(folder):
        if number not in (newest_number, pinned):
            records.remove_file(f"{folder.checkpoints}/{number}.json")
            _remove(path_of(folder, number))


def clear_unfinished(folder: AttemptFolder) -> str:
    """Where the next one is copied to, empty. Raises OSError."""
    path = f"{folder.checkpoints}/{UNFINISHED}"
    _remove(path)
    os.makedirs(path)
    return path


def remove_unfinished(folder: AttemptFolder) -> None:
    """Nothing more is copied. Raises OSError."""
    _remove(f"{folder.checkpoints}/{UNFINISHED}")


def _remove(path: str) -> None:
    import shutil

    if os.path.lexists(path):
        shutil.rmtree(path)
