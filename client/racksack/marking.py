"""`racksack.checkpoint()`: a program says that what it saved is complete.

Jobs whose packages do not include racksack find the same as `racksack_checkpoint.checkpoint()`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_LOOK_S = 0.01
_PATIENCE_S = 3600.0


def checkpoint() -> bool:
    """Say that the files of the checkpoint are complete now; returns once they are copied on the node.

    Outside a job that was submitted with `checkpoint` it does nothing and returns False.
    """
    marks = os.environ.get("RACKSACK_CHECKPOINT_MARKS")
    if not marks or not Path(marks).is_dir():
        return False
    mark = Path(marks, f"{os.getpid()}-{time.monotonic_ns()}")
    mark.touch(mode=0o600, exist_ok=False)
    give_up_s = time.monotonic() + _PATIENCE_S
    while mark.exists() and time.monotonic() < give_up_s:
        time.sleep(_LOOK_S)
    return True
