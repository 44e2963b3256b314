"""What a shell completes beside names of commands and options: jobs, sweeps, nodes and states.

A completion never starts a controller, never waits long, and says nothing when something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem, FishComplete, add_completion_class

from racksack.errors import RacksackError
from racksack_jobspecs.states import JobState

if TYPE_CHECKING:
    from racksack.client import Client

OPENING_S = 2.0
_JOBS_MAX = 200

T = TypeVar("T")


def _ask(context: click.Context, question: Callable[[Client], list[T]]) -> list[T]:
    """What the controller answers; nothing where it does not at once."""
    from racksack.client import Client
    from racksack.transport.connection import is_listening

    try:
        named = context.params.get("controller") or context.find_root().params.get("controller")
        with Client(named) as client:
            if client.target.host is None and not is_listening(client.target):
                return []
            client.limit_opening(OPENING_S)
            return question(client)
    except (RacksackError, OSError):
        return []


def _items(prefix: str, pairs: Iterator[tuple[str, str]]) -> list[CompletionItem]:
    return [CompletionItem(value, help=text) for value, text in pairs if value.startswith(prefix)]


def job_ids(context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """The ids of jobs, newest first, with their names and states."""
    from racksack.arrays import label

    jobs = _ask(context, lambda client: client.jobs(all=1, limit=_JOBS_MAX))
    found = _items(prefix, ((label(job), f"{job.name} {job.state}") for job in jobs))
    return found or _items(prefix, iter([("last", "the newest job")]))


def sweep_ids(context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """The ids of sweeps."""
    sweeps = _ask(context, lambda client: client.sweeps(limit=_JOBS_MAX))
    return _items(prefix, ((str(sweep.id), f"{sweep.name} {sweep.state}") for sweep in sweeps))


def node_names(context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """The names of nodes."""
    return _items(prefix, ((node.name, node.state) for node in _ask(context, lambda client: client.nodes())))


def states(_context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """States of jobs, behind a comma too."""
    before, comma, last = prefix.rpartition(",")
    return [CompletionItem(f"{before}{comma}{state}") for state in JobState if str(state).startswith(last)]


def entries(context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """Files of the project that stands before."""
    from pathlib import Path

    root = Path(str(context.params.get("project") or ".")).expanduser()
    folder, _, name = prefix.rpartition("/")
    try:
        found = sorted((root / folder).iterdir())
    except OSError:
        return []
    start = f"{folder}/" if folder else ""
    return [
        CompletionItem(f"{start}{path.name}{'/' if path.is_dir() else ''}")
        for path in found
        if path.name.startswith(name) and (name or not path.name.startswith("."))
    ]


class CommasKept(FishComplete):
    """click's fish script takes the first comma for the end of a help text."""

    def format_completion(self, item: CompletionItem) -> str:
        """As click's, with other commas."""
        return super().format_completion(CompletionItem(item.value, item.type, (item.help or "").replace(",", ";")))


def register() -> None:
    """Have click use what stands here."""
    add_completion_class(CommasKept)
