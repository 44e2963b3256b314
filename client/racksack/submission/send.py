"""From a spec to an accepted job with bars on a terminal: what `submit` and `sweep run` have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from racksack.client import Client
from racksack.progress import reading_bar, transfer_bar
from racksack.submission import receipt, submission
from racksack.submission.draft import Value
from racksack.submission.project import Selection
from racksack.submission.submission import Prepared, Submitted
from racksack.text import say
from racksack.views import Plan
from racksack_jobspecs.spec import JobSpec


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a command line that submits asks for."""

    project: Path  # a folder, or a job file
    entrypoint: str | None
    values: dict[str, Value | None]  # keys of a job file
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    data: tuple[str, ...]
    dry_run: bool
    as_json: bool
    quiet: bool


def read(spec: JobSpec, project: Path, wish: Wish, on_selected: Callable[[Selection], None]) -> Prepared:
    """Choose and read what is sent; `on_selected` is called in between. Raises as `submission.prepare`."""
    with reading_bar("reading", quiet=wish.quiet) as on_read:
        return submission.prepare(
            spec,
            project,
            include=wish.include,
            exclude=wish.exclude,
            data=wish.data,
            on_selected=on_selected,
            progress=submission.Progress(on_read=on_read),
        )


def send(client: Client, prepared: Prepared, plan: Plan, wish: Wish) -> Submitted:
    """Send what the controller does not have, and hand the job in. Raises as `submission.submit`."""
    with transfer_bar("sending", prepared.selection.size_bytes, quiet=wish.quiet) as bar:
        return submission.submit(client, prepared, plan, submission.Progress(on_sent=bar))


def say_receipt(selection: Selection) -> None:
    """What is sent and what is left out, for the person."""
    for line in receipt.lines(selection):
        say(line)
