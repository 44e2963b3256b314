"""Sends small return folders inline as tar archives; one request of the controller takes many of them."""

from __future__ import annotations

import base64
import io
import os
import tarfile
from typing import Any, Dict, Optional

from racksack_agent.problems import RefusedError
from racksack_agent.serve import request_checks
from racksack_agent.serve.agent import Agent
from racksack_agent.serve.request_checks import field
from racksack_agent.supervisor.checkpoints import kept


def fetch(agent: Agent, request: Dict[str, Any]) -> Dict[str, Optional[str]]:
    """`{attempt: archive}`; null for a folder above `limit_bytes`; an attempt without a folder is left out."""
    limit_bytes = field(request, "limit_bytes", int)
    found: Dict[str, Optional[str]] = {}
    for name in request_checks.names(request, "attempts"):
        out = agent.home.attempt(request_checks.attempt_name(name)).out
        if os.path.isdir(out):
            found[name] = _packed(out, limit_bytes)
    return found


def checkpoint(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """The newest checkpoint of an attempt, which stays until the next is asked for: `{path, number, digest, files,
    bytes}`. Raises RefusedError when there is none, OSError.
    """
    folder = agent.home.attempt(request_checks.attempt_name(request.get("attempt")))
    record = kept.pin(folder)
    if record is None:
        raise RefusedError("gone", f"no checkpoint of {folder.name} is on this node")
    found = {name: record[name] for name in ("number", "digest", "files", "bytes", "taken_at_s")}
    return {"path": kept.path_of(folder, record["number"]), **found}


def _packed(out: str, limit_bytes: int) -> Optional[str]:
    """One archive; null also for a folder that cannot be read, which then is fetched alone and holds up no other."""
    try:
        archive = pack(out, limit_bytes)
    except OSError:
        return None
    return None if archive is None else base64.b64encode(archive).decode()


def pack(folder: str, limit_bytes: int) -> Optional[bytes]:
    """Files, links and folders as a tar archive; None when it would be larger. Raises OSError."""
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        pending = [""]
        while pending:
            here = pending.pop()
            with os.scandir(folder + "/" + here) as entries:
                for entry in entries:
                    name = here + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(name + "/")
                    tar.inodes.clear()  # type: ignore[attr-defined]  # two names of one file are two files
                    member = tar.gettarinfo(entry.path, name)
                    member.uid = member.gid = 0
                    member.uname = member.gname = ""
                    member.mtime = int(member.mtime)  # a fraction would take a header of its own
                    if stream.tell() + member.size > limit_bytes:
                        return None
                    if member.isreg():
                        with open(entry.path, "rb") as file:
                            tar.addfile(member, file)
                    elif member.isdir() or member.issym():
                        tar.addfile(member)
    return stream.getvalue()
