"""Runs the programs that make an environment, with env.log as their output, and with the settings that are for them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Dict, Sequence
from urllib.parse import quote

from racksack_agent import durable, processes
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import NodeAtFaultError, PrepareError
from racksack_agent.supervisor import build_faults, build_log, reflink, signals
from racksack_agent.supervisor.end import StopRequest

Order = Dict[str, Any]

_BUILD_LIMIT_S = 3600.0  # a build that hangs must not hold its place for ever
_BUILD_PREFIXES = ("UV_", "PIP_", "SSL_CERT_", "NETRC")
_FILE_BYTES_MAX = 1 << 20
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


class Builder:
    """One build: what it needs to run a program with the log as its output."""

    def __init__(self, folder: AttemptFolder, order: Order, stop: StopRequest) -> None:
        self.folder = folder
        self.plan = order["environment"]
        self.digest: str = order["digest"]
        self.stop = stop
        self.uv: str | None = order["uv"]
        self.env = build_variables(order, folder)
        self.log = folder.out + "/env.log"
        self._began = 0  # where in the log the last program begins

    def run(self, argv: Sequence[str], extra: dict[str, str] | None = None, output: str | None = None) -> bool:
        """Run a program in work/ to its end; its exit status is success. Raises PrepareError on a stop or a hang,
        NodeAtFaultError when it cannot be started or is killed: these programs are the node's.
        """
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600) if output else log
        try:
            self._began = os.fstat(log).st_size
            durable.write_all(log, ("$ " + " ".join(argv) + "\n").encode(errors="surrogateescape"))
            pid = processes.spawn(argv, {**self.env, **(extra or {})}, (nothing, out, log))
        except processes.StartFailedError as problem:
            raise NodeAtFaultError(str(problem)) from problem
        finally:
            for file in {nothing, log, out}:
                os.close(file)
        status = self._wait_for(pid)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            why = "; the node may be short of memory" if number == signal.SIGKILL else ""
            raise NodeAtFaultError(f"{argv[0]} was killed by {signals.name_of(number)} on this node{why}")
        return status == 0

    def check_node(self) -> None:
        """Raises NodeAtFaultError if the last program failed because of the node or its network."""
        fault = build_faults.node_fault(build_faults.said_since(self.log, self._began))
        if fault:
            raise NodeAtFaultError(f"{fault}: {build_log.failure(self.log)}; see env.log")

    def _wait_for(self, pid: int) -> int:
        give_up_s = time.monotonic() + _BUILD_LIMIT_S
        while time.monotonic() < give_up_s:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status
            self.stop.check(5.0)
        raise PrepareError(f"making the environment took longer than {_BUILD_LIMIT_S:g} s")

    def note(self, text: str) -> None:
        """Add a line to the log."""
        with open(self.log, "a", encoding="utf-8", errors="surrogateescape") as log:
            log.write(text + "\n")


def build_variables(order: Order, folder: AttemptFolder) -> dict[str, str]:
    """What uv and pip see: the user's settings for them, the node's variables, what the job itself sets for them, and
    a cache of this home if it has one.
    """
    kept = {**order["base_env"], **order["node_env"]}
    kept.update({name: value for name, value in order["env"].items() if _is_for_builds(name)})
    kept.update(_secrets_of_builds(order, folder))
    kept.update(index_variables(order))
    kept.update(NO_COLOR="1", UV_NO_PROGRESS="1", TMPDIR=folder.tmp)
    own_cache = folder.home.cache + "/uv"
    if os.path.isdir(own_cache):
        kept["UV_CACHE_DIR"] = own_cache
    if "UV_LINK_MODE" not in order["node_env"]:
        kept["UV_LINK_MODE"] = link_mode(kept, folder)
    if kept.get("PIP_INDEX_URL") and not any(kept.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        kept["UV_DEFAULT_INDEX"] = kept["PIP_INDEX_URL"]
    if kept.get("PIP_EXTRA_INDEX_URL") and not any(kept.get(name) for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL")):
        kept["UV_INDEX"] = kept["PIP_EXTRA_INDEX_URL"]
    if order["environment"]["kind"] == "requirements":
        kept.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # all indexes count, as for pip
    return kept


def index_variables(order: Order) -> dict[str, str]:
    """The job's own package indexes, for uv and for pip, as pip means `--index-url` and `--extra-index-url`.

    In the environment, which other users of the node cannot see; arguments they could.
    """
    plan, found = order["environment"], {}
    if plan.get("index_url"):
        found["UV_DEFAULT_INDEX"] = found["PIP_INDEX_URL"] = _with_secrets(plan["index_url"], order)
    if plan.get("extra_index_urls"):
        urls = " ".join(_with_secrets(url, order) for url in plan["extra_index_urls"])
        found["UV_INDEX"] = found["PIP_EXTRA_INDEX_URL"] = urls
    return found


def _with_secrets(url: str, order: Order) -> str:
    """An address with its secrets in place, written as addresses have to be."""
    for name, value in order.get("secrets", {}).items():
        url = url.replace("${" + name + "}", quote(value, safe=""))
    return url


def _secrets_of_builds(order: Order, folder: AttemptFolder) -> dict[str, str]:
    """Those that are settings of uv and pip, or that the file with the requirements names as `${NAME}`: building a
    package runs its code, which is to have no more than it needs.
    """
    plan = order["environment"]
    said = "\n".join(plan["lines"]).encode("utf-8", "surrogateescape")
    if plan["kind"] == "requirements" and plan["file"]:
        with contextlib.suppress(OSError), open(os.path.join(folder.work, plan["file"]), "rb") as file:
            said += file.read(_FILE_BYTES_MAX)
    return {
        name: value
        for name, value in order.get("secrets", {}).items()
        if _is_for_builds(name) or b"${" + name.encode() + b"}" in said
    }


def _is_for_builds(name: str) -> bool:
    return name.startswith(_BUILD_PREFIXES) or name.lower() in _PROXIES


def link_mode(env: dict[str, str], folder: AttemptFolder) -> str:
    """How packages come from uv's cache: never by hard links, through which a job would change what others import.
    `clone` alone would fall back to those where blocks cannot be shared.
    """
    default = env.get("XDG_CACHE_HOME") or env.get("HOME", "") + "/.cache"
    cache = env.get("UV_CACHE_DIR") or default + "/uv"
    return "clone" if os.path.isdir(cache) and reflink.works(cache, folder.tmp) else "copy"
