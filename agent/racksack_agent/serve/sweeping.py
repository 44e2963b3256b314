"""Sweeps, as far as `serve` is concerned: chunks in, results out.

See `sweep_runner.runner` for the files.
"""

from __future__ import annotations

import base64
import os
import zlib
from typing import Any, Dict

from racksack_agent import records
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import RefusedError
from racksack_agent.serve import request_checks
from racksack_agent.serve.agent import Agent
from racksack_agent.serve.request_checks import field

_LIMIT_BYTES_MAX = 8 << 20
_COMPRESS_ABOVE_BYTES = 4096


def feed(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """Put chunks into a runner's inbox; one that it has, or had, changes nothing. Raises RefusedError, OSError."""
    folder = _runner(agent, request)
    for chunk in field(request, "chunks", list):
        number = field(chunk, "chunk", int)
        records.replace(f"{folder.sweep_inbox}/{number}.json", records.encode(chunk))
    _poke(folder)
    return {}


def control(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """Say what is wanted of a runner: `finish` once its chunks are done; `back`: chunks whose unstarted points it is to
    give up; `verdicts`: [point, rungs judged, whether it stops] of points that report. All of it each time.

    Raises RefusedError, OSError.
    """
    folder = _runner(agent, request)
    wanted = {
        "finish": field(request, "finish", bool, False),
        "back": field(request, "back", list, []),
        "verdicts": field(request, "verdicts", list, []),
    }
    records.replace(folder.sweep_control, records.encode(wanted))
    _poke(folder)
    return {}


def results(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """Bytes of a runner's results from `offset` on: `{data_b64, offset, size, zlib}`. Raises RefusedError, OSError."""
    folder = agent.home.attempt(request_checks.attempt_name(request.get("attempt")))
    if not os.path.isdir(folder.path):
        raise RefusedError("no_attempt", f"{folder.name} is not on this node")
    offset, limit = field(request, "offset", int), field(request, "limit", int)
    try:
        file = os.open(folder.sweep_results, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {"data_b64": "", "offset": offset, "size": 0, "zlib": False}
    try:
        size = os.fstat(file).st_size
        data = os.pread(file, max(0, min(limit, _LIMIT_BYTES_MAX)), offset)
    finally:
        os.close(file)
    packed = field(request, "zlib", bool, False) and len(data) > _COMPRESS_ABOVE_BYTES
    if packed:
        data = zlib.compress(data, 1)
    return {"data_b64": base64.b64encode(data).decode(), "offset": offset, "size": size, "zlib": packed}


def results_bytes(agent: Agent, attempt: str) -> int:
    """How much a runner has written so far; 0 for an attempt that is none."""
    try:
        return os.stat(agent.home.attempt(attempt).sweep_results).st_size
    except OSError:
        return 0


def _runner(agent: Agent, request: Dict[str, Any]) -> AttemptFolder:
    folder = agent.home.attempt(request_checks.attempt_name(request.get("attempt")))
    if not os.path.isdir(folder.sweep_inbox):
        raise RefusedError("no_runner", f"{folder.name} does not run a sweep on this node, or not yet")
    return folder


def _poke(folder: AttemptFolder) -> None:
    """Wake the runner; one that has not begun looks by itself."""
    try:
        pipe = os.open(folder.sweep_poke, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(pipe, b".")
    except OSError:  # full: it has been told often enough
        return
    finally:
        os.close(pipe)
