"""`racksack fsck`: compare the store, the spool and the nodes, explain each finding, and repair."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
import msgspec

from racksack_controller.commands.place import as_owner, chosen, config_of, guarded, spool_options
from racksack_controller.config.config import Config
from racksack_controller.intake.spool import SpoolBusyError, SpoolLock
from racksack_controller.recovery import fsck, nodes
from racksack_controller.recovery.errors import RefusedError
from racksack_controller.recovery.faults import Fault
from racksack_controller.store import StoreError, open_snapshot, read_identity
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import ExitCode


@click.command("fsck", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--repair", is_flag=True, help="Repair what can be; the controller must be stopped.")
@spool_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@guarded
def command(repair: bool, spool: Path | None, config: Path | None, as_json: bool) -> int:
    """Compare a controller's store with its spool, and, while it is stopped, with its nodes.

    Each finding is one sentence. With --repair a lost or damaged store is made again from what stands in the spool, and
    every other finding that says how is repaired; nothing is deleted, what is in the way is moved aside. Exit code 1
    while something is left that needs you.
    """
    place = chosen(spool, config)
    rack = config_of(spool, config)
    return as_owner(place, lambda: _examine(place, rack, repair, as_json))


def _examine(place: Spool, rack: Config | None, repair: bool, as_json: bool) -> int:
    lock, is_running = None, False
    try:
        lock = SpoolLock(place) if place.root.is_dir() else None
    except SpoolBusyError:
        if repair:
            raise RefusedError(f"the controller of {place.root} is running; stop it first, then repair") from None
        is_running = True
    try:
        faults = []
        for fault in fsck.examine(place, repair=repair):
            faults.append(fault)
            if not as_json:
                _say(fault, repair)
        if rack is not None and not is_running and place.database.exists():
            for fault in _of_nodes(place, rack):
                faults.append(fault)
                if not as_json:
                    _say(fault, repair)
    finally:
        if lock is not None:
            lock.release()
    left = [fault for fault in faults if not fault.repaired and not fault.is_harmless]
    if as_json:
        click.echo(json.dumps({"running": is_running, "findings": msgspec.to_builtins(faults)}))
    else:
        _sum_up(faults, left, repair, is_running)
    return ExitCode.ERROR if left else ExitCode.OK


def _of_nodes(place: Spool, rack: Config) -> list[Fault]:
    try:
        connection = open_snapshot(place.database)
    except StoreError:  # which was said
        return []
    with closing(connection):
        return asyncio.run(nodes.compare(rack, read_identity(place.database), connection))


def _say(fault: Fault, repair: bool) -> None:
    if fault.repaired:
        click.echo(f"repaired  {fault.what:8} {fault.sentence}: {fault.remedy}")
    elif fault.is_harmless:
        click.echo(f"note      {fault.what:8} {fault.sentence}")
    else:
        remedy = f"; --repair: {fault.remedy}" if fault.remedy and not repair else ""
        click.echo(f"found     {fault.what:8} {fault.sentence}{remedy}")


def _sum_up(faults: Sequence[Fault], left: Sequence[Fault], repair: bool, is_running: bool) -> None:
    if not left:
        repaired = sum(fault.repaired for fault in faults)
        click.echo(f"{repaired} repaired, no problems left" if repaired else "no problems found")
    elif not repair and any(fault.remedy for fault in left):
        stop = "stop the controller, then " if is_running else ""
        click.echo(f"{len(left)} found; {stop}racksack fsck --repair")
    else:
        click.echo(f"{len(left)} left, which need your attention")
    if is_running:
        click.echo("the controller is running: work in progress may be among these; it checks the nodes itself")
