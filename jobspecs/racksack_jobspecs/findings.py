"""What a check found: the words that client, controller and commands use for it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

CLOCK_SKEW_S_MAX = 5.0


class Verdict(StrEnum):
    """How what was looked at is. `not_looked_at`: something before it failed, or the time was over."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_LOOKED_AT = "not_looked_at"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at; of a warning or a failure the sentence also says how to fix it."""

    what: str
    verdict: Verdict
    sentence: str
    part: str = ""  # client, controller, nodes or jobs, where several are looked at


def ok(what: str, sentence: str) -> Finding:
    """It is as it should be."""
    return Finding(what, Verdict.OK, sentence)


def warning(what: str, sentence: str) -> Finding:
    """Jobs run, but not as well as they could, or not for long."""
    return Finding(what, Verdict.WARNING, sentence)


def failed(what: str, sentence: str) -> Finding:
    """Jobs do not run, or not all of them."""
    return Finding(what, Verdict.FAILED, sentence)


def not_looked_at(what: str, sentence: str) -> Finding:
    """Why nothing can be said about it."""
    return Finding(what, Verdict.NOT_LOOKED_AT, sentence)


def clock(what: str, skew_s: float, whose: str) -> Finding:
    """How far a clock is ahead of another one, in seconds; `whose` says of which: `the controller's`."""
    if abs(skew_s) > CLOCK_SKEW_S_MAX:
        return warning(what, f"is {skew_s:+.0f} s off {whose}; run an NTP client on both")
    return ok(what, f"within {CLOCK_SKEW_S_MAX:.0f} s of {whose}")


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether one of them is a failure."""
    return any(finding.verdict is Verdict.FAILED for finding in findings)


def of_part(part: str, findings: Iterable[Finding]) -> list[Finding]:
    """The same findings, each with the part that it belongs to."""
    return [msgspec.structs.replace(finding, part=part) for finding in findings]
