"""Looks at what runs: logs, the use of the node, and how to attach to a session."""

from __future__ import annotations

import base64
import os
import time
from typing import Any, Dict, List, Sequence

from racksack_agent import processes, records
from racksack_agent.command_line import agent_command
from racksack_agent.problems import RefusedError
from racksack_agent.serve import request_checks
from racksack_agent.serve.agent import Agent
from racksack_agent.serve.logins import count_logins
from racksack_agent.serve.request_checks import field
from racksack_agent.supervisor import captured, masking

_STREAMS = ("stdout", "stderr", "env", "times")
_LIMIT_BYTES_MAX = 16 << 20


def tail(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """A piece of a log: `offset` is where the piece begins, `size` the length of the whole log so far.

    A negative offset in the request counts from the end. A log that has not begun is empty.
    """
    folder = agent.home.attempt(request_checks.attempt_name(request.get("attempt")))
    stream = field(request, "stream", str)
    if stream not in _STREAMS:
        raise RefusedError("bad_request", f"there is no stream {stream!r}; it is one of {', '.join(_STREAMS)}")
    if not os.path.isdir(folder.path):
        raise RefusedError("no_attempt", f"{folder.name} is not on this node")
    offset, limit = field(request, "offset", int), field(request, "limit", int)
    try:
        log = os.open(
            captured.path_of(folder, f"{stream}.log"), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except OSError:  # it has not begun, or the job put something else in its place
        return {"data_b64": "", "offset": 0, "size": 0}
    secrets = masking.values_of(records.read(folder.launch) or {})
    try:
        size = os.fstat(log).st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        data = b""
        if os.path.isfile(f"/proc/self/fd/{log}"):
            data = _masked(log, start, max(0, min(limit, _LIMIT_BYTES_MAX)), secrets)
    finally:
        os.close(log)
    return {"data_b64": base64.b64encode(data).decode(), "offset": start, "size": max(size, start + len(data))}


def _masked(log: int, start: int, limit: int, secrets: Sequence[bytes]) -> bytes:
    """A piece of a log without secrets, also those that begin before it or end behind it. What may be the beginning of
    one at the end of the log waits for the rest.
    """
    margin = max(map(len, secrets), default=1) - 1
    before = min(margin, start)
    data = os.pread(log, before + limit + margin, start - before)
    piece = masking.mask(data, secrets)[before : before + limit]
    if len(data) <= before + limit:
        half = max((masking.half_at_end(data, value) for value in secrets), default=0)
        piece = piece[: max(0, len(piece) - half)]
    return piece


def stats(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """What the node and each living attempt use now. Raises OSError."""
    del request
    memory = meminfo()
    space = os.statvfs(agent.home.root)
    attempts = {name: use_of(found) for name, found in agent.attempts.living_processes().items()}
    return {
        "load1": os.getloadavg()[0],
        "ram_used_bytes": memory["MemTotal"] - memory["MemAvailable"],
        "disk_free_bytes": space.f_bavail * space.f_frsize,
        "logins": count_logins(),
        "clock_s": time.time(),
        "uv": agent.uv() is not None,
        "attempts": attempts,
        "gpus": None if agent.slurm else agent.gpus.state(),
    }


def use_of(found: List[int]) -> Dict[str, Any]:
    """Memory and CPU seconds of processes, those of their ended children included."""
    ticks = 0
    for process in found:
        stat = processes.read_proc(process, "stat")
        if stat:
            ticks += sum(map(int, stat[stat.rindex(b")") + 2 :].split()[11:15]))
    return {"rss_bytes": sum(map(processes.rss_bytes, found)), "cpu_s": round(ticks / os.sysconf("SC_CLK_TCK"), 2)}


def meminfo() -> Dict[str, int]:
    """/proc/meminfo in bytes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = [line.split() for line in file]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}


def attach(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """How to see an attempt's terminal and type into it (`session`), to only see it (`view`; empty with screen), and to
    get a shell in its folder with its environment (`shell`).

    All are argument vectors for this node. Raises RefusedError when it does not run.
    """
    folder = agent.home.attempt(request_checks.attempt_name(request.get("attempt")))
    report = agent.attempts.report(folder.name)
    if agent.slurm is not None and report is not None and agent.slurm.has_begun(folder):
        argv = agent.slurm.shell(folder, agent_command("shell", folder.path))
        return {"session": argv, "view": [], "shell": argv}
    if report is None or report["state"] == "ended" or agent.sessions is None:
        raise RefusedError("no_attempt", f"{folder.name} does not run on this node")
    return {
        "session": agent.sessions.attach_command(folder.name),
        "view": agent.sessions.view_command(folder.name),
        "shell": agent_command("shell", folder.path),
    }
