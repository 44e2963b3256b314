"""The operations of the protocol: a table of name, lane and function. See "The agent and its protocol" in
docs/architecture.md.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from typing import Any, Callable, Dict, Optional

from racksack_agent.boot import up_s
from racksack_agent.command_line import PACKAGE
from racksack_agent.problems import RefusedError
from racksack_agent.serve import fetching, inspect, kept, launching, probe, removing, sweeping
from racksack_agent.serve.agent import Agent
from racksack_agent.serve.request_checks import field, names
from racksack_agent.serve.slurm import cluster

Request = Dict[str, Any]
Op = Callable[[Agent, Request], Any]


def hello(agent: Agent, request: Request) -> Dict[str, Any]:
    """Who and where this is, and all attempts that are here."""
    del request
    return {
        "agent": os.path.basename(os.path.dirname(PACKAGE)),
        "boot_id": agent.boot_id,
        "hostname": platform.node(),
        "python": platform.python_version(),
        "home": agent.home.root,
        "session": session_kind(agent),
        "uv": agent.uv(),
        "rsync": shutil.which("rsync"),
        "clock_s": time.time(),
        "up_s": up_s(),
        "limit": agent.limit.kind,
        "reports": agent.attempts.reports(),
        "contents": agent.snapshots.digests(),
    }


def session_kind(agent: Agent) -> Optional[str]:
    """What attempts run in: tmux, screen, slurm; None where there is none of them."""
    if agent.slurm is not None:
        return "slurm"
    return agent.sessions.kind if agent.sessions else None


def slurm(agent: Agent, request: Request) -> Dict[str, Any]:
    """What is to be known of the cluster. Raises RefusedError where there is none."""
    del request
    if agent.slurm is None:
        raise RefusedError("no_slurm", "this agent does not serve a Slurm cluster")
    return {**cluster.facts(agent.slurm.commands), "canary": agent.slurm.canary()}


def reports(agent: Agent, request: Request) -> Any:  # noqa: ANN401
    """The report of every attempt folder."""
    del request
    return agent.attempts.reports()


def has(agent: Agent, request: Request) -> list[str]:
    """Which of the given contents are here."""
    return [digest for digest in names(request, "digests") if agent.snapshots.has(digest)]


def put(agent: Agent, request: Request) -> Dict[str, Any]:
    """Take small content that came with the request."""
    agent.snapshots.put(field(request, "digest", str), field(request, "tar_b64", str))
    return {}


def adopt(agent: Agent, request: Request) -> Dict[str, Any]:
    """Take content that rsync brought."""
    agent.snapshots.adopt(field(request, "digest", str), field(request, "incoming", str))
    return {}


_OPS: Dict[str, tuple[str, Op]] = {
    "hello": ("quick", hello),
    "probe": ("slow", probe.probe),
    "slurm": ("slow", slurm),
    "has": ("slow", has),
    "put": ("slow", put),
    "adopt": ("slow", adopt),
    "launch": ("launch", launching.launch),
    "go": ("launch", launching.go),
    "stop": ("launch", removing.stop),  # in order with the launch that it may follow at once
    "signal": ("launch", removing.signal),
    "reports": ("quick", reports),
    "fetch": ("slow", fetching.fetch),
    "checkpoint": ("slow", fetching.checkpoint),
    "remove": ("slow", removing.remove),
    "bring": ("slow", kept.bring),
    "brought": ("slow", kept.brought),
    "tail": ("quick", inspect.tail),
    "stats": ("slow", inspect.stats),
    "attach": ("quick", inspect.attach),
    "feed": ("sweep", sweeping.feed),
    "control": ("sweep", sweeping.control),
    "results": ("sweep", sweeping.results),
}


def lane_of(op: object) -> str:
    """The lane of an operation; requests in one lane with one worker are answered in order."""
    return _OPS[op][0] if isinstance(op, str) and op in _OPS else "quick"


def perform(agent: Agent, request: Request) -> Any:  # noqa: ANN401 - any JSON
    """The result of a request. Raises RefusedError with a sentence, OSError."""
    op = request["op"]
    if not isinstance(op, str) or op not in _OPS:
        raise RefusedError("bad_request", f"this agent has no operation {op!r}; it has {', '.join(sorted(_OPS))}")
    return _OPS[op][1](agent, request)
