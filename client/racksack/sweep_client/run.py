"""What `racksack sweep run` does: from its options to an accepted sweep, and its progress until it is over."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import msgspec

from racksack.client import Client
from racksack.errors import UsageError
from racksack.submission import send, submission
from racksack.submission.command import after_last
from racksack.submission.draft import Value, is_job_file, spec_of_command
from racksack.submission.option_values import job_values
from racksack.submission.project import Selection
from racksack.submission.send import Wish
from racksack.submission.submission import Prepared
from racksack.sweep_client import options as wishes
from racksack.sweep_client.text import plan_text
from racksack.text import clean, counted, print_json, say
from racksack.views import Plan
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import ExitCode


@dataclass(frozen=True, kw_only=True)
class SweepWish(Wish):
    """What the command line of `sweep run` asks for."""

    yes: bool
    trial: bool
    follow: bool | None  # None: when there is a terminal


def wish_of(options: Mapping[str, Any], arguments: Sequence[str]) -> SweepWish:
    """Read the options. Raises UsageError."""
    if options["trial"] and options["hold"]:
        raise UsageError("use either --try or --hold")
    entrypoint, function = wishes.split_target(options["entrypoint"]) if options["entrypoint"] else (None, None)
    jobs = wishes.jobs_text(Path(options["jobs"])) if options["jobs"] else None
    if entrypoint is None and jobs is not None and not is_job_file(Path(options["project"])):
        entrypoint = wishes.first_script(jobs)
    follow = True if options["wait"] else False if options["detach"] else None
    return SweepWish(
        project=Path(options["project"]).expanduser(),
        entrypoint=entrypoint,
        values=job_values(options, arguments) | {"sweep": _sweep_value(options, function, jobs) or None},
        include=options["include"],
        exclude=options["exclude"],
        data=options["data"],
        yes=options["yes"],
        trial=options["trial"],
        dry_run=options["dry_run"],
        follow=follow,
        as_json=options["as_json"],
        quiet=options["quiet"] or options["as_json"],
    )


def _sweep_value(options: Mapping[str, Any], function: str | None, jobs: str | None) -> dict[str, Value]:
    kind, count = options["search"], options["count"]
    if options["grid"]:
        if kind not in (None, "grid") or options["random"] is not None:
            raise UsageError("--grid stands for --search grid; give one search")
        kind = "grid"
    if options["random"] is not None:
        if kind not in (None, "random") or count is not None:
            raise UsageError("--random N stands for --search random --count N; give one of the two")
        kind, count = "random", options["random"]
    found = wishes.given(
        {
            "function": function,
            "params": wishes.assignments("--param", options["param"]),
            "where": wishes.where_value(options["where"]),
            "range": options["range"],
            "jobs": jobs,
            "fixed": wishes.assignments("--fixed", options["fixed"]),
            "search": wishes.search_value(kind, count, options["seed"], options["population"], options["warm_start"]),
            "metric": ",".join(options["metric"]) or None,
            "point_timeout": options["point_timeout"],
            "retries": options["retries"],
            "backoff": options["backoff"],
            "max_fails": options["max_fails"],
            "chunk": wishes.chunk_value(
                options["chunk"], options["chunk_target"], options["chunk_min"], options["chunk_max"]
            ),
            "max_runners": options["max_runners"],
            "slots": ",".join(options["slots"]) or None,
            "require": wishes.where_value(options["require"]),
            "folds": options["folds"],
            "repeat": options["repeat"],
            "aggregate": options["aggregate"],
            "stop": wishes.stop_value(options["stop"], options["grace_steps"], options["reduction"], options["rungs"]),
            "control": wishes.control_value(
                options["control"],
                wishes.assignments("--control-arg", options["control_arg"]),
                wishes.assignments("--control-env", options["control_env"]),
            ),
            "notify": ",".join(options["notify"]) or None,
        }
    )
    return wishes.merged(wishes.space_of_file(Path(options["space"])), found) if options["space"] else found


def run(client: Client, wish: SweepWish) -> int:
    """Submit the sweep; with a terminal show how it goes on. Returns the exit code."""
    wish = replace(wish, values={**wish.values, "after": after_last(client, wish.values.get("after"))})
    spec, project = _spec(wish)
    if spec.sweep is None:
        raise UsageError("this job file has no sweep; `submit` runs it as a job")
    prepared = send.read(spec, project, wish, lambda found: _tell(found, wish))
    plan = submission.planned(client, prepared)
    if wish.dry_run:
        return _dry_run(prepared, plan, wish)
    _ask(plan, spec, wish)
    done = send.send(client, prepared, plan, wish)
    [number] = done.job_ids
    if wish.trial and plan.sweep is not None:
        from racksack.sweep_client.trial import tried

        tried(client, number, prepared.spec, plan.sweep.workers, yes=wish.yes, quiet=wish.quiet)
    if wish.as_json:
        print_json({**msgspec.to_builtins(client.sweep(number)), "plan": msgspec.to_builtins(plan.sweep)})
    else:
        _report(client, number, wish)
    sys.stdout.flush()
    if wish.follow is False or (wish.follow is None and not sys.stdout.isatty()):
        return ExitCode.OK
    from racksack.sweep_client.progress import follow

    return follow(client, number, quiet=wish.quiet)


def _spec(wish: SweepWish) -> tuple[JobSpec, Path]:
    if wish.entrypoint is None and is_job_file(wish.project) and wish.values["sweep"]:
        raise UsageError("the job file defines the sweep; leave out --param and the like")
    return spec_of_command(
        wish.project,
        wish.entrypoint,
        wish.values,
        f"name what to run in {clean(wish.project)}: racksack sweep run DIR FILE.py:FUNCTION, or a job file",
    )


def _tell(selection: Selection, wish: SweepWish) -> None:
    if not wish.quiet:
        send.say_receipt(selection)


def _dry_run(prepared: Prepared, plan: Plan, wish: SweepWish) -> int:
    if wish.as_json:
        print_json({"plan": msgspec.to_builtins(plan.sweep), "fits": plan.fits, "snapshot": prepared.digest})
    elif plan.sweep is not None:
        print(f"Would submit {plan_text(plan.sweep, '')}; fits on {', '.join(map(clean, plan.fits)) or 'no node now'}")
    return ExitCode.OK


def _ask(plan: Plan, spec: JobSpec, wish: SweepWish) -> None:
    if plan.sweep is None:
        raise UsageError("this controller does not support sweeps; it is an older version")
    text = plan_text(plan.sweep, "")
    for line in plan.advice if not wish.quiet else ():
        say(f"advice: {clean(line)}")
    if not wish.quiet:
        for name in unknown_names(spec):
            say(f"note: {{{name}}} in the program's words names no parameter, so it is passed as it stands")
        say(text)
    if wish.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{text}; stdin is not a terminal; pass --yes to start without asking")
    if wish.trial:
        return
    if plan.sweep.duration_s is None and not wish.quiet:
        say("`--try` would compute a point for each worker first, and then say how long all of them take")
    click.confirm("Start?", abort=True, err=True)


def unknown_names(spec: JobSpec) -> list[str]:
    """Names in braces among a program's words that are no parameter: most likely misspelt ones."""
    sweep = spec.sweep
    if sweep is None or sweep.target.kind != "program":
        return []
    known = {axis.name for axis in sweep.axes} | {domain.name for domain in sweep.domains} | {*sweep.target.fixed}
    found = [name for word in sweep.target.argv for name in re.findall(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", word)]
    return [name for name in dict.fromkeys(found) if name not in known]


def _report(client: Client, number: int, wish: SweepWish) -> None:
    view = client.sweep(number)
    reused = f"; {view.reused:,} of them are known from an earlier sweep" if view.reused else ""
    print(f"Submitted sweep {number} ({clean(view.name)}): {counted(view.points, 'point')}{reused}")
    if not wish.quiet:
        say(f"racksack sweep status {number} | top {number} | stop {number}")
