"""What did not come back with a job, in lines for its owner, and how to get what stayed on its node."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from racksack.text import clean, short_local
from racksack_jobspecs.units import format_memory

_SHOWN_MAX = 5


def lines(job_id: int, outputs: Mapping[str, Any] | None, folder: Path | None = None) -> Iterator[str]:
    """Lines about `outputs`, as the controller and result.json have them; what is in `folder` by now is passed over."""
    if not outputs:
        return
    dropped = [str(one) for one in outputs.get("dropped") or ()]
    yield from (f"not brought back: {clean(one)}" for one in dropped[:_SHOWN_MAX])
    if len(dropped) > _SHOWN_MAX:
        yield f"not brought back: {len(dropped) - _SHOWN_MAX} more, named in result.json"
    yield from _left(job_id, outputs, folder)


def _left(job_id: int, outputs: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    left = [one for one in outputs.get("left") or () if isinstance(one, dict)]
    still = [one for one in left if folder is None or not os.path.lexists(folder / str(one.get("path")))]
    count = int(outputs.get("left_files") or 0) - (len(left) - len(still))
    until_s = outputs.get("left_until_s")
    if count <= 0 or not still:
        return
    names = ", ".join(
        f"{clean(one.get('path'))} ({format_memory(int(one.get('bytes') or 0))})" for one in still[:_SHOWN_MAX]
    )
    more = f" and {count - len(still[:_SHOWN_MAX])} more" if count > len(still[:_SHOWN_MAX]) else ""
    files = "1 file" if count == 1 else f"{count} files"
    if until_s is not None and until_s < time.time():
        yield f"{files} did not come back and went with the job's folder: {names}{more}"
        return
    until = f" until {short_local(until_s)}" if until_s is not None else ""
    yield f"{files} stayed on the node{until}: {names}{more}"
    pattern = _pattern(still)
    too_large = any(one.get("why") == "max_output" for one in still)
    next_time = "--max-output SIZE" if too_large else f"--out '{pattern}'"
    yield f"  bring them: fetch-results {job_id} --out '{pattern}'; next time: submit {next_time}"


def _pattern(left: list[dict[str, Any]]) -> str:
    """One pattern that means these files, as far as one can."""
    paths = [str(one.get("path")) for one in left]
    if len(paths) == 1:
        return clean(paths[0])
    folders = {path.rpartition("/")[0] for path in paths}
    top = os.path.commonpath(folders) if all(folders) else ""
    return f"{clean(top)}/**" if top else "**"
