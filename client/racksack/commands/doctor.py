"""`racksack doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racksack.cli import complete, controller_option, json_option, named_controller
from racksack.text import clean, paint, print_json
from racksack_jobspecs.states import ExitCode

if TYPE_CHECKING:
    from racksack_jobspecs.findings import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "not_looked_at": "dim"}


@click.command("doctor", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("nodes", metavar="[NODE]...", shell_complete=complete("node_names"), nargs=-1)
@json_option
@controller_option
def command(nodes: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Go through everything on the way of a job, and say what is wrong and how to fix it.

    From this machine over the connection and the controller to nodes and jobs, a line for each finding. A NODE that is
    named is tried in full, as `racksack node check` does. Ends with 0 when nothing failed, else with 1.
    """
    import msgspec

    from racksack.doctor.examination import examine
    from racksack_jobspecs.findings import has_failed

    found = []
    for finding in examine(named_controller(controller), nodes):
        found.append(finding)
        if not as_json:
            click.echo(_line(finding))
    if as_json:
        print_json(msgspec.to_builtins(found))
    return ExitCode.ERROR if has_failed(found) else ExitCode.OK


def _line(finding: Finding) -> str:
    verdict = paint(f"{finding.verdict.replace('_', ' '):13}", _COLOURS.get(finding.verdict))
    return f"{verdict} {finding.part:10} {clean(finding.what):14} {clean(finding.sentence)}"
