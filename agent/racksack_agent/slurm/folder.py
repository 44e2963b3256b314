"""The files of an attempt that is a batch job, beside those of every attempt."""

from __future__ import annotations

import os
import re
import socket
from typing import Any, Dict, Optional

from racksack_agent import records
from racksack_agent.home import AttemptFolder

Record = Dict[str, Any]

_NUMBER = re.compile(r"[0-9]{1,15}")


def submitted_path(folder: AttemptFolder) -> str:
    """`{job}`: the number that sbatch gave it."""
    return folder.path + "/slurm.json"


def claim_path(folder: AttemptFolder) -> str:
    """Made by the first supervisor that starts, whatever Slurm starts after it: an attempt runs once."""
    return folder.path + "/claim.json"


def job_of(folder: AttemptFolder) -> int:
    """The number of its batch job; 0 while none is known."""
    for path in (submitted_path(folder), claim_path(folder)):
        found = (records.read(path) or {}).get("job")
        if isinstance(found, int) and found > 0:
            return found
    return 0


def note_submitted(folder: AttemptFolder, job: int) -> None:
    """Remember the number that sbatch gave it. Raises OSError."""
    records.replace(submitted_path(folder), records.encode({"job": job}))


def claim_of(folder: AttemptFolder) -> Optional[Record]:
    """Who runs it; None while no supervisor has begun. One whose record is torn is claimed all the same."""
    if not os.path.lexists(claim_path(folder)):
        return None
    return records.read(claim_path(folder)) or {}


def claim(folder: AttemptFolder) -> bool:
    """Take the attempt; False when it was taken before. Raises OSError. The name appears with its content: a link to
    a finished file is the one step that every shared file system makes for one of many alone.
    """
    beside = f"{claim_path(folder)}.{socket.gethostname()}.{os.getpid()}"
    with open(beside, "wb") as file:
        file.write(records.encode(this_start()))
    try:
        os.link(beside, claim_path(folder))
    except FileExistsError:
        return False
    finally:
        os.unlink(beside)
    return True


def this_start() -> Record:
    """Which start of which batch job this process belongs to."""
    number, restarts = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_RESTART_COUNT", "0")
    return {
        "job": int(number) if _NUMBER.fullmatch(number) else 0,
        "restarts": int(restarts) if _NUMBER.fullmatch(restarts) else 0,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
