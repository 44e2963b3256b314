"""`racksack wait`."""

from __future__ import annotations

import click

from racksack.cli import complete, controller_option, json_option, open_client, option_s
from racksack.text import print_json, say


@click.command("wait", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", shell_complete=complete("job_ids"), nargs=-1, required=True)
@click.option("--any", "any_of", is_flag=True, help="Until one of them has ended.")
@click.option("--timeout", metavar="TIME", help="Give up after this time, with exit code 124.")
@click.option("--exit-code", is_flag=True, help="Exit with the program's own exit code.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@json_option
@controller_option
def command(
    ids: tuple[str, ...],
    any_of: bool,
    timeout: str | None,
    exit_code: bool,
    quiet: bool,
    as_json: bool,
    controller: str | None,
) -> int:
    """Wait until jobs have ended. The exit code says how: 0 all done, 10 failed, 11 OOM, ..., 8 not all alike."""
    from racksack.following import Patience, wait_for
    from racksack.waiting import final_code, leaving_alone, say_state

    timeout_s = option_s("--timeout", timeout)
    with open_client(controller) as client:
        tell = (lambda job: None) if quiet or as_json else lambda job: say_state(job, client)
        job_ids = client.resolve(ids)
        with leaving_alone(job_ids):
            jobs = wait_for(client, job_ids, timeout_s=timeout_s, any_of=any_of, on_change=tell, patience=Patience(say))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(jobs))
    return final_code(jobs, exit_code)
