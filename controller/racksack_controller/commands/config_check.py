"""`racksack config check [FILE]`: every mistake of a configuration, with its line."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from racksack_controller.config.config import DEFAULT_CONFIG, ConfigError, load_config
from racksack_controller.config.soundness import warnings
from racksack_jobspecs.states import ExitCode


@click.command("check", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--config", type=click.Path(path_type=Path), help="The same as FILE, as of `racksack controller`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path | None, config: Path | None, as_json: bool) -> int:
    """Check a configuration file; exit code 2 when it has mistakes. Warnings are likely mistakes."""
    if file is not None and config is not None:
        raise click.UsageError("the file is given twice; use either FILE or --config FILE")
    return _check(file or config or Path(DEFAULT_CONFIG), as_json)


def _check(file: Path, as_json: bool) -> int:
    try:
        config = load_config(file)
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps({"problems": [msgspec.to_builtins(problem) for problem in error.problems]}))
        else:
            click.echo(str(error), err=True)
        return ExitCode.USAGE
    found = list(warnings(config))
    if as_json:
        click.echo(json.dumps({"problems": [], "warnings": found, "nodes": sorted(config.nodes)}))
        return ExitCode.OK
    for sentence in found:
        click.echo(f"warning: {sentence}", err=True)
    count = len(config.nodes)
    click.echo(f"{file}: OK, {count} node{'' if count == 1 else 's'}: {', '.join(sorted(config.nodes))}")
    return ExitCode.OK
