"""The receipt of a submission: what was sent, the largest files, and what was left out by which rule."""

from __future__ import annotations

import os
import shlex
from typing import Any

from racksack.submission import sharing
from racksack.submission.project import BYTES_WARNED, FILES_WARNED, Selection
from racksack.text import clean
from racksack_jobspecs.environments.plan import Plan as EnvironmentPlan
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.units import format_memory

_SECRETS_SHOWN_MAX = 5
_LARGEST_SHOWN_FROM_BYTES = 1024**2  # a list of tiny files helps nobody


def facts(selection: Selection) -> dict[str, Any]:
    """The receipt as data, for --json."""
    return {
        "project": str(selection.root),
        "files": selection.files,
        "size_bytes": selection.size_bytes,
        "largest": [{"path": _path(entry.path), "size_bytes": entry.size_bytes} for entry in selection.largest()],
        "copied_bytes": selection.copied_bytes,
        "left_out": [
            {"pattern": rule.pattern, "source": rule.source, "entries": count}
            for rule, count in selection.left_out.items()
        ],
        "warnings": warnings(selection),
    }


def lines(selection: Selection) -> list[str]:
    """The receipt for a person."""
    told = [f"Project {clean(selection.root)}: {count_of(selection.files)}, {format_memory(selection.size_bytes)}"]
    if selection.size_bytes >= _LARGEST_SHOWN_FROM_BYTES:
        told.append("  largest:")
        told += [
            f"    {format_memory(entry.size_bytes):>6}  {clean(_path(entry.path))}" for entry in selection.largest()
        ]
    if selection.shared:
        size = format_memory(sum(entry.size_bytes for entry in selection.shared))
        told.append(f"  shared, read-only: {count_of(len(selection.shared))}, {size}")
    if selection.left_out:
        parts = [f"{clean(rule)} x{count}" for rule, count in selection.left_out.items()]
        told.append("  left out: " + ", ".join(parts))
    return told + [f"  warning: {warning}" for warning in warnings(selection)]


def returns(spec: JobSpec) -> str:
    """What comes back of a job, in a line."""
    new = {
        "small": "new files up to 10M each (100M together)",
        "all": "all new files",
        "none": "no other new files",
    }[spec.new_files]
    asked = f", {clean(', '.join(spec.outputs))}" if spec.outputs else ""
    return f"  comes back: what it writes to $RACKSACK_RETURN_DIR{asked}; {new}"


def environment(plan: EnvironmentPlan) -> list[str]:
    """What the venv is made of, and what is not installed, in lines."""
    chosen = [f"  environment: {clean(plan.chosen)}"] if plan.chosen else []
    return chosen + [f"  warning: {clean(note)}" for note in plan.notes]


def count_of(files: int) -> str:
    """`1 file`, `2 files`."""
    return "1 file" if files == 1 else f"{files} files"


def warnings(selection: Selection) -> list[str]:
    """What makes a project slow to send, if anything does."""
    said = []
    if selection.secrets:
        names = ", ".join(_path(path) for path in selection.secrets[:_SECRETS_SHOWN_MAX])
        more = (
            f" and {len(selection.secrets) - _SECRETS_SHOWN_MAX} more"
            if len(selection.secrets) > _SECRETS_SHOWN_MAX
            else ""
        )
        first = _path(selection.secrets[0])
        said.append(clean(f"left out as likely secrets: {names}{more}; send one with --include '/{first}'"))
    if selection.files > FILES_WARNED:
        said.append(f"{selection.files} files; leave out what the job does not need in .racksackignore")
    if selection.copied_bytes > BYTES_WARNED:
        size, largest = format_memory(selection.copied_bytes), shlex.quote(clean(sharing.advice(selection)))
        said.append(
            f"each job copies {size} on its node; --shared {largest} links that read-only instead, and --data sends "
            "data once that does not change"
        )
    return said


def _path(path: bytes) -> str:
    return os.fsdecode(path)
