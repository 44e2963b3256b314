"""Puts packages into a venv, by uv or by pip, and reads from the log why that failed."""

from __future__ import annotations

import binascii
import os
import time
from typing import List

from racksack_agent import records
from racksack_agent.problems import NodeAtFaultError, PrepareError
from racksack_agent.supervisor import build_log, venvs
from racksack_agent.supervisor.builder import Builder
from racksack_agent.supervisor.venv_scripts import set_script_python
from racksack_agent.supervisor.venvs import Base

_FRESH_S = 3600.0
_STALE_LOCK = "needs to be updated"


def with_uv(builder: Builder, base: Base) -> bool:
    """Requirements or a project, with `uv pip`."""
    stable = venvs.stable_base(builder.folder.home.bases, base)
    assert builder.uv is not None  # noqa: S101 - the caller has looked
    target = ["--prefix", builder.folder.venv, "--python", stable + "/bin/python"]
    install = [builder.uv, "pip", "install", *target]
    wanted = sources(builder)
    known = Known(builder, base.version)
    done = bool(known.cached) and builder.run([*install, *wanted, "--offline"])
    if not done and known.cached:
        builder.note("the cache alone was not enough; asking the index")
    done = done or _install(builder, install, wanted)
    if done:
        known.remember()
        set_script_python(builder.folder.venv + "/bin", stable + "/bin/python", builder.folder.venv + "/bin/python")
    return done


def _install(builder: Builder, install: List[str], wanted: List[str]) -> bool:
    """Install all of it; where the project itself cannot be built and that is no must, its packages alone."""
    if builder.run([*install, *wanted]):
        return True
    if builder.plan["installs"] != "try":
        return False
    builder.note(
        "note: the project itself could not be installed as a package; its packages are, and its modules are found"
    )
    return builder.run([*install, *_without_project(wanted)])


def _without_project(words: List[str]) -> List[str]:
    at = words.index("-e")
    return words[:at] + words[at + 2 :]


def sources(builder: Builder) -> List[str]:
    """What is to be installed, as options of `uv pip install` and `pip install`."""
    plan, tmp = builder.plan, builder.folder.tmp
    words: List[str] = []
    if plan["lines"]:
        path = tmp + "/requirements.txt"
        _write_lines(path, plan["lines"])
        words += ["-r", path]
    elif plan["kind"] == "requirements" or builder.uv is not None:
        words += ["-r", plan["file"]]
    folder = os.path.dirname(plan["file"]) or "."
    extras = f"[{','.join(plan['extras'])}]" if plan["extras"] else ""
    if plan["installs"] != "no":
        words += ["-e", f"{folder}{extras}"]
    elif plan["kind"] == "project" and builder.uv is None:
        words += [f"{folder}{extras}"]
    if builder.uv is not None:
        words += [word for extra in plan["extras"] for word in ("--extra", extra)]
    words += [word for group in plan["groups"] for word in ("--group", _group(folder, group))]
    if plan["constraints"]:
        path = tmp + "/constraints.txt"
        _write_lines(path, plan["constraints"])
        words += ["-c", path]
    return words


def _group(folder: str, group: str) -> str:
    return group if folder == "." else f"{folder}/pyproject.toml:{group}"


def _write_lines(path: str, lines: List[str]) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(line + "\n" for line in lines))


def with_lock(builder: Builder, base: Base) -> bool:
    """A uv.lock, with `uv sync`. Raises PrepareError for one that does not go with its pyproject.toml any more."""
    assert builder.uv is not None  # noqa: S101 - the caller has looked
    plan, venv = builder.plan, builder.folder.venv
    project = os.path.dirname(os.path.join(builder.folder.work, plan["file"]))
    argv = [builder.uv, "sync", "--locked", "--project", project, "--python", base.python]
    argv += [word for extra in plan["extras"] for word in ("--extra", extra)]
    argv += [word for group in plan["groups"] for word in ("--group", group)]
    extra = {"UV_PROJECT_ENVIRONMENT": venv}
    if builder.run([*argv, "--offline"], extra) or builder.run(argv, extra):
        return True
    if _STALE_LOCK in build_log.tail(builder.log):
        sentence = f"{plan['file']} is not up to date with the pyproject.toml beside it"
        raise PrepareError(f"{sentence}; run `uv lock` there and submit again")
    return False


def by_names(builder: Builder, base: Base) -> bool:
    """A uv.lock, where the controller is the index: it has addresses of files, which this node may not reach. So its
    packages are installed by name, version and sum, which is what the lock promises.
    """
    assert builder.uv is not None  # noqa: S101 - the caller has looked
    plan, listed = builder.plan, builder.folder.tmp + "/locked.txt"
    project = os.path.dirname(os.path.join(builder.folder.work, plan["file"]))
    export = [builder.uv, "export", "--frozen", "--project", project, "--python", base.python, "--no-header"]
    export += [word for extra in plan["extras"] for word in ("--extra", extra)]
    export += [word for group in plan["groups"] for word in ("--group", group)]
    if not builder.run([*export, "--output-file", listed]):
        return False
    stable = venvs.stable_base(builder.folder.home.bases, base)
    target = ["--prefix", builder.folder.venv, "--python", stable + "/bin/python"]
    if not builder.run([builder.uv, "pip", "install", *target, "-r", listed]):
        return False
    set_script_python(builder.folder.venv + "/bin", stable + "/bin/python", builder.folder.venv + "/bin/python")
    return True


def with_pip(builder: Builder, base: Base) -> bool:
    """Where there is no uv. Raises PrepareError for a uv.lock, which pip cannot read."""
    plan = builder.plan
    if plan["kind"] == "lock" or plan["file"].endswith("pylock.toml"):
        sentence = f"{plan['file']} needs uv, and this node has none; add a requirements.txt or put uv on the node"
        raise NodeAtFaultError(sentence)
    python = builder.folder.venv + "/bin/python"
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if not builder.run([base.python, "-m", "venv", builder.folder.venv]):
        builder.check_node()
        raise NodeAtFaultError(
            f"{base.python} cannot make an environment on this node: {build_log.failure(builder.log)}"
        )
    wanted = sources(builder)
    if builder.run([*install, *wanted]):
        return True
    if plan["installs"] != "try":
        return False
    rest = _without_project(wanted)
    builder.note("note: the project itself could not be installed as a package; its modules are found where they are")
    return not rest or builder.run([*install, *rest])


class Known:
    """Whether requirements can be expected to be in uv's cache: all pinned, or installed here within the hour."""

    def __init__(self, builder: Builder, python: str) -> None:
        text = content(builder)
        self._text = python.encode() + b"\n" + text
        self._path = f"{builder.folder.home.cache}/resolved/{binascii.crc32(self._text):08x}"
        self.cached = all_pinned(text.splitlines()) or self._fresh()

    def _fresh(self) -> bool:
        try:
            with open(self._path, "rb") as file:
                age_s = time.time() - os.fstat(file.fileno()).st_mtime
                return file.read() == self._text and 0 <= age_s < _FRESH_S
        except OSError:
            return False

    def remember(self) -> None:
        """Note that they were installed just now."""
        records.replace(self._path, self._text)


def content(builder: Builder) -> bytes:
    """What the plan's file or lines say, and the rest of the plan that bears on it."""
    plan = builder.plan
    said = "".join(line + "\n" for line in plan["lines"]).encode("utf-8", "surrogateescape")
    if plan["file"]:
        with open(os.path.join(builder.folder.work, plan["file"]), "rb") as file:
            said += file.read()
    rest = [*plan["constraints"], *plan["extras"], *plan["groups"]]
    return said + "".join(f"# {one}\n" for one in rest).encode("utf-8", "surrogateescape")


def all_pinned(lines: List[bytes]) -> bool:
    """Whether each requirement names one exact version (hash lines and comments aside)."""
    wanted = [line.split(b"#")[0].strip() for line in lines]
    named = [line for line in wanted if line and not line.startswith(b"--hash")]
    return bool(named) and all(b"==" in line and not line.startswith(b"-") for line in named)
