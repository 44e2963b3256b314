"""`racksack nodes`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from racksack.cli import controller_option, json_option, open_client
from racksack.text import print_json, table

if TYPE_CHECKING:
    from racksack.views import NodeView

_HEADER = ("NODE", "STATE", "CPU", "RAM", "GPU", "JOBS", "LOAD", "DISK FREE", "UP FOR", "LABELS", "WHY")
_RIGHT = ("CPU", "RAM", "GPU", "JOBS", "LOAD", "DISK FREE", "UP FOR")


@click.command("nodes", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="[NODE]...", nargs=-1)
@click.option("-w", "--watch", is_flag=True, help="Show it again every two seconds.")
@json_option
@controller_option
def command(names: tuple[str, ...], watch: bool, as_json: bool, controller: str | None) -> int:
    """Show the nodes: their state and how full they are."""
    import msgspec

    from racksack.commands.status import show_screen

    with open_client(controller) as client:
        while True:
            nodes = [client.node(name) for name in names] if names else client.nodes()
            if as_json:
                print_json(msgspec.to_builtins(nodes))
            else:
                show_screen(_table(nodes), clear=watch)
            if not watch:
                return 0
            time.sleep(2)


def _table(nodes: Sequence[NodeView]) -> str:
    if not nodes:
        return "no nodes"
    return table(_HEADER, [_row(node) for node in nodes], right=_RIGHT, state="STATE")


def _row(node: NodeView) -> list[str]:
    from racksack_jobspecs.units import format_duration, format_memory

    busy = sum(gpu.job is not None for gpu in node.gpus)
    jobs = str(len(node.jobs)) if node.max_jobs is None else f"{len(node.jobs)}/{node.max_jobs}"
    up_s = None if node.connected_at_s is None else max(0.0, time.time() - node.connected_at_s)
    return [
        node.name,
        node.state.upper(),
        f"{node.cpus.used:g}/{node.cpus.total:g}",
        f"{format_memory(round(node.ram_bytes.used))}/{format_memory(round(node.ram_bytes.total))}",
        f"{busy}/{len(node.gpus)}" if node.gpus else "-",
        jobs,
        "-" if node.load1 is None else f"{node.load1:.2f}",
        "-" if node.disk_free_bytes is None else format_memory(node.disk_free_bytes),
        "-" if up_s is None else format_duration(up_s),
        ",".join(node.labels) or "-",
        node.why or node.draining_reason or "",
    ]
