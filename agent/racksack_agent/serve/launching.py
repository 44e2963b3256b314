"""Launches attempts: checks the orders, makes the folders, starts the sessions, many at once.

The folder decides: an attempt that has one was launched before, and launching it again changes nothing. A folder is
made beside and renamed, so one without an order is never seen.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Any, Collection, Dict, List

from racksack_agent import processes, records
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import RefusedError
from racksack_agent.serve import request_checks, unfinished
from racksack_agent.serve.agent import Agent, launch_lock
from racksack_agent.serve.request_checks import field

Order = Dict[str, Any]

_RESERVE_BYTES = 16 * 1024  # for exit.json on a full disk
_KINDS = ("requirements", "project", "lock", "plain", "none")
_INSTALLS = ("no", "try", "must")
_NEW_FILES = ("small", "all", "none")
_PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "PATH", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "NETRC")
_PASSED_ON_PREFIXES = ("UV_", "PIP_", "SSL_CERT_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


def launch(agent: Agent, request: Dict[str, Any]) -> List[Dict[str, Any]]:
    """A reply for each order, in turn. Raises OSError when the home cannot be locked."""
    orders = field(request, "orders", list)
    replies: List[Dict[str, Any]] = []
    admitted: Dict[str, Dict[str, Any]] = {}
    with launch_lock(agent.home):  # two of us must not give out the same cores
        agent.cores.refresh()
        for order in orders:
            reply: Dict[str, Any] = {
                "attempt": order.get("attempt") if isinstance(order, dict) else None,
                "error": None,
            }
            replies.append(reply)
            try:
                if admit(agent, order):
                    admitted[reply["attempt"]] = reply
                reply.update(ok=True, kind="")
            except RefusedError as problem:
                reply.update(ok=False, kind=problem.kind, error=str(problem))
            except OSError as problem:
                reply.update(ok=False, **disk_problem(problem))
        start(agent, admitted)
    for name in admitted:
        records.tell(agent.home.run, name)  # it prepares; its supervisor speaks when it runs
    return replies


def disk_problem(problem: OSError) -> Dict[str, str]:
    """The kind and the sentence for a folder that could not be made."""
    if records.is_full(problem):
        return {"kind": "disk_full", "error": "the node's disk is full"}
    return {"kind": "os", "error": f"the attempt's folder could not be made: {problem}"}


def admit(agent: Agent, order: object) -> bool:
    """Make the folder of an attempt; False if there was one. Raises RefusedError, OSError."""
    checked = check(order)
    name = checked["attempt"]
    folder = agent.home.attempt(name)
    if os.path.isdir(folder.path):
        refuse_another(folder, checked)
        return False
    records.remove_file(folder.path)  # no folder of ours, but in the way of one
    if agent.sessions is None and agent.slurm is None:
        raise RefusedError("no_session", "this node has neither tmux nor screen")
    if not agent.snapshots.is_ready(checked["digest"]):
        raise RefusedError("no_snapshot", f"the content {checked['digest'][:12]} is not on this node")
    for data in checked["data"]:
        if data["digest"] and not agent.snapshots.is_ready(data["digest"]):
            raise RefusedError("no_snapshot", f"data set {data['name']} ({data['digest'][:12]}) is not on this node")
    earlier = checked["checkpoint"]["digest"] if checked["checkpoint"] else ""
    if earlier and not agent.snapshots.is_ready(earlier):
        raise RefusedError("no_snapshot", f"the checkpoint {earlier[:12]} is not on this node")
    if agent.slurm is not None:
        agent.slurm.submitter.complete(checked)
    checked.update(
        cpu_ids=[] if agent.slurm else agent.cores.choose(name, checked["cpus"]),
        limit=agent.limit.of(name),
        boot_id=agent.boot_id,
        uv=agent.uv(),
        base_env=base_env(),
        disk_free_bytes=free_bytes(agent.home.root),
        launched_at_s=time.time(),
        launched_monotonic_s=time.monotonic(),
        launcher=processes.name_of(os.getpid()),
    )
    beside = unfinished.half_of(folder)
    try:
        fill(beside, checked)
        os.rename(beside.path, folder.path)
    except OSError:
        shutil.rmtree(beside.path, ignore_errors=True)
        if os.path.isdir(folder.path):
            refuse_another(folder, checked)
            return False  # another was quicker
        raise
    return True


def free_bytes(path: str) -> int:
    """What this user may still write to the disk of a path. Raises OSError."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def refuse_another(folder: AttemptFolder, order: Order) -> None:
    """The folder must be of the very attempt that is ordered. Raises RefusedError for one that another store left."""
    launched = records.read(folder.launch)
    if launched is not None and launched.get("epoch", "") != order["epoch"]:
        raise RefusedError("other_epoch", f"an attempt {folder.name} of another store is still on this node")


def fill(folder: Any, order: Order) -> None:  # noqa: ANN401
    """Make what is in an attempt's folder at the start. Raises OSError."""
    for path in (folder.path, folder.out, folder.tmp):
        os.mkdir(path, 0o755)
    reserve = os.open(folder.reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(reserve, 0, _RESERVE_BYTES)
    finally:
        os.close(reserve)
    os.mkfifo(folder.pane, 0o600)
    os.close(os.open(folder.lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    records.replace(folder.launch, records.encode(order))


def start(agent: Agent, admitted: Dict[str, Dict[str, Any]]) -> None:
    """Start a session and a supervisor for each; an attempt for which that fails is taken back."""
    for name, sentence in start_each(agent, admitted).items():
        shutil.rmtree(agent.home.attempt(name).path, ignore_errors=True)
        admitted[name].update(ok=False, kind="session", error=sentence)


def start_each(agent: Agent, names: Collection[str]) -> Dict[str, str]:
    """Start a session and a supervisor for each; a sentence for each that could not be started."""
    if agent.slurm is not None:
        agent.slurm.submitter.start(names)
        return {}
    if not names or agent.sessions is None:
        return {}
    panes, problems = agent.sessions.start([agent.home.attempt(name) for name in names])
    try:
        agent.forkserver.start(panes, agent.limit)
    except OSError as problem:
        problems.update(dict.fromkeys(panes, f"the fork server could not be started: {problem}"))
    for name in problems:
        agent.sessions.end(name)
    return problems


def go(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """Let attempts start that wait for it; what became of one that ended is told by its report. Raises OSError."""
    for name in request_checks.names(request, "attempts"):
        folder = agent.home.attempt(request_checks.attempt_name(name))
        if agent.attempts.is_alive(folder.name):
            os.close(os.open(folder.go, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            agent.attempts.poke(folder.name)
    return {}


def base_env() -> Dict[str, str]:
    """What a job's clean environment and the building of its venv take from ours."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.lower() in _PROXIES or name.startswith(_PASSED_ON_PREFIXES)
    }


def check(order: object) -> Order:
    """An order whose fields are all there and of the right type. Raises RefusedError."""
    if not isinstance(order, dict):
        raise RefusedError("bad_request", "an order must be an object")
    number = (int, float)
    checked = {
        "attempt": request_checks.attempt_name(order.get("attempt")),
        "epoch": field(order, "epoch", str, ""),
        "job_id": field(order, "job_id", (int, str)),
        "name": field(order, "name", str),
        "node": field(order, "node", str),
        "digest": request_checks.digest(order.get("digest")),
        "entrypoint": field(order, "entrypoint", str),
        "args": request_checks.names(order, "args") if "args" in order else [],
        "env": variables(order, "env"),
        "secrets": variables(order, "secrets"),
        "node_env": variables(order, "node_env"),
        "cpus": field(order, "cpus", number, 1),
        "ram_bytes": int(field(order, "ram_bytes", number, 0) or 0),
        "gpus": [gpu(one) for one in field(order, "gpus", list, [])],
        "time_limit_s": field(order, "time_limit_s", number, None),
        "environment": environment(field(order, "environment", dict, {})),
        "outputs": request_checks.names(order, "outputs") if "outputs" in order else [],
        "max_output_bytes": int(field(order, "max_output_bytes", number, 10 << 30)),
        "data": [data_set(one) for one in field(order, "data", list, [])],
        "shared": request_checks.names(order, "shared") if "shared" in order else [],
        "stage_in_ram": request_checks.names(order, "stage_in_ram") if "stage_in_ram" in order else [],
        "submitted_at_s": float(field(order, "submitted_at_s", number, 0)),
        "grace_s": float(field(order, "grace_s", number, 10)),
        "new_files": new_files(order),
        "keep_left_s": float(field(order, "keep_left_s", number, 86400.0)),
        "keep_left_bytes": int(field(order, "keep_left_bytes", number, 20 << 30)),
        "interactive": field(order, "interactive", bool, False),
        "slurm_env": field(order, "slurm_env", bool, False),
        "warn_s": field(order, "warn_s", number, None),
        "warn_signal": request_checks.signal_name(order, "warn_signal", "USR1"),
        "go_within_s": field(order, "go_within_s", number, None),
        "array_index": field(order, "array_index", int, None),
        "sweep": field(order, "sweep", dict, None),
        "checkpoint": checkpoint(order),
        "slurm": slurm(field(order, "slurm", dict, None) or {}),
    }
    texts = [checked["name"], checked["node"], checked["entrypoint"], *checked["args"], *checked["stage_in_ram"]]
    if any("\0" in text for text in texts) or not checked["entrypoint"]:
        raise RefusedError("bad_request", "a name, an argument or the entrypoint is empty or holds a NUL character")
    return checked


def slurm(given: Dict[str, Any]) -> Dict[str, Any]:
    """How the attempt is to be submitted, where that is done. Raises RefusedError."""
    words = {name: field(given, name, str, "") for name in ("account", "partition", "qos", "constraint", "gpu")}
    options = request_checks.names(given, "options") if "options" in given else []
    if any("\0" in text for text in (*words.values(), *options)):
        raise RefusedError("bad_request", "a setting of slurm holds a NUL character")
    return {
        **words,
        "options": options,
        "walltime_s": float(field(given, "walltime_s", (int, float), 3600.0)),
        "exclusive": field(given, "exclusive", bool, False),
    }


def variables(order: Order, name: str) -> Dict[str, str]:
    """Environment variables. Raises RefusedError for a name or value that no environment can hold."""
    given = field(order, name, dict, {})
    for key, value in given.items():
        if not isinstance(value, str) or not key or "=" in key or "\0" in key + value:
            raise RefusedError("bad_request", f"{name}: {key!r} cannot be an environment variable")
    return dict(given)


def data_set(one: object) -> Dict[str, str]:
    """A data set of the attempt: content by its digest, or a path on this node. Raises RefusedError."""
    if not isinstance(one, dict):
        raise RefusedError("bad_request", "a data set must be an object with name, digest, source and path")
    found = {name: field(one, name, str, "") for name in ("name", "digest", "source", "path")}
    leads_out = any(".." in found[name].split("/") or found[name].startswith("/") for name in ("name", "path"))
    if not found["name"] or "/" in found["name"] or leads_out or any("\0" in text for text in found.values()):
        raise RefusedError("bad_request", f"{found['name']!r} at {found['path']!r} is not a valid path for a data set")
    if found["digest"]:
        request_checks.digest(found["digest"])
    return found


def checkpoint(order: Order) -> Dict[str, Any] | None:
    """What the program saves, and what it goes on from (`digest`); None for a job that saves nothing. Raises
    RefusedError.
    """
    given = field(order, "checkpoint", dict, None)
    if given is None:
        return None
    digest = field(given, "digest", str, "")
    return {
        "paths": request_checks.names(given, "paths"),
        "every_s": max(0.1, float(field(given, "every_s", (int, float), 600.0))),
        "digest": request_checks.digest(digest) if digest else "",
        "resubmit_on": [code for code in field(given, "resubmit_on", list, []) if isinstance(code, int)],
        "saves": field(given, "saves", bool, True),
    }


def new_files(order: Order) -> str:
    """Which new files of the working folder come back. Raises RefusedError."""
    value = str(field(order, "new_files", str, "small"))
    if value not in _NEW_FILES:
        raise RefusedError("bad_request", f"new_files: {value!r} is not one of {', '.join(_NEW_FILES)}")
    return value


def gpu(one: object) -> Dict[str, Any]:
    """A granted device. Raises RefusedError."""
    if not isinstance(one, dict):
        raise RefusedError("bad_request", "a GPU must be an object with uuid, index and vendor")
    return {"uuid": field(one, "uuid", str), "index": field(one, "index", int), "vendor": field(one, "vendor", str)}


def environment(given: Dict[str, Any]) -> Dict[str, Any]:
    """The plan of the venv, as the controller made it from the project's files. Raises RefusedError."""
    kind, installs = field(given, "kind", str, "plain"), field(given, "installs", str, "no")
    if kind not in _KINDS or installs not in _INSTALLS:
        raise RefusedError("bad_request", f"environment: {kind!r}, {installs!r} is not a way to build one")
    lists = ("lines", "constraints", "extras", "groups", "paths", "notes", "extra_index_urls")
    return {
        "kind": kind,
        "installs": installs,
        "file": field(given, "file", str, ""),
        "python": field(given, "python", str, None),
        "requires_python": field(given, "requires_python", str, ""),
        "chosen": field(given, "chosen", str, ""),
        "problem": field(given, "problem", str, ""),
        "index_url": field(given, "index_url", str, ""),
        **{name: request_checks.names(given, name) if name in given else [] for name in lists},
    }
