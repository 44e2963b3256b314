"""The stages of a job with their times, for its page: plain values. No I/O."""

from __future__ import annotations

from racksack_controller.web.views import View


def stages(job: View, now: float) -> list[View]:
    """`[{name, at_s, took_s, share, is_now}]` of the latest attempt: waited, prepared, ran, collected.

    `job`: a job's story. `share` is the part of the whole time, from 0 to 1; `took_s` of the present stage grows.
    """
    attempts = [one for one in job["attempts"] if one["number"] == job["attempt"]]
    attempt = attempts[0] if attempts else None
    placed = attempt["placed_at_s"] if attempt else None
    started = attempt["started_at_s"] if attempt else None
    ended = attempt["ended_at_s"] if attempt else None
    over = job["ended_at_s"]
    marks = [("waited", job["submitted_at_s"], placed or over), ("prepared", placed, started or ended or over)]
    marks += [("ran", started, ended or over), ("collected", ended, over)]
    found = [_stage(name, at_s, until_s, now) for name, at_s, until_s in marks if at_s is not None]
    whole = sum(one["took_s"] for one in found) or 1.0
    return [{**one, "share": one["took_s"] / whole} for one in found]


def _stage(name: str, at_s: float, until_s: float | None, now: float) -> View:
    is_now = until_s is None
    return {
        "name": name,
        "at_s": at_s,
        "took_s": max(0.0, (now if until_s is None else until_s) - at_s),
        "is_now": is_now,
    }
