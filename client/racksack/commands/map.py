"""`racksack map`: one command for many inputs, in the manner of GNU parallel."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from racksack.cli import controller_option, open_client
from racksack.commands import shared
from racksack.errors import UsageError
from racksack.text import clean, counted, say

ENTRY = "racksack_map.py"
INPUTS_MAX = 100_000
# Runs on the node: fills one input into the command and becomes a shell that runs it.
PROGRAM = """\
import json, os, shlex

index = int(os.environ.get("RACKSACK_ARRAY_INDEX", "0"))
with open("racksack_map.json", encoding="utf-8") as file:
    wanted = json.load(file)
word = wanted["inputs"][index]
stem, _ = os.path.splitext(word)
parts = {"{}": word, "{.}": stem, "{/}": os.path.basename(word), "{//}": os.path.dirname(word) or ".",
         "{/.}": os.path.basename(stem), "{#}": str(index + 1)}
text = wanted["command"]
if not any(part in text for part in parts):
    text += " {}"
for part, value in parts.items():
    text = text.replace(part, shlex.quote(value))
print("+ " + text, flush=True)
os.execvp("/bin/sh", ["/bin/sh", "-c", text])
"""


class MapCommand(click.Command):
    """Everything behind `:::` is an input, also what looks like an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the inputs aside."""
        own, inputs = (args[: args.index(":::")], args[args.index(":::") + 1 :]) if ":::" in args else (args, None)
        ctx.meta["racksack.inputs"] = inputs
        return super().parse_args(ctx, own)


@click.command("map", cls=MapCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("text", metavar="COMMAND")
@click.option("-c", "--cpus", metavar="N", help="CPU cores per job. [1]")
@click.option("--ram", "--mem", "ram", metavar="SIZE", help="Main memory per job. [1G]")
@click.option("-G", "--gpus", metavar="[MODEL:]N", help="GPUs per job.")
@click.option("-t", "--time", "time_limit", metavar="TIME", help="The time limit of each job.")
@click.option("-j", "--jobs", "at_once", metavar="N", type=click.IntRange(1), help="At most this many at once.")
@click.option(
    "-a", "--arg-file", metavar="FILE", type=click.File("r"), help="Inputs from a file, one per line; - is stdin."
)
@click.option("--retries", metavar="N", help="Number of retries per job.")
@shared.many("--out", "outputs", metavar="GLOB", help="Files to bring back. [small new and changed files]")
@click.option("-J", "--name", metavar="NAME", help="Name of the job array. [map]")
@click.option("--fetch", metavar="DIR", help="Wait, then fetch all results into DIR.")
@click.option("--wait", is_flag=True, help="Wait until all have ended.")
@shared.NODE
@shared.QUIET
@controller_option
def command(controller: str | None, text: str, **options: Any) -> int:  # noqa: ANN401
    """Run COMMAND once for each input behind `:::`, all at once where there is room, as one job array.

    \b
      racksack map --cpus 1 'convert {} {.}.png' ::: *.jpg
      ls *.wav | racksack map -a - 'flac --best {}'

    Inputs that are files here are sent along. As in GNU parallel {} is the input, {.} without its ending, {/} its last
    part, {//} its folder, {/.} the last part without ending, {#} its number.
    """  # noqa: D301 - \b keeps click from joining the lines
    inputs = _inputs(click.get_current_context().meta["racksack.inputs"], options["arg_file"])
    with open_client(controller) as client, tempfile.TemporaryDirectory(prefix="racksack-map-") as made:
        from racksack.api import submit_spec
        from racksack.submission.draft import spec_of_options

        files = _write_project(Path(made), text, inputs)
        jobs = submit_spec(spec_of_options(_values(options, len(inputs))), Path(made), controller=client)
        if not options["quiet"]:
            say(f"Submitted {counted(len(jobs), 'job')} with {counted(files, 'file')}: `racksack status {jobs[0].id}`")
        if not (options["wait"] or options["fetch"]):
            return 0
        from racksack.waiting import see_through

        ids = [job.id for job in jobs]
        into = Path(options["fetch"]) if options["fetch"] else None
        return see_through(client, ids, follow=False, quiet=options["quiet"], fetch_into=into)


def _inputs(given: list[str] | None, file: Any) -> list[str]:  # noqa: ANN401 - click's
    """Raises UsageError where there are none, or too many."""
    words = list(given or ())
    if file is not None:
        words += [line for line in file.read().splitlines() if line]
    if not words:
        raise UsageError("no inputs; list them after ::: or use --arg-file")
    if len(words) > INPUTS_MAX:
        raise UsageError(f"these are {len(words):,} inputs; a job array has at most {INPUTS_MAX:,}: split them")
    return words


def _values(options: dict[str, Any], count: int) -> dict[str, Any]:
    limit = f"%{options['at_once']}" if options["at_once"] else ""
    return {
        "project": "local",
        "entrypoint": ENTRY,
        "environment": "none",
        "name": options["name"] or "map",
        "array": f"0-{count - 1}{limit}" if count > 1 else None,
        "outputs": list(options["outputs"]) or None,
        "nodes": ",".join(options["nodes"]) or None,
        **{key: options[key] for key in ("cpus", "ram", "gpus", "time_limit", "retries")},
    }


def _write_project(folder: Path, text: str, inputs: list[str]) -> int:
    """The program, the inputs, and the files that they name; how many files that are. Raises UsageError."""
    (folder / ENTRY).write_text(PROGRAM)
    files = 0
    words = []
    for word in inputs:
        path = Path(word)
        if not path.is_file():
            words.append(word)
            continue
        inside = _inside(path)
        target = folder / inside
        if target.exists() and not target.samefile(path):
            raise UsageError(f"two inputs would both be {clean(inside)} in the job; run the command in their folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            files += 1
            _link(path, target)
        words.append(str(inside))
    (folder / "racksack_map.json").write_text(json.dumps({"command": text, "inputs": words}))
    return files


def _inside(path: Path) -> Path:
    """Where a file stands in the job: as here when it is below this folder, else by its name alone."""
    normal = Path(os.path.normpath(path.absolute()))
    here = Path.cwd()
    return normal.relative_to(here) if normal.is_relative_to(here) else Path(path.name)


def _link(source: Path, target: Path) -> None:
    import shutil

    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or files of somebody else
        shutil.copy2(source, target)
