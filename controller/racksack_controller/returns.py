"""Return folders: received beside, completed, renamed into place.

`returns/<job>/` is what the latest attempt brought; folders of earlier attempts stand in its `attempts/<number>/`.
Of a gang it is what rank 0 brought, with the folders of the other ranks in it; it appears once all have come.
A folder is received under one name and renamed once it is complete, so one that was cut short is received again.
Nothing in it is taken for ours: a job may write a result.json or an attempts/ of its own, kept under another name.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from racksack_controller.acl import AclError, let_read, uid_to_open_to
from racksack_controller.core.jobs.gang import leading_rank, named
from racksack_controller.core.state import Attempt, Ending, Job
from racksack_jobspecs.bounds import UNDECODABLE
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import FINAL, JobState

log = logging.getLogger("racksack.returns")

RESULT = "result.json"
TAG = ".of"  # beside a folder that is being received: the epoch of the attempt that it is of
HISTORY = "attempts"
RANK_FOLDER = re.compile(r"rank-[0-9]+")


def are_deleted(spool: Spool, job: Job) -> bool:
    """Whether a finished job's results are gone because its owner, who has them, had the controller's copy deleted."""
    return job.state in FINAL and job.fetched and not spool.returned(job.id).exists()


class ReturnsError(Exception):
    """A return folder could not be put in place; the sentence says which and why."""


def receiving(spool: Spool, key: str) -> Path:
    """Where the folder of an attempt is received."""
    return spool.returns / f".receiving-{key}"


def received(spool: Spool, key: str) -> Path:
    """Where a completely received folder waits for its place."""
    return spool.returns / f".received-{key}"


def ready_rank(spool: Spool, key: str) -> Path:
    """Where the completely received folder of a rank of a gang waits for those of the others."""
    return spool.returns / f".rank-{key}"


def begin(spool: Spool, key: str, epoch: str) -> Path | None:
    """A folder to receive into, or None when this attempt was received completely before. Raises OSError.

    It holds what an earlier try of the very same attempt brought, so that a pull that broke off goes on.
    """
    if received(spool, key).exists() or ready_rank(spool, key).exists():
        return None
    folder = receiving(spool, key)
    tag = folder.with_name(folder.name + TAG)
    if folder.is_dir() and tag.exists() and tag.read_text() == epoch:
        return folder
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    tag.write_text(epoch)
    return folder


def remove_stale(spool: Spool, live: Container[str]) -> None:
    """Remove what was being received of attempts that were given up since; before any is received. Raises OSError."""
    for entry in spool.returns.iterdir():
        kind, _, key = entry.name.removesuffix(TAG).partition("-")
        if kind in (".receiving", ".received", ".rank", ".assembling") and key not in live:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def already_placed(spool: Spool, job: Job, attempt: Attempt) -> bool:
    """Whether `returns/<job>/` is this attempt's, from before a restart."""
    folder = spool.returned(attempt.job)
    result = read_result(folder)
    is_this = (result.get("attempt"), result.get("epoch", "")) == (attempt.number, attempt.epoch)
    return is_this and is_of(result, job)


def read_result(folder: Path) -> dict[str, Any]:
    """What result.json of a folder says; nothing where it cannot be read."""
    try:
        result = msgspec.json.decode((folder / RESULT).read_bytes())
    except (OSError, *UNDECODABLE):
        return {}
    return result if isinstance(result, dict) else {}


def is_of(result: Mapping[str, Any], job: Job) -> bool:
    """Whether a result.json is of this very job, and not of one that had the same number in another store."""
    if "key" in result:
        return bool(result["key"] == job.key)
    return (result.get("owner"), result.get("submitted_at_s")) == (job.owner, job.submitted_at_s)  # from before keys


def move_aside(spool: Spool, number: int) -> Path:
    """Rename a return folder that is not of this store's job, so that nothing of it is mixed in. Raises OSError."""
    aside = spool.returns / f"{number}.aside-{secrets.token_hex(4)}"
    spool.returned(number).rename(aside)
    log.warning("returns/%s belongs to another store's job; renamed to %s", number, aside.name)
    return aside


def complete(spool: Spool, job: Job, attempt: Attempt, note: str, energy: Mapping[str, object] | None = None) -> None:
    """Write result.json into a received folder and put the folder in place. Raises OSError or ReturnsError.

    `energy` is what the job used, as result.json shows it.
    """
    folder = received(spool, attempt.key)
    if not folder.exists():
        fresh = receiving(spool, attempt.key)
        notes = [note, *(_set_aside(fresh, name) for name in (RESULT, HISTORY))]
        result = result_of(job, attempt, "; ".join(filter(None, notes)))
        write_result(fresh, {**result, "energy": energy} if energy else result)
        let_owner_read(fresh, job.owner)
        fresh.rename(folder)
        fresh.with_name(fresh.name + TAG).unlink(missing_ok=True)
    _put_in_place(spool, job, folder)


def keep_rank(spool: Spool, attempt: Attempt) -> str:
    """The folder of one rank is complete; a note if the job used names of ours in it. Raises OSError."""
    ready, fresh = ready_rank(spool, attempt.key), receiving(spool, attempt.key)
    if ready.exists():
        return ""
    names = sorted(entry.name for entry in fresh.iterdir()) if attempt.rank == 0 else []
    ours = [name for name in names if name in (RESULT, HISTORY) or RANK_FOLDER.fullmatch(name)]
    notes = [_set_aside(fresh, name) for name in ours]
    fresh.rename(ready)
    fresh.with_name(fresh.name + TAG).unlink(missing_ok=True)
    return "; ".join(notes)


def assemble(spool: Spool, job: Job, ranks: Sequence[Attempt], energy: Mapping[str, object] | None = None) -> None:
    """Make one return folder of what the ranks of a gang brought and put it in place. Raises OSError or ReturnsError.

    Rank 0's folder is the return folder, rank 3's is `rank-3/` in it. It may be cut short anywhere and done again.
    """
    key = job.attempt_key
    whole = received(spool, key)
    if not whole.exists():
        beside = spool.returns / f".assembling-{key}"
        if not beside.exists():
            first = ready_rank(spool, key)
            first.rename(beside) if first.exists() else beside.mkdir(mode=0o700)
        for rank in ranks:
            folder = ready_rank(spool, rank.key)
            if rank.rank and folder.exists():
                folder.rename(beside / f"rank-{rank.rank}")
        # Not written inside: what is left there of a write that was cut short would stay for ever.
        result = result_of(job, leading_rank(ranks), ranks=ranks)
        whole_result = {**result, "energy": energy} if energy else result
        write_result(beside, whole_result, spool.returns / f".assembling-{key}.json")
        let_owner_read(beside, job.owner)
        beside.rename(whole)
    _put_in_place(spool, job, whole)


def _set_aside(folder: Path, name: str) -> str:
    """Give what the job itself wrote under one of our names another one; a sentence if there was any."""
    if not os.path.lexists(folder / name):
        return ""
    kept = f"{name}.job"
    while os.path.lexists(folder / kept):
        kept = f"{name}.{secrets.token_hex(4)}.job"
    (folder / name).rename(folder / kept)
    return f"the job's own {name} is kept as {kept}"


def _put_in_place(spool: Spool, job: Job, folder: Path) -> None:
    """Rename into place; the folder of an earlier attempt moves into the new one's `attempts/`."""
    final = spool.returned(job.id)
    if final.exists() and not is_of(read_result(final), job):
        move_aside(spool, job.id)
    if final.exists():
        history = folder / HISTORY
        history.mkdir(exist_ok=True)
        earlier = final / HISTORY
        for old in list(earlier.iterdir()) if earlier.is_dir() else []:
            old.rename(history / old.name)
        if earlier.is_dir():
            earlier.rmdir()
        name = str(_number_of(final))
        if (history / name).exists():  # the same number, given out again after the store was restored
            name += f"-{secrets.token_hex(4)}"
        final.rename(history / name)
    folder.rename(final)


def _number_of(folder: Path) -> int:
    """The attempt that a return folder is of."""
    try:
        return int(msgspec.json.decode((folder / RESULT).read_bytes())["attempt"])
    except (OSError, *UNDECODABLE, KeyError, TypeError, ValueError):
        return 0


def result_of(job: Job, attempt: Attempt | None, note: str = "", ranks: Sequence[Attempt] = ()) -> dict[str, object]:
    """The contents of result.json. Times are Unix seconds, sizes bytes.

    Of a gang `attempt` is the rank that speaks for the job; what was used and returned is that of all ranks.
    """
    ending = attempt.ending if attempt else None
    outcome = (ending.outcome if ending else None) or (attempt.state if ranks and attempt else job.state)
    reason = (ending.reason if ending else "") or (attempt.problem if ranks and attempt else "") or job.reason
    if ranks and attempt and outcome is not JobState.DONE and attempt.stop is None:
        reason = named(attempt, reason)
    endings = [rank.ending for rank in ranks if rank.ending] if ranks else [ending] if ending else []
    result: dict[str, object] = {
        "job": job.id,
        "key": job.key,
        "epoch": attempt.epoch if attempt else "",
        "name": job.spec.name,
        "owner": job.owner,
        "array_id": job.array_id,
        "array_index": job.array_index,
        "attempt": job.attempt,
        "node": attempt.node if attempt else None,
        "state": str(outcome),
        "reason": " ".join(filter(None, [reason, note])),
        "exit_code": ending.exit_code if ending else None,
        "signal": ending.signal if ending else None,
        "submitted_at_s": job.submitted_at_s,
        "started_at_s": ending.started_at_s if ending else None,
        "ended_at_s": ending.ended_at_s if ending else job.ended_at_s,
        "prepare_s": ending.prepare_s if ending else None,
        "ram_peak_bytes": max((one.ram_peak_bytes for one in endings if one.ram_peak_bytes is not None), default=None),
        "cpu_s": _sum(one.cpu_s for one in endings),
        "cpus": job.spec.resources.cpus,
        "ram_bytes": job.spec.resources.ram_bytes,
        "gpus": list(ending.gpu_uuids) if ending else [],
        "snapshot": job.snapshot,
        "entrypoint": job.spec.entrypoint,
        "args": list(job.spec.args),
        "output_files": sum(one.output_files for one in endings),
        "output_bytes": sum(one.output_bytes for one in endings),
        **not_brought([(rank.rank, rank.ending) for rank in ranks] if ranks else [(0, ending)]),
    }
    if ranks:
        result["ranks"] = [_rank_result(rank) for rank in ranks]
    return result


def not_brought(endings: Iterable[tuple[int, Ending | None]]) -> dict[str, object]:
    """What did not come back, by rank: what never will (`dropped`), and what stays on its node until `left_until_s`."""
    known = [(f"rank-{rank}/" if rank else "", ending) for rank, ending in endings if ending]
    until = [
        one.ended_at_s + one.left_for_s for _, one in known if one.left_files and one.ended_at_s and one.left_for_s
    ]
    return {
        "dropped": [prefix + name for prefix, one in known for name in one.dropped],
        "left": [
            {"path": prefix + left.path, "bytes": left.bytes, "why": left.why}
            for prefix, one in known
            for left in one.left
        ],
        "left_files": sum(one.left_files for _, one in known),
        "left_bytes": sum(one.left_bytes for _, one in known),
        "left_until_s": min(until, default=None),
    }


def _sum(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _rank_result(rank: Attempt) -> dict[str, object]:
    """One of `ranks` in result.json."""
    ending = rank.ending
    return {
        "rank": rank.rank,
        "node": rank.node,
        "state": str(ending.outcome if ending else rank.state),
        "reason": " ".join(filter(None, [ending.reason if ending else rank.problem, rank.note])),
        "exit_code": ending.exit_code if ending else None,
        "signal": ending.signal if ending else None,
        "started_at_s": ending.started_at_s if ending else None,
        "ended_at_s": ending.ended_at_s if ending else rank.ended_at_s,
        "ram_peak_bytes": ending.ram_peak_bytes if ending else None,
        "cpu_s": ending.cpu_s if ending else None,
        "gpus": list(ending.gpu_uuids) if ending else [],
        "output_files": ending.output_files if ending else 0,
        "output_bytes": ending.output_bytes if ending else 0,
        **not_brought([(0, ending)]),
        "folder": ("." if rank.rank == 0 else f"rank-{rank.rank}") if rank.collected else None,
    }


def write_result(folder: Path, result: dict[str, object], beside: Path | None = None) -> None:
    """Write result.json atomically, first under the name `beside`."""
    beside = beside or folder / f".{secrets.token_hex(8)}.new"  # no name that a job could have put a link under
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    beside.rename(folder / RESULT)


def ensure_returned(spool: Spool, jobs: Iterable[Job]) -> None:
    """Every finished job has a return folder, if only with a result.json, and that says what the store does.

    Raises OSError, ReturnsError.
    """
    for job in jobs:
        final = spool.returned(job.id)
        if final.exists():
            result = read_result(final)
            if not is_of(result, job):
                move_aside(spool, job.id)
            elif result.get("attempt") != job.attempt:
                _return_without_results(spool, job)  # it ended before this attempt had any
            elif result.get("state") != str(job.state):
                write_result(final, {**result, "state": str(job.state), "reason": job.reason})
                let_owner_read(final, job.owner)
        if not final.exists():
            _return_without_results(spool, job)


def _return_without_results(spool: Spool, job: Job) -> None:
    """A folder that says how the job ended, with those of earlier attempts in it. Raises OSError, ReturnsError."""
    folder = receiving(spool, f"none-{job.id}")
    folder.mkdir(mode=0o700, exist_ok=True, parents=True)
    write_result(folder, {**result_of(job, None), "state": str(job.state)})
    let_owner_read(folder, job.owner)
    _put_in_place(spool, job, folder)


def let_owner_read(folder: Path, owner: str) -> None:
    """Open a folder to the job's owner, where that is another user than the controller's. Raises ReturnsError."""
    uid = uid_to_open_to(owner)
    if uid is None:
        return
    try:
        let_read(uid, [folder], recursive=True)
    except AclError as error:
        raise ReturnsError(str(error)) from error
