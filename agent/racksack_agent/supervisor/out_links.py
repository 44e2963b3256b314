"""Makes the links in out/ work where out/ will be: there are no other folders of this node there.

A link to something that comes, too, leads to it by a relative path, however it was written. A link to a file of work/
that does not come becomes a copy of it. All others are dropped and named: the receiver would follow them elsewhere.
"""

from __future__ import annotations

import os

from racksack_agent.supervisor import copying, readable
from racksack_agent.supervisor.output_report import Gathered


def settle(work: str, out: str, gathered: Gathered) -> None:
    """All links below out/; the links of work/ have been moved there. Raises OSError."""
    for entry, path in list(readable.walk(out)):
        if entry.is_symlink():
            fault = _settle(work, out, path)
            if fault:
                gathered.drop(f"{path}: {fault}")
                os.unlink(entry.path)


def _settle(work: str, out: str, path: str) -> str:
    """Set one link right; why it cannot stay, or nothing."""
    link = out + "/" + path
    written = os.readlink(link)
    inner = _inside(work, out, path, written)
    if inner is None:
        return f"a link that leads out of the return folder ({written})"
    target = out + "/" + inner
    if os.path.lexists(target) and target != link:
        if written.startswith("/") or _goes_up_later(written):
            os.unlink(link)
            os.symlink(os.path.relpath(target, os.path.dirname(link)), link)
        return ""
    source = os.path.realpath(work + "/" + inner)
    if os.path.isfile(source) and source.startswith(os.path.realpath(work) + "/"):
        os.unlink(link)
        copying.copy_file(source, link)
        return ""
    if os.path.exists(work + "/" + inner):
        return f"a link to {inner}, which is not among the results"
    return f"a link to {inner}, which does not exist" if written.startswith("/") else ""


def _inside(work: str, out: str, path: str, written: str) -> str | None:
    """Where a link leads, relative to out/ or work/, which are one tree at the other end; None: out of both."""
    if written.startswith("/"):
        roots = {folder: os.path.realpath(folder) for folder in (out, work)}
        full = os.path.join(os.path.realpath(os.path.dirname(written)), os.path.basename(written))
        for folder, root in roots.items():
            for one, base in ((full, root), (os.path.normpath(written), folder)):
                if one.startswith(base + "/"):
                    return one[len(base) + 1 :]
        return None
    inner = os.path.normpath(os.path.join(os.path.dirname(path), written))
    return None if inner == ".." or inner.startswith("../") or inner == "." else inner


def _goes_up_later(written: str) -> bool:
    """Whether a relative path goes up behind a folder's name (`a/../b`), which is not followed at the other end."""
    parts = [part for part in written.split("/") if part not in ("", ".")]
    return any(one != ".." and other == ".." for one, other in zip(parts, parts[1:]))
