"""`racksack completion`."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(_SHELLS))
@click.option("--program", default="racksack", help="racksack, submit or fetch-results. [racksack]")
def command(shell: str, program: str) -> int:
    """Print completion code for a shell, such as: eval "$(racksack completion bash)"."""
    from click.shell_completion import get_completion_class

    from racksack.cli import load
    from racksack.main import COMMANDS, racksack_group

    homes = {"submit": COMMANDS["submit"].home, "fetch-results": COMMANDS["fetch"].home}
    if program not in (*homes, "racksack"):
        raise click.UsageError("--program: write racksack, submit or fetch-results")
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"there is no completion for {shell}")
    of = load(homes[program]) if program in homes else racksack_group
    click.echo(completion(of, {}, program, f"_{program.replace('-', '_').upper()}_COMPLETE").source())
    return 0
