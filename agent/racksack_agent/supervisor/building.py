"""Builds a venv with packages: with uv where there is one, else with `python -m venv` and pip. Its log is
out/env.log.

Asking the package index again whether its answers are still fresh takes longer than all the rest. So requirements
that are pinned, or that were installed here within the hour, are first installed from the cache alone; only if that
fails the index is asked. See `venv_reuse` for venvs that need not even be built.
"""

from __future__ import annotations

import binascii
import os
import shutil
import signal
import time
from typing import Any, Dict, Sequence

from racksack_agent import durable, processes, records
from racksack_agent.boot import boot_id
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import NodeAtFaultError, PrepareError
from racksack_agent.supervisor import (
    build_faults,
    installed,
    installing,
    python_versions,
    reflink,
    signals,
    venv_reuse,
    venvs,
)
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.venvs import Base, Made

Order = Dict[str, Any]

_BUILD_LIMIT_S = 3600.0  # a build that hangs must not hold its place for ever
_BUILD_PREFIXES = ("UV_", "PIP_", "SSL_CERT_", "NETRC")
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
            raise NodeAtFaultError(f"{fault}: {installing.failure(self.log)}; see env.log")

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


def build(folder: AttemptFolder, order: Order, stop: StopRequest) -> Made:
    """Make the venv of the order's plan. Raises PrepareError with the last line of the log that says something."""
    builder = Builder(folder, order, stop)
    plan = builder.plan
    base = find_base(builder, plan["python"], plan["requires_python"])
    if plan["kind"] == "none":
        return Made(base.python, None)
    key = venv_reuse.key_of(builder, base.version)
    if key and venv_reuse.take(folder, key):
        builder.note(f"a venv with Python {base.version} that an earlier job left unchanged")
    else:
        if not _build(builder, base):
            builder.check_node()
            source = plan["file"] or plan["chosen"]
            sentence = installing.failure(builder.log)
            raise PrepareError(f"the environment could not be made from {source}: {sentence}; see env.log")
        venv_reuse.mark(folder, key)
    _add_paths(folder, plan["paths"], base)
    return Made(folder.venv + "/bin/python", folder.venv)


def _build(builder: Builder, base: Base) -> bool:
    if builder.plan["kind"] == "plain":
        _make_empty(builder, base)
        return True
    return installing.with_pip(builder, base) if builder.uv is None else _build_with_uv(builder, base)


def _make_empty(builder: Builder, base: Base) -> None:
    venvs.make_venv(builder.folder.venv, base)
    builder.note(f"a venv with Python {base.version} ({base.python})")


def _build_with_uv(builder: Builder, base: Base) -> bool:
    """Install with uv. For the first time since the machine's start what came out of uv's cache is checked, and brought
    anew where a power cut damaged it. Raises NodeAtFaultError when that does not help, OSError.
    """
    checked = Checked(builder)
    done = _install_with_uv(builder, base)
    if not done or checked.in_this_boot():
        return done
    bad = installed.damaged(builder.folder.venv)
    if bad:
        builder.note(f"{', '.join(bad)} in uv's cache is damaged, as a power cut leaves it; it is brought again")
        assert builder.uv is not None  # noqa: S101 - the caller has looked
        builder.run([builder.uv, "cache", "clean", *bad])
        shutil.rmtree(builder.folder.venv)
        done = _install_with_uv(builder, base)
        if done and installed.damaged(builder.folder.venv):
            raise NodeAtFaultError(f"{', '.join(bad)} was damaged on this node, and again when it was brought anew")
    if done:
        checked.remember()
    return done


def _install_with_uv(builder: Builder, base: Base) -> bool:
    if builder.plan["kind"] == "lock":
        return installing.with_lock(builder, base)
    _make_empty(builder, base)
    return installing.with_uv(builder, base)


class Checked:
    """Whether the packages that a plan leads to were checked since the machine's start."""

    def __init__(self, builder: Builder) -> None:
        name = f"{binascii.crc32(installing.content(builder)):08x}.boot"
        self._path = f"{builder.folder.home.cache}/resolved/{name}"

    def in_this_boot(self) -> bool:
        """What was checked since then is in memory or on the disk."""
        try:
            with open(self._path, encoding="ascii") as file:
                return file.read() == boot_id()
        except (OSError, ValueError):
            return False

    def remember(self) -> None:
        """Note that they were checked just now."""
        records.replace(self._path, boot_id().encode())


def _add_paths(folder: AttemptFolder, paths: Sequence[str], base: Base) -> None:
    """Let the venv's Python find the project's own modules where they are."""
    if paths:
        minor = "python" + ".".join(base.version.split(".")[:2])
        with open(f"{folder.venv}/lib/{minor}/site-packages/{venv_reuse.PATHS}", "w", encoding="utf-8") as file:
            file.write("".join(os.path.normpath(f"{folder.work}/{path}") + "\n" for path in paths))


def build_variables(order: Order, folder: AttemptFolder) -> dict[str, str]:
    """What uv and pip see: the user's settings for them, the node's variables, what the job itself sets for them, and
    a cache of this home if it has one.
    """
    kept = {**order["base_env"], **order["node_env"]}
    kept.update({name: value for name, value in order["env"].items() if _is_for_builds(name)})
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


def _is_for_builds(name: str) -> bool:
    return name.startswith(_BUILD_PREFIXES) or name.lower() in _PROXIES


def link_mode(env: dict[str, str], folder: AttemptFolder) -> str:
    """How packages come from uv's cache: never by hard links, through which a job would change what others import.
    `clone` alone would fall back to those where blocks cannot be shared.
    """
    default = env.get("XDG_CACHE_HOME") or env.get("HOME", "") + "/.cache"
    cache = env.get("UV_CACHE_DIR") or default + "/uv"
    return "clone" if os.path.isdir(cache) and reflink.works(cache, folder.tmp) else "copy"


def find_base(builder: Builder, wanted: str | None, requires: str) -> Base:
    """A Python of the wanted version, or of those that the project works with, from this machine or, with uv, from
    where uv gets it. Raises PrepareError.
    """
    own = venvs.own_base()
    if _is_wanted(own.version, wanted) and (wanted or python_versions.fits(own.version, requires)):
        return own
    asked = wanted or requires
    found = _find_python(builder, asked)
    answer = builder.folder.tmp + "/python-version"
    asks = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    version = _first_line(answer) if found and builder.run([found, "-I", "-S", "-c", asks], output=answer) else ""
    if not found or not _is_wanted(version, wanted) or not (wanted or python_versions.fits(version, requires)):
        said = installing.failure(builder.log) if builder.uv else "it has no uv to get one with"
        raise NodeAtFaultError(f"this node has no Python {asked}, and it could not be got: {said}")
    return Base(os.path.realpath(found), version)


def _is_wanted(version: str, wanted: str | None) -> bool:
    return not wanted or f"{version}.".startswith(wanted.rstrip(".") + ".")


def _find_python(builder: Builder, wanted: str) -> str | None:
    if builder.uv:
        answer = builder.folder.tmp + "/python-path"
        find = [builder.uv, "python", "find", "--no-project", "--system", wanted]
        if builder.run(find, output=answer) or (
            builder.run([builder.uv, "python", "install", wanted]) and builder.run(find, output=answer)
        ):
            return _first_line(answer)
    for folder in builder.env.get("PATH", os.defpath).split(":"):
        path = f"{folder}/python{wanted}"
        if os.access(path, os.X_OK):
            return path
    return None


def _first_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.readline().strip()
