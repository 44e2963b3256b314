"""`racksack node check NAME`: try everything that a node needs, and say what is missing and how to fix it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click
import msgspec

from racksack_controller.checks.node import check_node
from racksack_controller.commands.rehearse import RefusedError, RehearsalError, rehearse
from racksack_controller.config.config import DEFAULT_CONFIG, ConfigError, load_config
from racksack_jobspecs.findings import failed, has_failed
from racksack_jobspecs.states import ExitCode


@click.command("check", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("--config", "path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.option("--rehearse", "with_rehearsal", is_flag=True, help="Also switch the empty node off and on again.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, path: Path, with_rehearsal: bool, as_json: bool) -> int:
    """Try a node of the configuration: SSH, Python, rsync, tmux, clock, disk, devices, and every way of its power.

    With --rehearse the running controller drains it, switches it off and on, and remembers how long both took. The
    node must be empty.
    """
    try:
        config = load_config(path)
    except ConfigError as error:
        click.echo(str(error), err=True)
        return ExitCode.USAGE
    if name not in config.nodes:
        click.echo(f"{path} has no node {name!r}; it has {', '.join(sorted(config.nodes))}", err=True)
        return ExitCode.NOT_FOUND
    findings = asyncio.run(check_node(config, name))
    code = ExitCode.ERROR if has_failed(findings) else ExitCode.OK
    if with_rehearsal:
        try:
            findings += asyncio.run(rehearse(config.spool, name, lambda words: click.echo(words, err=True)))
        except RehearsalError as error:
            findings.append(failed("rehearsal", str(error)))
            code = ExitCode.REFUSED if isinstance(error, RefusedError) else ExitCode.ERROR
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(finding) for finding in findings]))
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:8} {finding.what:9} {finding.sentence}")
    return code
