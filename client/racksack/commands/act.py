"""`racksack hold` and `release`: one small thing done to each of several jobs."""

from __future__ import annotations

import click

from racksack.cli import controller_option, for_each, json_option, open_client
from racksack.text import print_json


@click.command("hold", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@json_option
@controller_option
def hold(ids: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Keep waiting jobs from starting until they are released."""
    return _act(ids, "hold", "held", as_json, controller)


@click.command("release", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@json_option
@controller_option
def release(ids: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Let held jobs start."""
    return _act(ids, "release", "released", as_json, controller)


def _act(ids: tuple[str, ...], verb: str, done: str, as_json: bool, controller: str | None) -> int:
    with open_client(controller) as client:

        def act(job_id: int) -> None:
            answer = client.act(job_id, verb)
            if as_json:
                print_json({"id": job_id, verb: True, "answer": answer})
            else:
                click.echo(f"{job_id} {done}")

        return for_each(client.resolve(ids), act)
