"""What the `submit` command does: from its options to an accepted job, and what it prints on the way.

Receipt, warnings and progress go to stderr; stdout has one line, which `--parsable` reduces to the id.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from racksack import receipt, submission
from racksack.client import Client
from racksack.draft import Value, spec_of_file, spec_of_options
from racksack.errors import UsageError
from racksack.progress import reading_bar, transfer_bar
from racksack.project import Selection
from racksack.submission import Prepared, Submitted
from racksack.text import clean, print_json, say
from racksack.views import Plan
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.units import format_cpus, format_memory, parse_duration

_JOB_FILE_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for."""

    project: Path  # a folder, or a job file
    entrypoint: str | None
    values: dict[str, Value | None]  # keys of a job file
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    dry_run: bool
    parsable: bool
    as_json: bool
    quiet: bool
    wait: bool
    follow: bool
    pass_exit_code: bool
    fetch: Path | None


def wishes(options: Mapping[str, Any], arguments: Sequence[str]) -> Wishes:
    """Read the options. Raises UsageError."""
    return Wishes(
        project=Path(options["project"]).expanduser(),
        entrypoint=options["entrypoint"],
        values=_values(options, arguments),
        include=options["include"],
        exclude=options["exclude"],
        dry_run=options["dry_run"],
        parsable=options["parsable"],
        as_json=options["as_json"],
        quiet=options["quiet"] or options["parsable"] or options["as_json"],
        wait=options["wait"] or bool(options["fetch"]),
        follow=options["follow"],
        pass_exit_code=options["exit_code"],
        fetch=Path(options["fetch"]) if options["fetch"] else None,
    )


def run(client: Client, wish: Wishes) -> int:
    """Submit, and whatever was asked for after it. Returns the exit code."""
    spec, project = _spec(client, wish)
    with reading_bar("reading", quiet=wish.quiet) as on_read:
        prepared = submission.prepare(
            spec,
            project,
            include=wish.include,
            exclude=wish.exclude,
            on_selected=lambda found: _tell(found, wish),
            progress=submission.Progress(on_read=on_read),
        )
    if wish.dry_run:
        return _dry_run(client, prepared, wish)
    plan = submission.planned(client, prepared)
    _advise(plan, wish)
    with transfer_bar("sending", prepared.selection.size_bytes, quiet=wish.quiet) as bar:
        done = submission.submit(client, prepared, plan, submission.Progress(on_sent=bar))
    _report(done, prepared, wish)
    if not (wish.wait or wish.follow):
        return ExitCode.OK
    from racksack.waiting import see_through

    return see_through(
        client,
        done.job_ids,
        follow=wish.follow,
        quiet=wish.quiet,
        pass_exit_code=wish.pass_exit_code,
        fetch_into=wish.fetch,
    )


def _spec(client: Client, wish: Wishes) -> tuple[JobSpec, Path]:
    values = {**wish.values, "after": _after(client, wish.values.get("after"))}
    if wish.entrypoint is None:
        if wish.project.suffix not in _JOB_FILE_SUFFIXES:
            raise UsageError(
                f"name the file in {clean(wish.project)} that is to run: submit DIR ENTRY, or submit job.yaml"
            )
        return spec_of_file(wish.project, values)
    entrypoint = inside(wish.project, wish.entrypoint)
    return spec_of_options({**values, "project": "local", "entrypoint": entrypoint}), wish.project


def inside(project: Path, entrypoint: str) -> str:
    """The entrypoint relative to the project; completed from the shell it is often relative to where one stands."""
    here, root = Path(entrypoint).absolute(), project.absolute()
    normal = Path(os.path.normpath(here))
    if not os.path.lexists(root / entrypoint) and here.exists() and normal.is_relative_to(os.path.normpath(root)):
        return str(normal.relative_to(os.path.normpath(root)))
    return entrypoint


def _after(client: Client, after: Value | None) -> Value | None:
    """`last` stands for an id that only the controller knows."""
    if not isinstance(after, str) or "last" not in after:
        return after
    return re.sub(r"(?<![\w-])last(?![\w-])", lambda _: str(client.resolve(["last"])[0]), after)


def _values(options: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Value | None]:
    """The keys of a job file that the options stand for; None where an option was not given."""
    plain = ("name", "priority", "cpus", "ram", "disk", "time_limit", "retries", "max_output", "python", "requirements")
    values: dict[str, Value | None] = {
        key: options[key] for key in (*plain, "array", "gang", "oom_factor", "partition", "submission")
    }
    for key in ("after", "labels", "nodes", "retry_on"):
        values[key] = ",".join(options[key]) or None
    values |= {
        "args": list(arguments) or None,
        "gpus": gpu_value(options["gpus"], options["vram"], options["gpu_share"]),
        "env": environment(options["env"], options["env_file"]) or None,
        "environment": "none" if options["no_venv"] else None,
        "outputs": list(options["outputs"]) or None,
        "exclude": ",".join(options["exclude_node"]) or None,
        "stage_in_ram": list(options["ramdisk"]) or None,
        "hold": True if options["hold"] else None,
        "no_wake": True if options["no_wake"] else None,
        "preemptible": True if options["preemptible"] else None,
        "deadline": moment(options["deadline"]) if options["deadline"] else None,
        "begin": moment(options["begin"]) if options["begin"] else None,
    }
    return values


def gpu_value(gpus: str | None, vram: str | None, share: str | None) -> Value | None:
    """What stands under `gpus` in a job file."""
    if vram is None and share is None:
        return gpus
    value: dict[str, Value] = {}
    if gpus is not None:
        model, colon, count = gpus.rpartition(":")
        if not colon and not re.fullmatch(r"[0-9.-]+", gpus):
            model, count = gpus, ""
        value |= {key: word for key, word in (("model", model), ("count", count)) if word}
    return value | {key: word for key, word in (("vram", vram), ("share", share)) if word is not None}


def environment(pairs: Sequence[str], file: str | None) -> dict[str, str]:
    """Variables of --env-file and --env, the latter winning. Raises UsageError."""
    lines = [(line, str(file)) for line in _env_lines(file)] + [(pair, "--env") for pair in pairs]
    found: dict[str, str] = {}
    for line, source in lines:
        name, equals, value = line.partition("=")
        if not equals and name not in os.environ:
            raise UsageError(f"{source}: {name} has no value and is not set here; write {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def _env_lines(file: str | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = Path(file).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {file} cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def moment(text: str) -> str:
    """A time as a job file wants it: ISO 8601 with a zone. Local time, time of day and `+2h` are understood."""
    now = datetime.now().astimezone()
    try:
        if text.startswith("+"):
            return (now + timedelta(seconds=parse_duration(text[1:]))).isoformat(timespec="seconds")
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", text):
            hour, minute = map(int, text.split(":"))
            then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return (then if then > now else then + timedelta(days=1)).isoformat(timespec="seconds")
        return datetime.fromisoformat(text).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        raise UsageError(f"--begin: {text!r} is not a time; write 20:00, 2026-08-01T20:00 or +2h") from None


def _tell(selection: Selection, wish: Wishes) -> None:
    """The receipt, before the work starts; warnings even when it is not wanted."""
    for line in receipt.lines(selection) if not wish.quiet else []:
        say(line)
    if wish.quiet and not wish.as_json:
        for warning in receipt.warnings(selection):
            say(f"warning: {warning}")


def _dry_run(client: Client, prepared: Prepared, wish: Wishes) -> int:
    plan = submission.planned(client, prepared)
    has_it = client.has_snapshot(prepared.digest)
    if wish.as_json:
        facts = {"snapshot": prepared.digest, "cached": has_it, "fits": plan.fits, "waits": plan.waits}
        facts["advice"] = plan.advice
        print_json(receipt.facts(prepared.selection) | facts)
        return ExitCode.OK
    print(f"Would submit ({_asks(prepared.spec)}; {_content(prepared, 0 if has_it else None)}")
    print(
        f"fits on {', '.join(map(clean, plan.fits)) or 'no node now'}"
        + (f"; {clean(plan.waits)}" if plan.waits else "")
    )
    _advise(plan, wish)
    return ExitCode.OK


def _advise(plan: Plan, wish: Wishes) -> None:
    """Say what earlier runs did not need."""
    for sentence in plan.advice if not wish.quiet else []:
        say(f"note: {clean(sentence)}")


def _report(done: Submitted, prepared: Prepared, wish: Wishes) -> None:
    if wish.as_json:
        print_json(_facts(done, prepared))
    elif wish.parsable:
        print("\n".join(map(str, done.job_ids)))
    else:
        ids = _ids(done.job_ids)
        waits = f"; {clean(done.plan.waits)}" if done.plan.waits else ""
        print(f"Submitted {ids} ({_asks(done.spec)}; {_content(prepared, done.moved.files)}{waits}")
    sys.stdout.flush()


def _facts(done: Submitted, prepared: Prepared) -> dict[str, Any]:
    return receipt.facts(prepared.selection) | {
        "jobs": list(done.job_ids),
        "name": done.spec.name,
        "snapshot": prepared.digest,
        "sent_files": done.moved.files,
        "sent_bytes": done.moved.file_bytes,
        "wire_bytes": done.moved.wire_bytes,
        "fits": done.plan.fits,
        "waits": done.plan.waits,
        "advice": done.plan.advice,
        "submitted_at_s": time.time(),
    }


def _ids(job_ids: Sequence[int]) -> str:
    if len(job_ids) == 1:
        return f"job {job_ids[0]}"
    unbroken = list(job_ids) == list(range(job_ids[0], job_ids[0] + len(job_ids)))
    listed = f"{job_ids[0]}-{job_ids[-1]}" if unbroken else ", ".join(map(str, job_ids))
    return f"{len(job_ids)} jobs {listed}"


def _asks(spec: JobSpec) -> str:
    """`mlp-train): 16 CPU, 32G RAM, 2 GPU`, closing the bracket that the caller opened."""
    resources = spec.resources
    parts = [f"{format_cpus(resources.cpus)} CPU", f"{format_memory(resources.ram_bytes)} RAM"]
    if resources.gpus is not None:
        model = f" {resources.gpus.model}" if resources.gpus.model else ""
        parts.append(f"{format_cpus(resources.gpus.count)} GPU{model}")
    return f"{clean(spec.name)}): {clean(', '.join(parts))}"


def _content(prepared: Prepared, sent_files: int | None) -> str:
    selection = prepared.selection
    sent = "all to send" if sent_files is None else f"{sent_files or 'none'} sent"
    return f"{receipt.count_of(selection.files)} {format_memory(selection.size_bytes)} ({sent})"
