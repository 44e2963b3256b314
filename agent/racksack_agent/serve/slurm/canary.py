"""A small batch job that tells whether jobs can work at all: is the home there, is Python, what does the clock say."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import sys
import time
from typing import Any, Dict, Optional, Sequence

from racksack_agent.home import Home
from racksack_agent.serve.slurm.commands import Commands, SlurmError

_WITHIN_S = 60.0
_LOOK_S = 0.5
_PROGRAM = (
    "import json,os,platform,sys,time;"
    "p=sys.argv[1];"
    "f=open(p+'.new','w');"
    "json.dump({'host':platform.node(),'python':platform.python_version(),'clock_s':time.time()},f);"
    "f.close();os.rename(p+'.new',p)"
)


def run(home: Home, commands: Commands, options: Sequence[str] = ()) -> Dict[str, Any]:
    """`{ok, problem, host, python, skew_s}`; `skew_s`: how far the compute node's clock is ahead of this one's,
    as far as can be told: 0 when it says a moment between the job's submission and its answer.
    """
    folder = f"{home.run}/check-{secrets.token_hex(4)}"
    os.mkdir(folder, 0o700)
    number: Optional[int] = None
    try:
        number = commands.submit([*_options(folder), *options], _script(folder))
        said = _wait(folder)
        if said is None:
            return {"ok": False, "problem": _problem(folder, commands, number)}
        number = None
        return {"ok": True, **said}
    except SlurmError as problem:
        return {"ok": False, "problem": f"sbatch: {problem}"}
    finally:
        if number is not None:
            _withdraw(commands, number)
        shutil.rmtree(folder, ignore_errors=True)


def _withdraw(commands: Commands, number: int) -> None:
    """A job that nobody waits for any more; where Slurm does not answer it runs for a moment, and harms nothing."""
    try:
        commands.cancel(number)
    except SlurmError as problem:
        print(f"the test job {number} could not be cancelled: {problem}", file=sys.stderr, flush=True)


def _options(folder: str) -> list[str]:
    return [
        "--job-name=racksack-check", "--nodes=1", "--ntasks=1", "--mem=100M", "--time=1", "--no-requeue",
        f"--output={folder.replace('%', '%%')}/log",
    ]  # fmt: skip


def _script(folder: str) -> str:
    python = shlex.quote(sys.executable)
    rest = f"-I -S -c {shlex.quote(_PROGRAM)} {shlex.quote(folder + '/said')}"
    return f"#!/bin/sh\n[ -x {python} ] && exec {python} {rest}\nexec python3 {rest}\n"


def _wait(folder: str) -> Optional[Dict[str, Any]]:
    began_s = time.time()
    give_up_s = time.monotonic() + _WITHIN_S
    while time.monotonic() < give_up_s:
        os.listdir(folder)  # has a network file system look again
        try:
            with open(folder + "/said", encoding="utf-8") as file:
                said: Dict[str, Any] = json.load(file)
        except (OSError, ValueError):
            time.sleep(_LOOK_S)
        else:
            clock_s = float(said.pop("clock_s"))
            said["skew_s"] = round(clock_s - min(max(clock_s, began_s), time.time()), 3)
            return said
    return None


def _problem(folder: str, commands: Commands, number: int) -> str:
    """Why nothing came of it."""
    try:
        with open(folder + "/log", encoding="utf-8", errors="replace") as file:
            words = " ".join(file.read(2000).split())[-300:]
    except OSError:
        words = ""
    if words:
        return f"the test job printed: {words}"
    mine = [job for job in commands.queue() if job.id == number]
    if mine and mine[0].state in ("PENDING", "CONFIGURING"):
        return (
            f"the test job still waits after {_WITHIN_S:.0f} s ({mine[0].reason}); try again when the cluster is free"
        )
    return "the test job ended, but what it wrote cannot be seen here: put `home` on a file system that all nodes share"
