"""Slurm's commands: run within a time limit, in a clean environment, and their answers as values.

Only options that Slurm has had since 20.11 are used, and text with a separator of our own: JSON came later and changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Dict, List, NamedTuple, Optional, Sequence

from racksack_agent.serve.numbers import whole

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
_TIMEOUT_S = 60.0
_SHELL_S = 20.0
_SEPARATOR = "\x1f"
_FIELDS = ("%i", "%T", "%r", "%S", "%j")
_PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "PATH", "SHELL", "LD_LIBRARY_PATH")
_WORDS_MAX = 500


class SlurmError(Exception):
    """A command of Slurm failed; the message is its own words. `is_final`: Slurm answered, and said no."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class SlurmJob(NamedTuple):
    """A job as squeue shows it. `starts_at`: when Slurm expects it to start, or it started, in Slurm's words."""

    id: int
    state: str
    reason: str
    starts_at: str
    name: str


# What sbatch says when a later try, or another job, may have more luck; anything else that it answers is final.
_PASSING = re.compile(
    r"unable to contact slurm|socket timed out|communication|connection refused|timed out|zero bytes|try again"
    r"|not responding|configuration source|AssocMaxSubmitJobLimit|QOSMaxSubmitJob|violates accounting/QOS policy"
    r"|job limit|maxjobcount|protocol authentication|munge",
    re.IGNORECASE,
)


class Commands:
    """The commands of the cluster whose login node this is."""

    def __init__(self, conf: str = "") -> None:
        """`conf`: the path of slurm.conf; empty: as this login finds it."""
        self._environment = {**environment(), **({"SLURM_CONF": conf} if conf else {})}
        self.user = str(os.getuid())

    def run(self, argv: Sequence[str], text: str = "", timeout_s: float = _TIMEOUT_S) -> str:
        """What a command prints. Raises SlurmError."""
        program = shutil.which(argv[0], path=self._environment["PATH"])
        if program is None:
            raise SlurmError(f"{argv[0]} is not on the login's PATH", is_final=True)
        try:
            done = subprocess.run(
                [program, *argv[1:]], input=text, env=self._environment, capture_output=True, encoding="utf-8",
                errors="replace", timeout=timeout_s, check=False, cwd="/",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SlurmError(f"{argv[0]} did not answer within {timeout_s:g} s") from None
        except OSError as problem:
            raise SlurmError(f"{argv[0]} could not be started: {problem}") from problem
        if done.returncode != 0:
            words = " ".join((done.stderr or done.stdout).split())[:_WORDS_MAX] or f"exit code {done.returncode}"
            raise SlurmError(words, is_final=not _PASSING.search(words))
        return done.stdout

    def submit(self, options: Sequence[str], script: str) -> int:
        """The number of the new job. Raises SlurmError."""
        said = self.run(["sbatch", "--parsable", *options], script)
        words = said.strip().splitlines()
        number = words[-1].partition(";")[0] if words else ""
        if whole(number) is None:
            raise SlurmError(f"sbatch printed {said.strip()[:80]!r} instead of a job's number")
        return int(number)

    def queue(self) -> List[SlurmJob]:
        """All jobs of this user that Slurm still knows, those that ended lately included. Raises SlurmError."""
        shown = _SEPARATOR.join(_FIELDS)
        argv = ["squeue", f"--user={self.user}", "--noheader", "--states=all", "--array", f"--format={shown}"]
        jobs = (read_job(line) for line in self.run(argv).splitlines())
        return [job for job in jobs if job is not None]

    def cancel(self, number: int, *options: str) -> None:
        """scancel; a job that has ended is fine. Raises SlurmError."""
        try:
            self.run(["scancel", *options, str(number)])
        except SlurmError as problem:
            if "invalid job id" not in str(problem).lower() and "already" not in str(problem).lower():
                raise

    def accounted(self, number: int) -> Optional[str]:
        """The state of a job in the accounting, with who cancelled it: `CANCELLED by 1000`. None where there is no
        accounting or it does not know the job.
        """
        argv = ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={number}", "--format=State"]
        try:
            lines = self.run(argv, timeout_s=20.0).split("\n")
        except SlurmError:
            return None
        return lines[0].strip() or None


def read_job(line: str) -> Optional[SlurmJob]:
    """A line of `queue`; None for one that is something else."""
    parts = line.split(_SEPARATOR)
    if len(parts) != len(_FIELDS) or whole(parts[0]) is None:
        return None
    return SlurmJob(int(parts[0]), parts[1], parts[2], parts[3], parts[4])


def environment() -> Dict[str, str]:
    """A clean environment with Slurm's commands on its PATH. What sbatch is run with is what a batch job gets."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    kept.update({name: value for name, value in os.environ.items() if name == "SLURM_CONF"})
    kept.setdefault("PATH", os.defpath)
    if shutil.which("sbatch", path=kept["PATH"]) is None:
        kept.update(_of_login_shell())
    return kept


def _of_login_shell() -> Dict[str, str]:
    """PATH and SLURM_CONF as a login shell sets them: many clusters do it in /etc/profile.d alone."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    ask = 'printf "\\036%s\\037%s\\036" "$PATH" "$SLURM_CONF"'
    try:
        done = subprocess.run(
            [shell, "-l", "-c", ask], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="replace", timeout=_SHELL_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    parts = done.stdout.split("\x1e")
    if len(parts) < 3 or _SEPARATOR not in parts[1]:
        return {}
    path, _, conf = parts[1].partition(_SEPARATOR)
    return {**({"PATH": path} if path else {}), **({"SLURM_CONF": conf} if conf else {})}
