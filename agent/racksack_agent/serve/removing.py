"""Ends attempts and removes them."""

from __future__ import annotations

import os
from typing import Any, Dict, List

from racksack_agent import records
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import RefusedError
from racksack_agent.serve import attempt_records, kept, request_checks, unfinished
from racksack_agent.serve.agent import Agent
from racksack_agent.serve.attempts import clean
from racksack_agent.serve.request_checks import field
from racksack_agent.supervisor import reaper, signals, tree

_REASONS = ("cancelled", "timeout", "fenced")


def stop(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """Ask an attempt to end. One that ended, or that is not here, is as wanted. Raises RefusedError for a bad
    request.
    """
    folder = agent.home.attempt(request_checks.attempt_name(request.get("attempt")))
    reason = field(request, "reason", str)
    if reason not in _REASONS:
        raise RefusedError("bad_request", f"there is no reason {reason!r}; it is one of {', '.join(_REASONS)}")
    wish = {
        "reason": reason,
        "grace_s": float(field(request, "grace_s", (int, float))),
        "signal": request_checks.signal_name(request, "signal", "TERM"),
        "warn_s": float(field(request, "warn_s", (int, float), 0.0)),
    }
    if agent.attempts.is_alive(folder.name):
        leave_request(folder, records.encode(wish))
        agent.attempts.poke(folder.name)
    return {}


def signal(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """Send a signal to the program of an attempt, to nothing else. Raises RefusedError when none runs, and for a bad
    request.
    """
    folder = agent.home.attempt(request_checks.attempt_name(request.get("attempt")))
    if agent.slurm is not None:
        raise RefusedError("no_signal", f"{folder.name} is a batch job of Slurm, which cannot be signalled from here")
    number = signals.number_of(request_checks.signal_name(request, "signal", "USR1"))
    started = reaper.read_started(folder)
    if started is None or not tree.signal_program(started, number):
        raise RefusedError("no_attempt", f"{folder.name} does not run on this node")
    return {}


def leave_request(folder: AttemptFolder, data: bytes) -> None:
    """Write stop.json; on a full disk into space that the attempt has already. Raises OSError."""
    try:
        records.replace(folder.stop, data)
    except OSError as problem:
        if not records.is_full(problem):
            raise
        mine = folder.reserve if os.path.exists(folder.reserve) else folder.stop
        with open(mine, "r+b") as file:
            file.write(data)
            file.truncate()
        os.rename(mine, folder.stop)


def remove(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """Remove ended attempts; those that are not here are as wanted. Raises RefusedError if one is running, after the
    others.
    """
    running: List[str] = []
    for name in request_checks.names(request, "attempts"):
        folder = agent.home.attempt(request_checks.attempt_name(name))
        if os.path.isdir(folder.path) and not remove_one(agent, folder):
            running.append(name)
    if running:
        raise RefusedError("running", f"{', '.join(running)} is still running and was not removed; stop it first")
    return {}


def remove_one(agent: Agent, folder: AttemptFolder) -> bool:
    """Remove one; False if it is running. It is renamed first, so that half of one is never seen."""
    launch = attempt_records.launch_of(folder)
    agent.attempts.settle(folder.name)
    if not os.path.exists(folder.exit) or not agent.attempts.has_let_go(folder):
        return False
    if launch:
        kept.keep(folder, launch)
    trash = unfinished.half_of(folder)
    try:
        os.rename(folder.path, trash.path)
    except FileNotFoundError:  # another was quicker
        return True
    if launch and agent.slurm is None:
        clean(folder, launch)
    unfinished.remove_tree(trash.path)
    agent.attempts.forget(folder.name)
    return True
