"""`racksack schema`: the JSON Schema of job files."""

from __future__ import annotations

import click

from racksack.text import print_json


@click.command("schema", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> int:
    """Print the JSON Schema of job files, for editors and for checking them elsewhere."""
    from racksack_jobspecs.schema import job_schema

    print_json(job_schema())
    return 0
