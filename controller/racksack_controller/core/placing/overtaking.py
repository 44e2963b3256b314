"""Which of the jobs that a pass has started are younger than one that goes on waiting: fair share let them pass it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.placement import Placement
from racksack_controller.core.queue.job_queue import JobQueue, age_since_s
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.rack.rack import Ints
from racksack_controller.core.records import Job


def note_passing(
    placements: Sequence[Placement],
    jobs: Mapping[int, Job],
    queue: JobQueue,
    limits: Limits,
    capacity: FreeCapacity,
    attainable: Ints,
) -> None:
    """Set `passes` of those that let an older job of their priority wait.

    Who is at a limit, or can have no room before nodes change (`attainable`, see Outlook), is passed by nobody.
    """
    started = {one.job_id for one in placements}
    classes = queue.open_classes()
    classes = classes[capacity.classes_attainable(queue, classes, attainable)]
    oldest: dict[int, float] = {}  # by priority
    for index in classes.tolist():
        job_class = queue.classes[index]
        if limits.reached(job_class):
            continue
        since_s = next((since_s for since_s, job_id in queue.jobs[index] if job_id not in started), np.inf)
        oldest[job_class.priority] = min(since_s, oldest.get(job_class.priority, np.inf))
    for one in placements:
        one.passes = oldest.get(one.job_class.priority, np.inf) < age_since_s(jobs[one.job_id])
