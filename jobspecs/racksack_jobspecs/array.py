"""A job array -> the specs of its jobs."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from racksack_jobspecs.spec import ArraySpec, JobSpec

INDEX_VARIABLE = "RACKSACK_ARRAY_INDEX"


def expand(spec: JobSpec) -> Iterator[JobSpec]:
    """One spec for each index of an array, in order; the spec itself when it is none.

    Each has an array of its own single index with the array's `max_running`, and finds the index in
    RACKSACK_ARRAY_INDEX. Nothing else differs: all of them are one shape to the scheduler and share one snapshot.
    """
    if spec.array is None:
        yield spec
        return
    for index in spec.array.indices:
        env = {**spec.env, INDEX_VARIABLE: str(index)}
        yield msgspec.structs.replace(spec, env=env, array=ArraySpec((index,), spec.array.max_running))
