"""The legal transitions of a job, of an attempt and of a node's power, as tables. Anything else raises.

A report from a node may skip states (a job that ends before its first report goes from staging to collecting).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from racksack_controller.core.power_records import Phase
from racksack_jobspecs.states import ACTIVE, FINAL, JobState

S = JobState
P = Phase
AnyState = TypeVar("AnyState", bound=StrEnum)

ATTEMPT: Mapping[JobState, frozenset[JobState]] = {
    S.STAGING: frozenset({S.PREPARING, S.RUNNING, S.COLLECTING}) | FINAL,
    S.PREPARING: frozenset({S.RUNNING, S.COLLECTING, S.LOST}),
    S.RUNNING: frozenset({S.COLLECTING, S.LOST}),
    S.COLLECTING: FINAL,
}

JOB: Mapping[JobState, frozenset[JobState]] = {
    S.QUEUED: frozenset({S.STAGING, S.HELD, S.CANCELLED}),
    S.HELD: frozenset({S.QUEUED, S.CANCELLED}),
    S.STAGING: ATTEMPT[S.STAGING] | {S.QUEUED},
    # A job whose end was asked for is cancelled, also when its node is lost before it could say so.
    S.PREPARING: ATTEMPT[S.PREPARING] | {S.QUEUED, S.CANCELLED},
    S.RUNNING: ATTEMPT[S.RUNNING] | {S.QUEUED, S.CANCELLED},
    S.COLLECTING: ATTEMPT[S.COLLECTING] | {S.QUEUED},
    **{final: frozenset({S.QUEUED}) for final in FINAL},  # an operator's retry
}

# A node that answers is on, and one that a device calls off is off, whatever was thought before.
POWER: Mapping[Phase, frozenset[Phase]] = {
    P.UNKNOWN: frozenset({P.OFF, P.BOOTING, P.ON, P.STOPPING}),
    P.OFF: frozenset({P.BOOTING, P.ON, P.UNKNOWN, P.SET_ASIDE}),
    P.BOOTING: frozenset({P.ON, P.OFF, P.STOPPING, P.SET_ASIDE}),
    P.ON: frozenset({P.STOPPING, P.OFF, P.UNKNOWN, P.BOOTING}),
    P.STOPPING: frozenset({P.OFF, P.ON, P.SET_ASIDE}),
    P.SET_ASIDE: frozenset({P.BOOTING, P.ON, P.OFF, P.STOPPING, P.UNKNOWN}),
}


class IllegalTransitionError(Exception):
    """A record was asked to change in a way that no table allows: a fault of the controller itself."""


def check(table: Mapping[AnyState, frozenset[AnyState]], old: AnyState, new: AnyState, what: str) -> None:
    """Raise IllegalTransitionError unless `table` allows `what` to go from `old` to `new`."""
    if new not in table.get(old, frozenset()):
        raise IllegalTransitionError(f"{what} cannot go from {old} to {new}")


def holds_resources(state: JobState) -> bool:
    """Whether an attempt in this state occupies its allocation: until its program has ended."""
    return state in ACTIVE and state is not JobState.COLLECTING
