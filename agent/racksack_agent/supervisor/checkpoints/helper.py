"""What a program has at hand to say "what I saved is complete now": a command and a Python function, in a folder of the
attempt that is in PATH and PYTHONPATH. They leave a file in the folder of marks and wait until it is gone.
"""

from __future__ import annotations

import os

from racksack_agent.home import AttemptFolder

_PATIENCE_S = 3600

_COMMAND = f"""#!/bin/sh
# Says that what was saved is complete now; returns once it is copied.
[ -d "$RACKSACK_CHECKPOINT_MARKS" ] || exit 0
mark="$RACKSACK_CHECKPOINT_MARKS/$$" && : > "$mark" && n=0
while [ -e "$mark" ] && [ $n -lt {_PATIENCE_S * 20} ]; do sleep 0.05; n=$((n + 1)); done
"""

_RACKSACK = """#!/bin/sh
# Stands in for the client, of which a job needs this alone.
[ "$1" = checkpoint ] && exec racksack-checkpoint
echo "racksack: only \\`racksack checkpoint\\` is at hand in a job; add racksack to its packages for more" >&2
exit 2
"""

_MODULE = f'''"""Checkpoints of a job: `from racksack_checkpoint import checkpoint`."""

import os
import time


def checkpoint():
    """Say that what was saved is complete now; returns once it is copied. Outside a job it does nothing."""
    marks = os.environ.get("RACKSACK_CHECKPOINT_MARKS", "")
    if not os.path.isdir(marks):
        return
    mark = "%s/%d-%d" % (marks, os.getpid(), time.monotonic_ns())
    os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    give_up_s = time.monotonic() + {_PATIENCE_S}
    while os.path.exists(mark) and time.monotonic() < give_up_s:
        time.sleep(0.01)
'''


def provide(folder: AttemptFolder, *, saves: bool) -> None:
    """Make the folders of helpers and of marks: without that one a mark does nothing, since nobody would heed it.

    Raises OSError.
    """
    if saves:
        os.makedirs(folder.checkpoint_marks, exist_ok=True)
    os.makedirs(folder.helpers, exist_ok=True)
    for name, text, mode in (
        ("racksack-checkpoint", _COMMAND, 0o755),
        ("racksack", _RACKSACK, 0o755),
        ("racksack_checkpoint.py", _MODULE, 0o644),
    ):
        path = f"{folder.helpers}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)


def variables(folder: AttemptFolder, given: dict[str, str]) -> dict[str, str]:
    """What makes a program find them, beside what it is given. The venv's own programs come first."""
    paths = [path for path in (given.get("PYTHONPATH"), folder.helpers) if path]
    return {
        "PATH": f"{given['PATH']}:{folder.helpers}",
        "PYTHONPATH": ":".join(paths),
        "RACKSACK_CHECKPOINT_MARKS": folder.checkpoint_marks,
    }
