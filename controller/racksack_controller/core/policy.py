"""How the scheduler is to decide: one frozen value, built from the configuration and handed to every pass."""

from __future__ import annotations

from enum import StrEnum

import msgspec

DAY_S = 86400.0


class Backfill(StrEnum):
    """What may start before a job that is ahead in the queue and does not fit yet."""

    NONE = "none"  # nothing: first come, first served
    EASY = "easy"  # what does not delay the first job that waits
    CONSERVATIVE = "conservative"  # what does not delay any job that waits
    GREEDY = "greedy"  # whatever fits; a large job may wait for ever


class BackfillOrder(StrEnum):
    """Which of the jobs that may be backfilled is tried first."""

    QUEUE = "queue"
    SHORTEST = "shortest"  # Tsafrir et al., see history
    EXPANSION = "expansion"  # the longest wait in relation to the run time (Srinivasan et al., JSSPP 2002)


class Rule(StrEnum):
    """On which of the nodes with room a job is placed."""

    FRAGMENTATION = "fragmentation"  # shared devices: where least is left that the usual jobs cannot use; else best fit
    BEST_FIT = "best_fit"  # where the least is left of the scarcest resource
    L2 = "l2"  # where the sum of squares of what is left is the least
    DOT_PRODUCT = "dot_product"  # where what is free points most in the direction of what is asked
    FIRST_FIT = "first_fit"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The knobs of the scheduler."""

    backfill: Backfill = Backfill.EASY
    backfill_order: BackfillOrder = BackfillOrder.EXPANSION
    predict: bool = True  # run times from history, never above the time limit; False: time limits alone
    patience_s: float = 3600.0  # a job that has waited so long is guarded by time limits, not by predictions
    aging_s: float = DAY_S  # once the first job has waited so long, those that came little later go by age, too
    default_time_limit_s: float = 7 * DAY_S  # of jobs that name none
    rule: Rule = Rule.FRAGMENTATION
    fair_share: bool = False  # owners who have used less than their share of late come first
    shares: dict[str, float] = {}  # owner -> share; 1 for everybody else
    max_running_per_owner: int | None = None
    partition_limits: dict[str, int] = {}  # partition -> jobs of one owner that may run in it at once
    placements_max: int = 1000  # placements of one pass; the rest follows in the next, so that a pass stays short
    reservations_max: int = 200  # jobs that conservative backfill makes reservations for in one pass
    preempt: bool = False


DEFAULT = Policy()
TEXTBOOK_EASY = Policy(backfill_order=BackfillOrder.QUEUE, predict=False)
