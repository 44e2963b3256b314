"""What the venv of a job is made of, and why: chosen from the files of its project.

A pure function of the project's files and the job's `environment`, so that the receipt of `submit` and the controller
say the same. A file that lists packages is never passed over in silence: what is not installed is in `notes`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from racksack_jobspecs.environments import conda, pipfile, poetry, pyproject, script
from racksack_jobspecs.environments.files import FileError, is_file, read_text
from racksack_jobspecs.spec import Environment

_USUAL = {"lock": "uv.lock", "requirements": "requirements.txt", "pyproject": "pyproject.toml"}
_CONDA = ("environment.yml", "environment.yaml", "conda.yml", "conda.yaml")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a venv is made. `kind`:

    requirements: from `file` (as pip reads it) or from `lines`; project: what `file` (pyproject.toml, setup.py or
    setup.cfg) says, with the project itself if `installs` is not no; lock: from the uv.lock `file`; plain: an empty
    venv; none: no venv.
    """

    kind: str
    file: str = ""
    lines: tuple[str, ...] = ()  # requirements that stand in no file that pip could read
    constraints: tuple[str, ...] = ()  # versions that a lock file of another tool says
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    installs: str = "no"  # no | try: go on without the project itself if it cannot be built | must
    paths: tuple[str, ...] = ()  # folders whose modules are to be found, relative to the project
    python: str | None = None  # a version, as the job asks for it
    requires_python: str = ""  # versions that the project says it works with, such as >=3.10
    index_url: str = ""  # of the job's `environment`, with `${NAME}` for secrets
    extra_index_urls: tuple[str, ...] = ()
    chosen: str = ""  # what was chosen and why, for people
    problem: str = ""  # why there can be none
    notes: tuple[str, ...] = ()  # what is not installed although a file lists it


class PlanError(ValueError):
    """There can be no such environment; the message says what to do."""


def plan_of(project: Path, entrypoint: str, wanted: Environment) -> Plan:
    """The plan for a project's folder. Raises PlanError."""
    try:
        plan = _plan_of(project, entrypoint, wanted)
    except FileError as error:
        raise PlanError(str(error)) from None
    if (wanted.extras or wanted.groups) and plan.kind not in ("project", "lock"):
        raise PlanError(f"extras and groups are those of a pyproject.toml, but {plan.chosen or 'there is none'}")
    return msgspec.structs.replace(
        plan,
        python=wanted.python,
        extras=wanted.extras,
        groups=wanted.groups,
        index_url=wanted.index_url,
        extra_index_urls=wanted.extra_index_urls,
    )


def _plan_of(project: Path, entrypoint: str, wanted: Environment) -> Plan:
    kind, file = wanted.kind, wanted.file
    if kind == "none":
        return Plan(kind="none", chosen="no venv was asked for")
    if kind == "auto" and not file:
        return _automatic(project, entrypoint)
    file = file or _USUAL[kind]
    if not is_file(project, file):
        raise PlanError(f"the project has no {file} to make the environment from")
    if kind == "lock":
        return msgspec.structs.replace(_lock(project, file), chosen=f"{file}, as asked for")
    if kind == "pyproject":
        return msgspec.structs.replace(_project(project, file, "must"), chosen=f"{file}, as asked for")
    return Plan(kind="requirements", file=file, chosen=f"{file}, as asked for")


def _automatic(project: Path, entrypoint: str) -> Plan:
    """The first of what there is, in the order in which tools that know several of them look."""
    passed_over: list[str] = []
    for look in _ORDER:
        plan = look(project, entrypoint)
        if plan is None:
            continue
        if plan.kind != "plain":
            return msgspec.structs.replace(plan, notes=(*plan.notes, *passed_over))
        passed_over += plan.notes
    notes = (*passed_over, *_not_named(project))
    if not entrypoint.endswith((".py", ".pyw")):
        return Plan(kind="none", chosen="the entrypoint is not a Python script", notes=notes)
    return Plan(kind="plain", chosen="no file of the project lists packages", notes=notes)


def _script(project: Path, entrypoint: str) -> Plan | None:
    found = script.metadata(project, entrypoint) if entrypoint.endswith((".py", ".pyw")) else None
    if found is None:
        return None
    why = f"the dependencies in {entrypoint} (inline script metadata)"
    return Plan(kind="requirements", lines=found.lines, requires_python=found.requires_python, chosen=why)


def _uv_lock(project: Path, _entrypoint: str) -> Plan | None:
    if not is_file(project, "uv.lock") or not is_file(project, "pyproject.toml"):
        return None
    return msgspec.structs.replace(_lock(project, "uv.lock"), chosen="uv.lock")


def _lock(project: Path, file: str) -> Plan:
    beside = str(Path(file).with_name("pyproject.toml"))
    if not is_file(project, beside):
        raise PlanError(f"{file} needs the pyproject.toml that it was made from beside it; send that, too")
    return Plan(kind="lock", file=file, requires_python=pyproject.read(project, beside).requires_python)


def _pylock(project: Path, _entrypoint: str) -> Plan | None:
    return (
        Plan(kind="requirements", file="pylock.toml", chosen="pylock.toml") if is_file(project, "pylock.toml") else None
    )


def _requirements(project: Path, _entrypoint: str) -> Plan | None:
    if not is_file(project, "requirements.txt"):
        return None
    facts = pyproject.read(project, "pyproject.toml") if is_file(project, "pyproject.toml") else None
    paths: tuple[str, ...] = ()
    chosen = "requirements.txt"
    if (facts and facts.is_package) or is_file(project, "setup.py"):
        paths = ("src",) if (project / "src").is_dir() else (".",)
        chosen += "; the project's own modules are found where they are, it is not installed as a package"
    requires = facts.requires_python if facts else ""
    return Plan(kind="requirements", file="requirements.txt", paths=paths, requires_python=requires, chosen=chosen)


def _pyproject(project: Path, _entrypoint: str) -> Plan | None:
    if not is_file(project, "pyproject.toml"):
        return None
    facts = pyproject.read(project, "pyproject.toml")
    if facts.is_project or facts.is_package:
        return msgspec.structs.replace(_project(project, "pyproject.toml", "try"), chosen="pyproject.toml")
    return None  # it configures tools and lists nothing


def _project(project: Path, file: str, installs: str) -> Plan:
    facts = pyproject.read(project, file)
    beside = str(Path(file).parent)
    constraints, notes = poetry.constraints(project, beside) if facts.is_poetry else ((), ())
    is_package = facts.is_package or is_file(project, str(Path(beside) / "setup.py"))
    paths = (str(Path(beside) / "src"),) if (project / beside / "src").is_dir() else (beside,)
    return Plan(
        kind="project",
        file=file,
        constraints=constraints,
        installs=installs if is_package else "no",
        paths=paths if is_package and installs == "try" else (),
        requires_python=facts.requires_python,
        notes=notes,
    )


def _setup_py(project: Path, _entrypoint: str) -> Plan | None:
    found = next((file for file in ("setup.py", "setup.cfg") if is_file(project, file)), None)
    if found is None or (found == "setup.cfg" and "[metadata]" not in read_text(project, found)):
        return None
    paths = ("src",) if (project / "src").is_dir() else (".",)
    return Plan(kind="project", file=found, installs="try", paths=paths, chosen=found)


def _pipfile(project: Path, _entrypoint: str) -> Plan | None:
    for file, read in (("Pipfile.lock", pipfile.locked), ("Pipfile", pipfile.listed)):
        if is_file(project, file):
            found = read(project, file)
            return Plan(kind="requirements", lines=found.lines, requires_python=found.requires_python, chosen=file)
    return None


def _conda(project: Path, _entrypoint: str) -> Plan | None:
    file = next((name for name in _CONDA if is_file(project, name)), None)
    if file is None:
        return None
    found = conda.read(project, file)
    notes: tuple[str, ...] = ()
    if found.names:
        listed = ", ".join(found.names[:5]) + (" ..." if len(found.names) > 5 else "")
        notes = (f"{file} lists conda packages ({listed}), which are not installed; put them into requirements.txt",)
    if not found.lines:
        return Plan(kind="plain", notes=notes)
    return Plan(
        kind="requirements",
        lines=found.lines,
        requires_python=found.requires_python,
        chosen=f"the pip part of {file}",
        notes=notes,
    )


_ORDER: tuple[Callable[[Path, str], Plan | None], ...] = (
    _script,
    _uv_lock,
    _pylock,
    _requirements,
    _pyproject,
    _setup_py,
    _pipfile,
    _conda,
)


def _not_named(project: Path) -> tuple[str, ...]:
    """Files that look as if they listed packages, but have a name that could mean anything."""
    try:
        found = sorted(
            str(path.relative_to(project))
            for pattern in ("requirements*.txt", "requirements*.in", "requirements/*.txt")
            for path in project.glob(pattern)
            if path.is_file()
        )
    except OSError:
        return ()
    if not found:
        return ()
    listed = ", ".join(found[:3]) + (" ..." if len(found) > 3 else "")
    return (f"{listed} is there and was not installed; choose it with --requirements {found[0]}",)
