"""Content that attempts need on their nodes, as the controller has it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from racksack_jobspecs.snapshot import digest_of, manifest_of

log = logging.getLogger("racksack.edge")


class Content(NamedTuple):
    """One content of the spool."""

    what: str  # for a sentence
    path: Path
    of: int | None = None  # of a checkpoint: the job

    def is_whole(self, digest: str) -> bool:
        """Whether it is what its digest says; else it is renamed away, so that nobody gets it again. For a thread."""
        try:
            if digest_of(manifest_of(self.path)) == digest:
                return True
            self.path.rename(self.path.with_name(f".gone-{digest}"))
        except (OSError, ValueError) as error:
            log.warning("content=%s cannot be read: %s", digest[:12], error)
        return False
