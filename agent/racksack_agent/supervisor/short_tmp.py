"""TMPDIR under a short name: programs make sockets there, whose paths have 107 bytes at most.

It is a link to the attempt's own tmp/, so the space is that of the node's disk, and it goes with the attempt.
"""

from __future__ import annotations

import hashlib
import os
import re

from racksack_agent import private_tmp, records
from racksack_agent.home import AttemptFolder

_NAME = re.compile(r"t[0-9a-f]{8}")


def path_of(attempt: str) -> str:
    """The short name of the tmp/ of an attempt's folder, or that itself while it has none."""
    link, own = link_of(attempt), AttemptFolder(attempt).tmp
    try:
        return link if os.readlink(link) == own else own
    except OSError:
        return own


def make(folder: AttemptFolder) -> None:
    """Give it one. Where /tmp cannot be used, the job does without."""
    try:
        link = f"{private_tmp.folder()}/{os.path.basename(link_of(folder.path))}"
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(folder.tmp, link)
    except OSError:
        return


def remove(folder: AttemptFolder) -> None:
    """Take it away again; none is fine."""
    if path_of(folder.path) != folder.tmp:
        records.remove_file(link_of(folder.path))


def remove_stale() -> None:
    """Take away those whose attempts are gone. Raises OSError."""
    place = private_tmp.folder()
    for name in os.listdir(place):
        path = f"{place}/{name}"
        if _NAME.fullmatch(name) and os.path.islink(path) and not os.path.exists(path):
            records.remove_file(path)


def link_of(attempt: str) -> str:
    """Its place, whether or not it is there."""
    name = hashlib.sha256(os.fsencode(attempt)).hexdigest()[:8]
    return f"/tmp/racksack-{os.getuid()}/t{name}"  # noqa: S108 - see `private_tmp`
