"""`racksack hold`, `release` and `signal`: one small thing done to each of several jobs."""

from __future__ import annotations

import click

from racksack.cli import complete, controller_option, for_each, json_option, open_client
from racksack.text import print_json


@click.command("hold", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", shell_complete=complete("job_ids"), nargs=-1, required=True)
@json_option
@controller_option
def hold(ids: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Keep waiting jobs from starting until they are released."""
    return _act(ids, "hold", "held", as_json, controller)


@click.command("release", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", shell_complete=complete("job_ids"), nargs=-1, required=True)
@json_option
@controller_option
def release(ids: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Let held jobs start."""
    return _act(ids, "release", "released", as_json, controller)


@click.command("signal", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", shell_complete=complete("job_ids"), nargs=-1, required=True)
@click.option("-s", "--signal", "name", metavar="SIGNAL", default="USR1", help="USR1, USR2, HUP, INT, ... [USR1]")
@json_option
@controller_option
def signal(ids: tuple[str, ...], name: str, as_json: bool, controller: str | None) -> int:
    """Send a signal to the program of running jobs, and to none of its other processes. It ends nothing by itself."""
    name = name.upper().removeprefix("SIG")
    return _act(ids, "signal", f"was sent SIG{name}", as_json, controller, signal=name)


def _act(ids: tuple[str, ...], verb: str, done: str, as_json: bool, controller: str | None, **body: object) -> int:
    with open_client(controller) as client:

        def act(job_id: int) -> None:
            answer = client.act(job_id, verb, **body)
            if as_json:
                print_json({"id": job_id, verb: True, "answer": answer})
            else:
                click.echo(f"{job_id} {done}")

        return for_each(client.resolve(ids), act)
