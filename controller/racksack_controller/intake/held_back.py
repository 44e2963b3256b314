"""What a job that is to be submitted waits for by its own wish, as its receipt says it."""

from __future__ import annotations

from racksack_jobspecs.spec import JobSpec

_MET = {
    "ok": "{} is done",
    "any": "{} has ended",
    "notok": "{} has failed",
    "corr": "the same elements of {} are done",
    "singleton": "earlier jobs of its name have ended",
}


def held_back(spec: JobSpec) -> str:
    """What a job waits for by its own wish, before any node matters; empty: nothing."""
    if spec.hold:
        return "it is held until `racksack release`"
    if spec.after:
        return f"it starts once {', '.join(_MET[one.condition].format(one.job) for one in spec.after[:3])}"
    return ""
