"""What the `submit` command does: from its options to an accepted job, and what it prints on the way.

Receipt, warnings and progress go to stderr; stdout has one line, which `--parsable` reduces to the id.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from racksack.client import Client
from racksack.errors import UsageError
from racksack.submission import forms, receipt, send, submission
from racksack.submission.draft import Value, spec_of_command
from racksack.submission.option_values import every_value, job_values, moment
from racksack.submission.project import Selection
from racksack.submission.send import Wish
from racksack.submission.submission import Prepared, Submitted
from racksack.text import clean, print_json, say, short_local
from racksack.views import Plan
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.units import format_cpus, format_duration, format_memory

_TRANSFERS_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class JobWish(Wish):
    """What the command line of `submit` asks for."""

    parsable: bool
    wait: bool
    follow: bool
    pass_exit_code: bool
    fetch: Path | None
    wrap: str | None


def wish_of(options: Mapping[str, Any], arguments: Sequence[str]) -> JobWish:
    """Read the options. Raises UsageError."""
    if options["wrap"] is not None and options["entrypoint"] is not None:
        raise UsageError("--wrap has the command line, so there is no ENTRY beside it")
    return JobWish(
        wrap=options["wrap"],
        project=options["project"],
        entrypoint=options["entrypoint"],
        values=_values(options, arguments),
        include=options["include"],
        exclude=options["exclude"],
        data=options["data"],
        dry_run=options["dry_run"],
        parsable=options["parsable"],
        as_json=options["as_json"],
        quiet=options["quiet"] or options["parsable"] or options["as_json"],
        wait=options["wait"] or bool(options["fetch"]),
        follow=options["follow"],
        pass_exit_code=options["exit_code"],
        fetch=Path(options["fetch"]) if options["fetch"] else None,
    )


def run(client: Client, wish: JobWish) -> int:
    """Submit, and whatever was asked for after it. Returns the exit code."""
    arguments = wish.values.get("args")
    is_command = wish.entrypoint is None and wish.project.is_dir() and (wish.wrap is not None or arguments)
    if not is_command:
        return _run(client, wish)
    if wish.wrap is not None and arguments:
        raise UsageError("--wrap has the whole command line; leave out what follows --")
    words = [str(word) for word in arguments] if isinstance(arguments, list) else []
    with forms.command_script(wish.project, wish.wrap, words) as script:
        name = wish.values.get("name") or _command_name(wish.wrap, words)
        values = {**wish.values, "args": None, "name": name}
        include = (*wish.include, f"/{script}")
        return _run(client, replace(wish, entrypoint=script, values=values, include=include))


def _command_name(wrap: str | None, words: Sequence[str]) -> str:
    """What a command line is called: its first word that is no assignment."""
    first = next((word for word in (wrap.split() if wrap is not None else words) if "=" not in word), "command")
    return re.sub(r"[^\w.+-]", "_", first.rpartition("/")[2])[:60] or "command"


def _run(client: Client, wish: JobWish) -> int:
    spec, project = _spec(client, wish)
    prepared = send.read(spec, project, wish, lambda found: _tell(found, wish, spec))
    _tell_environment(prepared, wish)
    if wish.dry_run:
        return _dry_run(client, prepared, wish)
    plan = submission.planned(client, prepared)
    _advise(plan, wish)
    if spec.every is not None and (wish.wait or wish.follow):
        raise UsageError("a recurring job is not waited for; leave out --wait, --follow and --fetch")
    done = send.send(client, prepared, plan, wish)
    if spec.every is not None:
        return _report_recurring(client, done.job_ids[0], wish)
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


def _spec(client: Client, wish: JobWish) -> tuple[JobSpec, Path]:
    values = {**wish.values, "after": after_last(client, wish.values.get("after"))}
    for key in ("begin", "deadline"):
        text = values.get(key)
        if isinstance(text, str):
            values[key] = moment(text, client.now_s())
    entrypoint = None if wish.entrypoint is None else inside(wish.project, wish.entrypoint)
    return spec_of_command(
        wish.project,
        entrypoint,
        values,
        f"name the file in {clean(wish.project)} that is to run: submit DIR ENTRY, submit DIR -- COMMAND, or "
        "submit job.yaml",
    )


def inside(project: Path, entrypoint: str) -> str:
    """The entrypoint relative to the project; completed from the shell it is often relative to where one stands."""
    here, root = Path(entrypoint).expanduser().absolute(), project.absolute()
    normal = Path(os.path.normpath(here))
    is_elsewhere = Path(entrypoint).is_absolute() or not os.path.lexists(root / entrypoint)
    if is_elsewhere and here.exists() and normal.is_relative_to(os.path.normpath(root)):
        return str(normal.relative_to(os.path.normpath(root)))
    return entrypoint


def after_last(client: Client, after: Value | None) -> Value | None:
    """`last` stands for an id that only the controller knows."""
    if not isinstance(after, str) or "last" not in after:
        return after
    return re.sub(r"(?<![\w-])last(?![\w-])", lambda _: str(client.resolve(["last"])[0]), after)


def _values(options: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Value | None]:
    """The keys of a job file that the options stand for; None where an option was not given."""
    plain = (
        "time_limit",
        "retries",
        "max_output",
        "array",
        "gang",
        "oom_factor",
        "partition",
        "grace",
        "warn",
        "new_files",
        "checkpoint_every",
    )
    return job_values(options, arguments) | {
        **{key: options[key] for key in plain},
        "retry_on": ",".join(options["retry_on"]) or None,
        "secrets": ",".join(options["secret"]) or None,
        "notify": ",".join(options["notify"]) or None,
        "every": every_value(options["every"], options["zone"], options["overlap"]),
        "no_retry_on": ",".join(options["no_retry_on"]) or None,
        "retry_delay": options["retry_delay"],
        "outputs": list(options["outputs"]) or None,
        "resubmit_on": ",".join(options["resubmit_on"]) or None,
        "shared": list(options["shared"]) or None,
        "slurm_env": True if options["slurm_env"] else None,
        "checkpoint": list(options["checkpoint"]) or None,
        "interactive": True if options["interactive"] else None,
        "preemptible": True if options["preemptible"] else None,
        "deadline": options["deadline"],
        "begin": options["begin"],
    }


def _tell(selection: Selection, wish: JobWish, spec: JobSpec) -> None:
    """The receipt, before the work starts; warnings even when it is not wanted."""
    if not wish.quiet:
        send.say_receipt(selection)
        say(receipt.returns(spec))
    elif not wish.as_json:
        for warning in receipt.warnings(selection):
            say(f"warning: {warning}")


def _tell_environment(prepared: Prepared, wish: JobWish) -> None:
    """What the venv is made of; what is not installed although a file lists it is said even when little is wanted."""
    if not wish.quiet:
        for line in receipt.environment(prepared.environment):
            say(line)
    elif not wish.as_json:
        for note in prepared.environment.notes:
            say(f"warning: {clean(note)}")


def _dry_run(client: Client, prepared: Prepared, wish: JobWish) -> int:
    plan = submission.planned(client, prepared)
    has_it = client.has_snapshot(prepared.digest)
    if wish.as_json:
        facts = {"snapshot": prepared.digest, "cached": has_it, "fits": plan.fits, "waits": plan.waits}
        facts |= {"advice": plan.advice, "transfers": plan.transfers}
        print_json(receipt.facts(prepared.selection) | facts)
        return ExitCode.OK
    print(f"Would submit ({_asks(prepared.spec)}; {_content(prepared, 0 if has_it else None)}")
    print(
        f"fits on {', '.join(map(clean, plan.fits)) or 'no node now'}"
        + (f"; {clean(plan.waits)}" if plan.waits else "")
    )
    for sentence in plan.transfers[:_TRANSFERS_SHOWN]:
        print(clean(sentence))
    _advise(plan, wish)
    return ExitCode.OK


def _advise(plan: Plan, wish: JobWish) -> None:
    """Say what earlier runs did not need."""
    for sentence in plan.advice if not wish.quiet else []:
        say(f"note: {clean(sentence)}")


def _report(done: Submitted, prepared: Prepared, wish: JobWish) -> None:
    if wish.as_json:
        print_json(_facts(done, prepared))
    elif wish.parsable:
        print("\n".join(map(str, done.job_ids)))
    else:
        ids = _ids(done.job_ids)
        waits = f"; {clean(done.plan.waits)}" if done.plan.waits else ""
        print(f"Submitted {ids} ({_asks(done.spec)}; {_content(prepared, done.moved.files)}{waits}")
    sys.stdout.flush()


def _report_recurring(client: Client, number: int, wish: JobWish) -> int:
    one = client.recurring_job(number)
    if wish.as_json:
        print_json(msgspec.to_builtins(one))
    elif wish.parsable:
        print(number)
    else:
        following = "it is held: `racksack every resume`" if one.due_at_s is None else short_local(one.due_at_s)
        print(
            f"Recurring job {number} ({clean(one.name)}), {one.cron}; next run {following}: `racksack every` lists them"
        )
    sys.stdout.flush()
    return ExitCode.OK


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
    if spec.time_limit_s is not None:
        parts.append(f"{format_duration(spec.time_limit_s)} at most")
    each = f"{len(spec.array.indices)} jobs, each " if spec.array is not None else ""
    return f"{clean(spec.name)}): {each}{clean(', '.join(parts))}"


def _content(prepared: Prepared, sent_files: int | None) -> str:
    selection = prepared.selection
    sent = "all to send" if sent_files is None else f"{sent_files or 'none'} sent"
    return f"{receipt.count_of(selection.files)} {format_memory(selection.size_bytes)} ({sent})"
