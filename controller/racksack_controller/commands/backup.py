"""`racksack backup` and `racksack restore`: the spool's store and what it refers to, on the controller's machine."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import click
import msgspec

from racksack_controller.commands.place import as_owner, chosen, guarded, is_embedded, spool_options
from racksack_controller.intake.garbage import remove_tree
from racksack_controller.intake.spool import SpoolLock, prepare
from racksack_controller.recovery import backup as backups
from racksack_controller.recovery import fsck, sources
from racksack_controller.recovery import restore as restores
from racksack_controller.recovery.contents import Manifest
from racksack_controller.recovery.errors import RecoveryError
from racksack_controller.recovery.sinks import FolderSink, TarSink
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.units import format_memory

ARCHIVES = (".tar", ".tar.gz", ".tgz")


@click.command("backup", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--no-results", is_flag=True, help="Leave out the results of finished jobs.")
@spool_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@guarded
def backup(target: Path, no_results: bool, spool: Path | None, config: Path | None, as_json: bool) -> int:
    """Back up a controller, also while it runs: its store, and the projects, data and results that it refers to.

    TARGET is an archive (a name that ends with .tar, .tar.gz or .tgz) or a folder, which the next backup into it brings
    up to date. The configuration and its keys are not part of it.
    """
    place, target = chosen(spool, config), target.absolute()
    if target.name.endswith(ARCHIVES):
        return _into_archive(place, target, not no_results, as_json)
    if target.exists() and not target.is_dir():
        raise RecoveryError(f"{target} is a file; name a folder, or an archive ({', '.join(ARCHIVES)})")
    if not target.exists():
        target.mkdir(mode=0o700, parents=True)
        _give_to_owner(place, target)

    def work() -> int:
        made = backups.make(place, FolderSink(target), with_results=not no_results, scratch=target)
        return _say_made(made, target, as_json)

    return as_owner(place, work)


def _give_to_owner(place: Spool, folder: Path) -> None:
    """Root makes the folder, and the spool's owner fills it."""
    if os.geteuid() == 0 and place.root.is_dir():
        owner = place.root.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)


def _into_archive(place: Spool, target: Path, with_results: bool, as_json: bool) -> int:
    """The archive has its name once it is whole. It is opened here, and written as the spool's owner."""
    beside = target.with_name(f".{target.name}.new")
    with open(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:

        def work() -> int:
            sink = TarSink(file, compressed=not target.name.endswith(".tar"))
            made = backups.make(place, sink, with_results=with_results, scratch=place.root)
            return _say_made(made, target, as_json)

        try:
            code = as_owner(place, work)
        except BaseException:
            beside.unlink()
            raise
    if code in (ExitCode.OK, ExitCode.PARTIAL):
        beside.rename(target)
    else:
        beside.unlink()
    return code


def _say_made(made: Manifest, target: Path, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"backup": str(target), **msgspec.to_builtins(made)}))
    else:
        size = sum(held.bytes for held in made.trees.values())
        click.echo(
            f"{target}: {made.jobs} jobs ({made.unfinished} unfinished), {len(made.of('snapshots'))} projects and data "
            f"sets, {len(made.of('returns'))} results, {format_memory(max(size, 1))}"
        )
        for sentence in made.missing:
            click.echo(f"warning: {sentence}", err=True)
    return ExitCode.PARTIAL if made.missing else ExitCode.OK


@click.command("restore", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--force", is_flag=True, help="Also into a spool that has jobs: its store is moved aside.")
@spool_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@guarded
def restore(source: Path, force: bool, spool: Path | None, config: Path | None, as_json: bool) -> int:
    """Restore a backup into a spool whose controller is stopped.

    Nothing that is there is deleted: the store is moved aside, and so are results of other jobs under the same numbers.
    Jobs that ended after the backup was made stay ended; those that were queued or running run again.
    """
    place = chosen(spool, config)
    if os.geteuid() == 0 and not place.root.is_dir() and not is_embedded(place):
        raise RecoveryError(
            f"{place.root} does not exist; install the controller first, so that the spool belongs to its user"
        )
    if source.is_dir():
        return as_owner(place, lambda: _restore(place, lambda to: sources.read_folder(source, to), force, as_json))
    with source.open("rb") as file:

        def unpack(target: Path, file: IO[bytes] = file) -> Manifest:
            return sources.read_archive(file, target, str(source))

        return as_owner(place, lambda: _restore(place, unpack, force, as_json))


def _restore(place: Spool, unpack: Callable[[Path], Manifest], force: bool, as_json: bool) -> int:
    if not place.returns.is_dir():
        prepare(place)
    lock = SpoolLock(place)
    unpacked = Path(tempfile.mkdtemp(prefix=".restore-", dir=place.root))
    try:
        done = restores.put_back(place, unpacked, unpack(unpacked), force=force)
        faults = list(fsck.examine(place, repair=True))
    finally:
        remove_tree(unpacked)
        lock.release()
    if as_json:
        click.echo(json.dumps({**msgspec.to_builtins(done), "findings": msgspec.to_builtins(faults)}))
        return ExitCode.OK
    click.echo(
        f"{place.root}: {done.jobs} jobs ({done.unfinished} unfinished), {done.snapshots} projects and data sets and "
        f"{done.returns} results brought back"
    )
    for name in done.aside:
        click.echo(f"moved aside: {name}")
    for fault in faults:
        click.echo(f"{fault.sentence}: {fault.remedy}" if fault.repaired else fault.sentence)
    click.echo("start the controller: systemctl start racksack (or the next submit, where none is installed)")
    return ExitCode.OK
