"""Brings the newest checkpoint of a job to `./results/<id>-<name>.checkpoint/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from racksack.client import Client
from racksack.errors import RacksackError
from racksack.fetching import folder_name
from racksack.text import clean, counted, print_json, say
from racksack.transport.rsync import transfer
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.units import format_memory

_OPTIONS = (
    "--recursive", "--links", "--times", "--executability", "--safe-links", "--no-devices", "--no-specials",
    "--chmod=Du+rwx,Dgo+rx,Fu+rw", "--delete", "--partial",
)  # fmt: skip


def fetch_checkpoints(client: Client, ids: Sequence[int], into: Path, *, quiet: bool, as_json: bool) -> ExitCode:
    """Bring each, print a line for each, and return the exit code."""
    failed = 0
    for job_id in ids:
        job = client.job(job_id)
        folder = into / f"{folder_name(job)}.checkpoint"
        try:
            found = client.act(job_id, "checkpoint")
            folder.mkdir(parents=True, exist_ok=True)
            host = client.target.host
            source = f"{client.target.spool}/{found['path']}/"
            transfer(host, _OPTIONS, source if host is None else f"{host}:{source}", f"{folder}/")
        except OSError as error:
            raise RacksackError(f"{clean(folder)} cannot be made: {error.strerror}") from error
        except RacksackError as error:
            failed += 1
            say(f"{job_id} {clean(job.name)}: {error}")
            continue
        if as_json:
            print_json({"id": job_id, "folder": str(folder.absolute()), **found})
        elif not quiet:
            size = f"{counted(found['files'], 'file')} {format_memory(found['bytes'])}"
            which = f"checkpoint {found['number']} of attempt {found['attempt']}"
            print(f"{job_id} {clean(job.name)}, {which}: {size} -> {clean(folder)}/")
    if not failed:
        return ExitCode.OK
    return ExitCode.NOT_FOUND if failed == len(ids) else ExitCode.PARTIAL
