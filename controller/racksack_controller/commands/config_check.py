"""`racksack config check [FILE]`: every mistake of a configuration, with its line."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from racksack_controller.config import ConfigError, load_config
from racksack_controller.main import DEFAULT_CONFIG
from racksack_jobspecs.states import ExitCode


@click.command("check", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, as_json: bool) -> int:
    """Check a configuration file; exit code 2 when it has mistakes."""
    try:
        config = load_config(file)
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps({"problems": [msgspec.to_builtins(problem) for problem in error.problems]}))
        else:
            click.echo(str(error), err=True)
        return ExitCode.USAGE
    if as_json:
        click.echo(json.dumps({"problems": [], "nodes": sorted(config.nodes)}))
    else:
        click.echo(f"{file}: good; nodes: {', '.join(sorted(config.nodes))}")
    return ExitCode.OK
