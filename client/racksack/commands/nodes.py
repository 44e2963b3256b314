"""`racksack nodes`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from racksack.cli import complete, controller_option, json_option, open_client, watch_option
from racksack.text import print_json, table

if TYPE_CHECKING:
    from racksack.views import NodeView, PowerView

_HEADER = (
    "NODE",
    "STATE",
    "POWER",
    "CPU",
    "RAM",
    "GPU",
    "JOBS",
    "WATTS",
    "IDLE FOR",
    "OFF IN",
    "LAST BOOT",
    "LOAD",
    "DISK FREE",
    "UP FOR",
    "LABELS",
    "WHY",
)
_LEFT = ("NODE", "STATE", "POWER", "LABELS", "WHY")
_OF_POWER = ("POWER", "WATTS", "IDLE FOR", "OFF IN", "LAST BOOT")  # not shown where all nodes are always on


@click.command("nodes", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="[NODE]...", shell_complete=complete("node_names"), nargs=-1)
@watch_option
@json_option
@controller_option
def command(names: tuple[str, ...], watch: float | None, as_json: bool, controller: str | None) -> int:
    """Show the nodes: their state and how full they are."""
    import msgspec

    from racksack.text import show_screen

    with open_client(controller) as client:
        while True:
            nodes = [client.node(name) for name in names] if names else client.nodes()
            if as_json:
                print_json(msgspec.to_builtins(nodes))
            else:
                show_screen(_table(nodes), clear=watch is not None)
            if watch is None:
                return 0
            time.sleep(watch)


def _table(nodes: Sequence[NodeView]) -> str:
    if not nodes:
        return "no nodes"
    switched = any(node.power is not None for node in nodes)
    shown = [name for name in _HEADER if switched or name not in _OF_POWER]
    rows = [[cell for name, cell in zip(_HEADER, _row(node), strict=True) if name in shown] for node in nodes]
    return table(shown, rows, right=[name for name in shown if name not in _LEFT], state="STATE")


def _row(node: NodeView) -> list[str]:
    from racksack.views import PowerView
    from racksack_jobspecs.units import format_memory

    jobs = str(len(node.jobs)) if node.max_jobs is None else f"{len(node.jobs)}/{node.max_jobs}"
    up_s = None if node.connected_at_s is None else max(0.0, time.time() - node.connected_at_s)
    power = node.power or PowerView(phase="always on")
    return [
        node.name,
        node.state.upper(),
        power.phase.replace("_", " "),
        f"{node.cpus.used:g}/{node.cpus.total:g}",
        f"{format_memory(round(node.ram_bytes.used))}/{format_memory(round(node.ram_bytes.total))}",
        node.gpus_text,
        jobs,
        _watts(power),
        *(_duration(value_s) for value_s in (power.idle_for_s, power.off_in_s, power.last_boot_s)),
        "-" if node.load1 is None else f"{node.load1:.2f}",
        "-" if node.disk_free_bytes is None else format_memory(node.disk_free_bytes),
        _duration(up_s),
        ",".join(node.labels) or "-",
        node.reasons,
    ]


def _duration(value_s: float | None) -> str:
    from racksack_jobspecs.units import format_duration

    return "-" if value_s is None else format_duration(value_s)


def _watts(power: PowerView) -> str:
    """`~` marks what no sensor said."""
    if power.watts is None:
        return "-"
    return f"{'' if power.watts_from == 'sensor' else '~'}{power.watts:.0f}"
