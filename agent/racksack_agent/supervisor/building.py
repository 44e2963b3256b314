"""Builds a venv with packages: with uv where there is one, else with `python -m venv` and pip. Its log is
out/env.log.

Asking the package index again whether its answers are still fresh takes longer than all the rest. So requirements
that are pinned, or that were installed here within the hour, are first installed from the cache alone; only if that
fails the index is asked.
"""

from __future__ import annotations

import binascii
import os
import time
from typing import Any, Dict, Sequence

from racksack_agent import processes, records
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import NodeAtFaultError, PrepareError
from racksack_agent.supervisor import venvs
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.venvs import Base, Made

Order = Dict[str, Any]

_FRESH_S = 3600.0
_BUILD_LIMIT_S = 3600.0  # a build that hangs must not hold its place for ever
_SHEBANG_BYTES_MAX = 127


class Builder:
    """One build: what it needs to run a program with the log as its output."""

    def __init__(self, folder: AttemptFolder, order: Order, stop: StopRequest) -> None:
        self.folder = folder
        self.order = order
        self.stop = stop
        self.uv: str | None = order["uv"]
        self.env = build_variables(order, folder)
        self.log = folder.out + "/env.log"

    def run(self, argv: Sequence[str], extra: dict[str, str] | None = None, output: str | None = None) -> bool:
        """Run a program in work/ to its end; its exit status is success. Raises PrepareError on a stop or a hang."""
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600) if output else log
        try:
            os.write(log, ("$ " + " ".join(argv) + "\n").encode(errors="surrogateescape"))
            pid = processes.spawn(argv, {**self.env, **(extra or {})}, (nothing, out, log))
        except processes.StartFailedError as problem:
            raise PrepareError(str(problem)) from problem
        finally:
            for file in {nothing, log, out}:
                os.close(file)
        return self._wait_for(pid) == 0

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


def build(folder: AttemptFolder, order: Order, kind: str, file: str, stop: StopRequest) -> Made:
    """Make the venv of the given kind. Raises PrepareError with the last lines of the log."""
    builder = Builder(folder, order, stop)
    base = find_base(builder, order["environment"]["python"])
    if kind == "none":
        return Made(base.python, None)
    if builder.uv is None and kind != "plain":
        done = _with_pip(builder, base, kind, file)
    elif kind == "lock":
        done = _with_lock(builder, base, file)
    else:
        venvs.make_venv(folder.venv, base)
        builder.note(f"a venv with Python {base.version} ({base.python})")
        done = kind == "plain" or _with_uv(builder, base, file)
    if not done:
        raise PrepareError(f"the environment could not be made from {file}: {last_line(builder.log)}; see env.log")
    return Made(folder.venv + "/bin/python", folder.venv)


def build_variables(order: Order, folder: AttemptFolder) -> dict[str, str]:
    """What uv and pip see: the user's settings for them, the node's variables, and a cache of this home if it has
    one.
    """
    given = order["base_env"]
    kept = {**given, **order["node_env"]}
    kept.update(NO_COLOR="1", UV_NO_PROGRESS="1", TMPDIR=folder.tmp)
    kept.setdefault("UV_LINK_MODE", "hardlink")
    own_cache = folder.home.cache + "/uv"
    if os.path.isdir(own_cache):
        kept["UV_CACHE_DIR"] = own_cache
    return kept


def find_base(builder: Builder, wanted: str | None) -> Base:
    """A Python of the wanted version, from this machine or, with uv, from where uv gets it. Raises PrepareError."""
    own = venvs.own_base()
    if not wanted or f"{own.version}.".startswith(wanted.rstrip(".") + "."):
        return own
    found = _find_python(builder, wanted)
    answer = builder.folder.tmp + "/python-version"
    asks = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    version = _first_line(answer) if found and builder.run([found, "-I", "-S", "-c", asks], output=answer) else ""
    if not found or not f"{version}.".startswith(wanted.rstrip(".") + "."):
        raise NodeAtFaultError(f"this node has no Python {wanted}, and it could not be got: {last_line(builder.log)}")
    return Base(os.path.realpath(found), version)


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


def _with_uv(builder: Builder, base: Base, file: str) -> bool:
    stable = venvs.stable_base(builder.folder.home.bases, base)
    assert builder.uv is not None  # noqa: S101 - the caller has looked
    argv = [
        builder.uv,
        "pip",
        "install",
        "--prefix",
        builder.folder.venv,
        "--python",
        stable + "/bin/python",
        "-r",
        file,
    ]
    if os.path.basename(file) == "pyproject.toml" and _is_package(os.path.join(builder.folder.work, file)):
        argv += ["-e", os.path.dirname(file) or "."]
    known = Known(builder.folder.home.cache + "/resolved", os.path.join(builder.folder.work, file), base.version)
    done = known.cached and builder.run([*argv, "--offline"])
    if not done:
        if known.cached:
            builder.note("the cache alone was not enough; asking the index")
        done = builder.run(argv)
        if done:
            known.remember()
    if done:
        set_script_python(builder.folder.venv + "/bin", stable + "/bin/python", builder.folder.venv + "/bin/python")
    return done


def _is_package(path: str) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return any(line.strip() == "[build-system]" for line in file)


def _with_lock(builder: Builder, base: Base, file: str) -> bool:
    assert builder.uv is not None  # noqa: S101 - the caller has looked
    project = os.path.dirname(os.path.join(builder.folder.work, file))
    argv = [builder.uv, "sync", "--frozen", "--project", project, "--python", base.python]
    extra = {"UV_PROJECT_ENVIRONMENT": builder.folder.venv}
    return builder.run([*argv, "--offline"], extra) or builder.run(argv, extra)


def _with_pip(builder: Builder, base: Base, kind: str, file: str) -> bool:
    """Raises PrepareError for a uv.lock, which pip cannot read."""
    if kind == "lock":
        sentence = f"{file} needs uv, and this node has none; add a requirements.txt or put uv on the node"
        raise NodeAtFaultError(sentence)
    python = builder.folder.venv + "/bin/python"
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    what = ["-r", file] if kind == "requirements" else [os.path.join(".", os.path.dirname(file))]
    return builder.run([base.python, "-m", "venv", builder.folder.venv]) and builder.run([*install, *what])


class Known:
    """Whether requirements can be expected to be in uv's cache: all pinned, or installed here within the hour."""

    def __init__(self, folder: str, file: str, python: str) -> None:
        with open(file, "rb") as requirements:
            self._text = python.encode() + b"\n" + requirements.read()
        self._path = f"{folder}/{binascii.crc32(self._text):08x}"
        self.cached = all_pinned(self._text.splitlines()[1:]) or self._fresh()

    def _fresh(self) -> bool:
        try:
            with open(self._path, "rb") as file:
                return file.read() == self._text and time.time() - os.fstat(file.fileno()).st_mtime < _FRESH_S
        except OSError:
            return False

    def remember(self) -> None:
        """Note that they were installed just now."""
        records.replace(self._path, self._text)


def all_pinned(lines: list[bytes]) -> bool:
    """Whether each requirement names one exact version (hash lines and comments aside)."""
    wanted = [line.split(b"#")[0].strip() for line in lines]
    named = [line for line in wanted if line and not line.startswith(b"--hash")]
    return bool(named) and all(b"==" in line and not line.startswith(b"-") for line in named)


def set_script_python(scripts: str, old: str, new: str) -> None:
    """Let the scripts of packages start the venv's own Python. Files are replaced, not changed: uv may have linked
    them.
    """
    for name in os.listdir(scripts):
        path = scripts + "/" + name
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            head = file.readline(4096) + file.readline(4096)
            if not head.startswith(b"#!") or os.fsencode(old) not in head:
                continue
            mode = os.fstat(file.fileno()).st_mode
            data = _with_python(head + file.read(), os.fsencode(old), os.fsencode(new))
        records.replace(path, data)
        os.chmod(path, mode & 0o777)


def _with_python(script: bytes, old: bytes, new: bytes) -> bytes:
    first, _, rest = script.partition(b"\n")
    if not first.startswith(b"#!" + old):
        return script.replace(old, new, 1)
    first = first.replace(old, new, 1)
    if len(first) <= _SHEBANG_BYTES_MAX and b" " not in new:
        return first + b"\n" + rest
    return b"#!/bin/sh\n'''exec' \"" + new + b'" "$0" "$@"\n\' \'\'\'\n' + rest  # too long for the kernel


def last_line(path: str) -> str:
    """The last line of a log that says something."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file.read()[-4000:].splitlines()]
    except OSError:
        return "there is no log"
    return next((line for line in reversed(lines) if line), "the log is empty")[:300]
