"""Gangs: one job on several nodes at once, a rank on each; all or nothing.

Each rank is an `Attempt` record of its own with the job and number of the others, so that everything that is asked of a
node (start, stop, collect, remove) is asked for each rank as for any attempt. What ranks have to do with each other is
here: where they meet, when they may start, that the end of one is the end of all, and which of them speaks for the job.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from racksack_controller.core.events import Placed
from racksack_controller.core.records import Attempt, Job, Stop
from racksack_controller.core.state import State
from racksack_jobspecs.states import ACTIVE, FINAL, JobState

PORT_FIRST = 20_000  # below what systems give out themselves (from 32768)
PORTS_EACH = 10  # the rendezvous and nine more that the gang may use
PORT_BLOCKS = 1000
_ORDER = (JobState.STAGING, JobState.PREPARING, JobState.RUNNING, JobState.COLLECTING)


def attempts_of(state: State, placed: Placed, job: Job, now: float) -> list[Attempt]:
    """The records of a placement: one, or one for each rank of a gang."""
    parts = [(placed.node, placed.allocation), *((part.node, part.allocation) for part in placed.rest)]
    number = job.attempt + 1
    return [
        Attempt(
            job=job.id,
            number=number,
            node=node,
            state=JobState.STAGING,
            allocation=allocation,
            placed_at_s=now,
            epoch=state.epoch,
            why=placed.why,
            host=state.nodes[node].address or node,
            port=0 if rank else _port(state, job.id, number, node),
            rank=rank,
            ranks=len(parts),
        )
        for rank, (node, allocation) in enumerate(parts)
    ]


def _port(state: State, job: int, number: int, node: str) -> int:
    """The first port of a block that no other attempt whose rank 0 is on this node has."""
    taken = {attempt.port for attempt in state.on_node(node)}
    first = (job + 101 * (number - 1)) % PORT_BLOCKS  # a new attempt must not meet what is left of the one before
    ports = (PORT_FIRST + PORTS_EACH * ((first + step) % PORT_BLOCKS) for step in range(PORT_BLOCKS))
    return next((port for port in ports if port not in taken), PORT_FIRST + PORTS_EACH * first)


def job_state(ranks: Sequence[Attempt]) -> JobState:
    """What the job shows while not all is over: where the rank is that has come least far."""
    return min((rank.state for rank in ranks if rank.state in ACTIVE), key=_ORDER.index, default=JobState.COLLECTING)


def may_start(ranks: Sequence[Attempt]) -> bool:
    """Whether all are prepared, so that none has to wait for another once its program runs."""
    return all(rank.prepared or rank.started_at_s is not None or _outcome(rank) is JobState.DONE for rank in ranks)


def has_come(ranks: Sequence[Attempt]) -> bool:
    """Whether the folder of every rank is here or will never come, and there is any to put in place."""
    waits = [rank for rank in ranks if rank.state not in FINAL]
    return bool(waits) and all(rank.collected for rank in waits)


def is_over(ranks: Sequence[Attempt]) -> bool:
    """Whether every rank has reached its final state."""
    return all(rank.state in FINAL for rank in ranks)


def ask_to_end(state: State, attempt: Attempt, stop: Stop) -> list[Attempt]:
    """Wish the end of all ranks that run; those that no node has yet and that the caller has to close."""
    unsent = []
    for rank in state.ranks(attempt):
        if rank.state in FINAL or rank.state is JobState.COLLECTING:
            continue
        if rank.stop is not None and (stop.of_gang or stop.requeue):
            continue  # it is being ended; only its owner's word still changes what becomes of it
        if rank.launched or rank.state is not JobState.STAGING:
            state.put_attempt(replace(rank, stop=stop))
        else:
            unsent.append(replace(rank, stop=stop))
    return unsent


def named(rank: Attempt, sentence: str) -> str:
    """`sentence`, said of a rank."""
    return f"rank {rank.rank} on {rank.node}: {sentence}" if rank.ranks > 1 else sentence


def leading_rank(ranks: Sequence[Attempt]) -> Attempt:
    """The rank whose end is the job's: one that its owner ended, else the one that ended by itself and not well."""

    def order(rank: Attempt) -> tuple[bool, bool, int]:
        by_owner = rank.stop is not None and not rank.stop.of_gang and not rank.stop.requeue
        return (not by_owner, rank.stop is not None, rank.rank)

    own = [rank for rank in ranks if _outcome(rank) is not JobState.DONE and not (rank.stop and rank.stop.of_gang)]
    return min(own, key=order, default=ranks[0])


def _outcome(rank: Attempt) -> JobState | None:
    """How a rank ended, also while the others go on; None while it runs."""
    if rank.state in FINAL:
        return rank.state
    return rank.ending.outcome if rank.ending is not None else None


def waits_for(ranks: Sequence[Attempt]) -> str:
    """Why ranks that are prepared do not start, in one sentence."""
    late = [rank for rank in ranks if not rank.prepared and rank.started_at_s is None]
    if not late or len(late) == len(ranks):
        return ""
    return f"{len(ranks) - len(late)} of {len(ranks)} ranks are prepared; rank {late[0].rank} on {late[0].node} is not"
