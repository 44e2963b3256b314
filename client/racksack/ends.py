"""Why a job ended as it did, in the words that help: signals by their names, and the last line of its stderr."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from racksack.errors import RacksackError
from racksack.text import clean
from racksack.views import JobDetails
from racksack_jobspecs.states import JobState

if TYPE_CHECKING:
    from racksack.client import Client

_TAIL_BYTES = 4096
_LINE_CHARS_MAX = 300
_SHELL_CODES = {126: "found, but not executable", 127: "a command was not found"}


def explained(reason: str) -> str:
    """A reason with its exit code explained: 137 is what a shell makes of SIGKILL."""
    match = re.fullmatch(r"(?:the program ended with |exit )code ([0-9]+)", reason.strip())
    if match is None:
        return reason
    meaning = _meaning(int(match[1]))
    return f"exit code {match[1]}" + (f" ({meaning})" if meaning else "")


def _meaning(code: int) -> str:
    if code in _SHELL_CODES:
        return _SHELL_CODES[code]
    if code <= 128:
        return ""
    try:
        return f"128 + {signal.Signals(code - 128).name}"
    except ValueError:
        return ""


def own_code(job: JobDetails) -> int | None:
    """The program's exit code as a shell would have it: 128 + N when signal N ended it; None where there is none."""
    if job.exit_code is not None:
        return job.exit_code
    number = (job.attempts[-1] if job.attempts else {}).get("signal")
    if isinstance(number, str):
        number = getattr(signal, number if number.startswith("SIG") else f"SIG{number}", None)
    return 128 + int(number) if isinstance(number, int) and number else None


def last_words(client: Client, job: JobDetails) -> str:
    """The last line that a failed job printed to stderr; empty where there is none, or it is not ours to read."""
    if job.state != JobState.FAILED:
        return ""
    try:
        data, _, _ = client.log_chunk(job.id, "stderr", -_TAIL_BYTES)
    except RacksackError:  # deleted, or another user's: the reason stands without it
        return ""
    lines = [line.rpartition("\r")[2].strip() for line in data.decode(errors="replace").split("\n")]
    return clean(next((line for line in reversed(lines) if line), ""))[:_LINE_CHARS_MAX]
