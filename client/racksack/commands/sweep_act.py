"""`racksack sweep wait|stop|resume|retry|cancel`."""

from __future__ import annotations

import click

from racksack.cli import complete, controller_option, json_option, open_client
from racksack.ids import sweep_id
from racksack.text import clean, print_json

_HELP = {"help_option_names": ["-h", "--help"]}
_REASON = click.option("--reason", metavar="TEXT", help="Kept with the sweep.")


@click.command("wait", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@controller_option
def wait(sweep: str, quiet: bool, controller: str | None) -> int:
    """Show how a sweep goes on until it is over or stopped. The exit code: 0 done, 8 with failed points, 10 failed."""
    from racksack.sweep_client.progress import follow

    with open_client(controller) as client:
        return follow(client, sweep_id(client, sweep), quiet=quiet)


@click.command("stop", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@_REASON
@json_option
@controller_option
def stop(sweep: str, reason: str | None, as_json: bool, controller: str | None) -> int:
    """Compute no more; what is done stays, and `resume` goes on with the rest."""
    return _act(sweep, "stop", reason, as_json, controller)


@click.command("resume", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@_REASON
@json_option
@controller_option
def resume(sweep: str, reason: str | None, as_json: bool, controller: str | None) -> int:
    """Go on with what is missing, after a stop, a cancel, or an end for too many failures."""
    return _act(sweep, "resume", reason, as_json, controller)


@click.command("retry", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@click.option("--failed", is_flag=True, help="The points that failed for good (the default).")
@_REASON
@json_option
@controller_option
def retry(sweep: str, failed: bool, reason: str | None, as_json: bool, controller: str | None) -> int:
    """Run exactly the points that failed for good once more, with all their tries."""
    return _act(sweep, "retry", reason, as_json, controller)


@click.command("cancel", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@_REASON
@json_option
@controller_option
def cancel(sweep: str, reason: str | None, as_json: bool, controller: str | None) -> int:
    """End it; what was computed stays and can be fetched."""
    return _act(sweep, "cancel", reason, as_json, controller)


def _act(sweep: str, verb: str, reason: str | None, as_json: bool, controller: str | None) -> int:
    import msgspec

    with open_client(controller) as client:
        number = sweep_id(client, sweep)
        view = client.act_on_sweep(number, verb, reason=reason or "")
        if verb in ("stop", "cancel"):
            view = client.sweep(number)
    if as_json:
        print_json(msgspec.to_builtins(view))
        return 0
    again = f"; {view.retried:,} points run again" if view.retried is not None else ""
    click.echo(f"sweep {number} ({clean(view.name)}) {view.state}: {view.done:,} of {view.points:,} points done{again}")
    return 0
