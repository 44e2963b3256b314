"""`racksack every WHEN -- submit ...`, and `every list|pause|resume|rm|run`."""

from __future__ import annotations

import time

import click

from racksack.cli import controller_option, json_option, open_client
from racksack.client import Client
from racksack.commands import shared
from racksack.text import clean, print_json, say, short_local, table
from racksack.views import RecurringView

_ACTIONS = {"pause": "pause", "resume": "resume", "rm": "remove", "remove": "remove", "delete": "remove", "run": "run"}
_DONE = {"pause": "paused", "resume": "resumed", "remove": "removed", "run": "submitted now"}
_HEADER = ("ID", "NAME", "USER", "WHEN", "ZONE", "NEXT", "RUNS", "LAST JOB", "NOTE")


@click.command("every", cls=shared.SubmitCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="[WHEN | list | pause ID | resume ID | rm ID | run ID]", nargs=-1)
@click.option("--zone", metavar="ZONE", help="Time zone of WHEN, such as Europe/Berlin. [this machine's]")
@click.option("--queue", is_flag=True, help="Wait for a run that is not over. [leave the new one out]")
@click.option("-a", "--all", "everybody", is_flag=True, help="List those of all users (operators).")
@json_option
@controller_option
def command(
    words: tuple[str, ...], zone: str | None, queue: bool, everybody: bool, as_json: bool, controller: str | None
) -> int:
    """Submit a job again and again, or list and change recurring jobs.

    \b
      racksack every "Mon 02:00" -- submit ./project main.py --cpus 4
      racksack every 15m -- submit check.sh
      racksack every "0 2 1 * *" --zone UTC -- submit job.yaml
      racksack every                 (lists them)
      racksack every pause 3
    """  # noqa: D301 - \b keeps click from joining the lines
    arguments = list(click.get_current_context().meta["racksack.arguments"])
    if arguments:
        return _submit(words, arguments, zone, "queue" if queue else "skip", controller)
    with open_client(controller) as client:
        if not words or words == ("list",):
            return _list(client, everybody, as_json)
        verb = _ACTIONS.get(words[0])
        if verb is None or len(words) < 2:
            raise click.UsageError("write `racksack every WHEN -- submit ...`, or pause, resume, rm or run with an id")
        return _act(client, verb, words[1:], as_json)


def _submit(
    words: tuple[str, ...], arguments: list[str], zone: str | None, overlap: str, controller: str | None
) -> int:
    from racksack.commands.submit import command as submit

    if len(words) != 1:
        raise click.UsageError('name when, as one word before `--`: racksack every "Mon 02:00" -- submit ...')
    own = arguments[1:] if arguments[0] in ("submit", "racksack") else arguments
    own = own[1:] if arguments[:2] == ["racksack", "submit"] else own
    wanted = ["--every", words[0], "--overlap", overlap, *(["--zone", zone] if zone else [])]
    given = [*wanted, *(["--controller", controller] if controller else []), *own]
    code: int = submit.main(args=given, prog_name="racksack submit", standalone_mode=False)
    return code


def _list(client: Client, everybody: bool, as_json: bool) -> int:
    import msgspec

    found = client.recurring(everybody=everybody)
    if as_json:
        print_json(msgspec.to_builtins(found))
    elif not found:
        print('no recurring jobs; make one: racksack every "Mon 02:00" -- submit DIR ENTRY')
    else:
        print(table(_HEADER, [_row(one) for one in found], right=("ID", "RUNS", "LAST JOB")))
    return 0


def _row(one: RecurringView) -> list[str]:
    following = "paused" if one.due_at_s is None else short_local(one.due_at_s)
    notes = [one.problem, f"{one.left_out} left out" if one.left_out else ""]
    last = str(one.last_jobs[0]) if one.last_jobs else "-"
    note = "; ".join(filter(None, notes))
    zone = one.zone or "controller's"
    return [str(one.id), one.name, one.owner, one.cron, zone, following, str(one.runs), last, note]


def _act(client: Client, verb: str, words: tuple[str, ...], as_json: bool) -> int:
    import msgspec

    views = []
    for word in words:
        if not word.isdigit():
            raise click.UsageError(f"{clean(word)} is not the id of a recurring job; `racksack every` lists them")
        one = client.act_on_recurring(int(word), verb)
        views.append(one)
        if not as_json:
            say(f"recurring job {one.id} ({clean(one.name)}) {_DONE[verb]}{_following(one, verb)}")
    if as_json:
        print_json(msgspec.to_builtins(views))
    return 0


def _following(one: RecurringView, verb: str) -> str:
    if verb == "run":
        return f" as job {one.last_jobs[0]}" if one.last_jobs and not one.problem else f": {clean(one.problem)}"
    if one.due_at_s is None or verb == "remove":
        return ""
    return f"; next run {short_local(one.due_at_s)}, in {max(0.0, one.due_at_s - time.time()) / 3600:.1f} h"
