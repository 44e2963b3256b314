"""`limits:` of racksack.yaml: the most that one user may have in the spool at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from racksack_jobspecs.readers import MEMORY, Field, whole_of


class Limits(msgspec.Struct, frozen=True):
    """What one user may have; what goes beyond is refused with a sentence."""

    jobs: int = 100_000
    sweeps: int = 200
    upload_bytes: int = 100 * 1024**3
    upload_files: int = 1_000_000


DEFAULT_LIMITS = Limits()
LIMITS_FIELDS = (
    Field("jobs", whole_of(1, 10_000_000, "a number of jobs"), "Unfinished jobs of one user.", "5000", "100000"),
    Field(
        "sweeps",
        whole_of(1, 100_000, "a number of sweeps"),
        "Unfinished sweeps of one user; each 20,000 values of parameters count as one more.",
        "20",
        "200",
    ),
    Field("upload", MEMORY, "The size of one upload; holes of sparse files count in full.", "20G", "100G"),
    Field("files", whole_of(1, 100_000_000, "a number of files"), "Files of one upload.", "50000", "1000000"),
)


def limits_of(values: Mapping[str, Any]) -> Limits:
    """The limits, with defaults filled in."""
    named = {"jobs": "jobs", "sweeps": "sweeps", "upload": "upload_bytes", "files": "upload_files"}
    return Limits(**{named[key]: value for key, value in values.items()})
