"""What the request handlers read and ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from aiohttp import web

from racksack_controller.checks.doctor import Doctor
from racksack_controller.config.changes import ConfigChanges
from racksack_controller.core.power_records import Phase
from racksack_controller.core.state import Attempt, Job, State
from racksack_controller.effects.connector import Connector
from racksack_controller.effects.power_nodes import PowerNodes
from racksack_controller.intake.accept import Intake
from racksack_controller.leftovers import Leftovers
from racksack_controller.loop import Loop
from racksack_controller.news import ChangeBus
from racksack_controller.nodes.node import Node
from racksack_controller.pruning import runners_of
from racksack_controller.sandbox.pool import Sandbox
from racksack_controller.store import Store, jobs_by_id, last_attempts
from racksack_controller.sweeps.manager import Sweeps
from racksack_controller.sweeps.rate import Paces
from racksack_controller.sweeps.results.ledger import sweep_by_id
from racksack_controller.threads import Threads
from racksack_controller.web.caller import Caller, caller_of, forbidden, refusal
from racksack_controller.web.privacy import Hidden, job_for
from racksack_controller.web.sessions import Sessions
from racksack_controller.web.tokens import Tokens
from racksack_controller.web.views import View, job_view
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import ACTIVE, ExitCode

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SHOWN_RUNNERS = 5  # of a sweep, the latest ones
FIRST_CALL_S = 2.0  # a node that answers for the first time since the controller's start is waited for so long
VIEWS_AT_ONCE = 50  # of a long list, without a pause for others
WHY_FOR = 50  # waiting jobs whose reason is worked out for a list; the others are explained when asked for


class Context(msgspec.Struct):
    """Handed to every handler through the aiohttp application."""

    loop: Loop
    store: Store
    spool: Spool
    news: ChangeBus
    nodes: Mapping[str, Node]
    connectors: Mapping[str, Connector]
    power: PowerNodes
    sweeps: Sweeps
    leftovers: Leftovers
    paces: Paces
    intake: Intake
    operators: frozenset[str]
    tokens: Tokens
    sessions: Sessions
    hidden: Hidden
    web_address: str
    version: str
    started_at_s: float
    doctor: Doctor
    sandbox: Sandbox
    files: Threads  # for all that touches the disk on behalf of a request
    stop: Callable[[], None]
    reload: Callable[[bool], Awaitable[ConfigChanges]]  # whether running jobs may be lost

    @property
    def state(self) -> State:
        """What is known."""
        return self.loop.state

    async def nodes_called(self) -> None:
        """Wait for a moment until each node that may be on has answered, or failed to, since the controller's start."""

        def all_called() -> bool | None:
            off = {name for name, power in self.state.power.items() if power.phase not in (Phase.ON, Phase.UNKNOWN)}
            nodes = self.state.nodes.items()
            return all(node.connection_since_s for name, node in nodes if name not in off) or None

        await self.news.until(all_called, FIRST_CALL_S)

    def caller(self, request: web.Request) -> Caller:
        """Who asks."""
        return caller_of(request, self.operators, self.tokens, self.sessions)

    async def job(self, job_id: int) -> Job:
        """A job from memory or the store; a 404 when there is none."""
        job = self.state.jobs.get(job_id)
        if job is not None:
            return job
        found = await self.store.read(lambda connection: jobs_by_id(connection, [job_id]))
        if not found and self.store.look(lambda connection: sweep_by_id(connection, job_id)) is not None:
            runners = await self.store.read(lambda connection: runners_of(connection, job_id))
            shown = " ".join(map(str, runners[-SHOWN_RUNNERS:]))
            theirs = (
                f"; what its points printed is in the logs of its runners: `racksack logs {shown}`" if runners else ""
            )
            raise refusal(
                f"{job_id} is a sweep; see `racksack sweep status {job_id}` and `sweep points {job_id}`{theirs}",
                ExitCode.REFUSED,
            )
        if not found:
            raise refusal(f"there is no job {job_id}", ExitCode.NOT_FOUND)
        return found[0]

    async def owned_job(self, request: web.Request) -> tuple[Job, Caller]:
        """The job of the address, for a caller who may change it."""
        job, caller = await self.job(job_id_of(request)), self.caller(request)
        if not caller.owns(job):
            raise forbidden(f"job {job.id} belongs to {job.owner}; only its owner or an operator may do this")
        return job, caller

    def may_read(self, request: web.Request, job: Job) -> bool:
        """Whether the caller may see what the job wrote and what it was given."""
        return self.caller(request).owns(job)

    async def job_views(self, jobs: list[Job], caller: Caller) -> list[View]:
        """Views of jobs with their latest attempts, as the caller may see them; the first waiting ones say why."""
        ranks = await self.ranks_of(jobs)
        reading, explained, views = self.loop.reading(), 0, []
        for job in jobs:
            explain = job.state in ACTIVE or explained < WHY_FOR
            explained += job.state not in ACTIVE
            view = job_view(job, ranks[job.id], self.state, self.spool, reading if explain else None)
            views.append(job_for(caller, view, self.hidden))
            if len(views) % VIEWS_AT_ONCE == 0:
                await asyncio.sleep(0)  # others have their turn
        return views

    async def ranks_of(self, jobs: Sequence[Job]) -> dict[int, list[Attempt]]:
        """The ranks of the latest attempt of each job, by job id; none before the first."""
        ranks = {job.id: self._ranks_in_memory(job) for job in jobs}
        stored = [job for job in jobs if job.attempt and not ranks[job.id]]
        if stored:
            ranks |= await self.store.read(lambda connection: last_attempts(connection, stored))
        return ranks

    def _ranks_in_memory(self, job: Job) -> list[Attempt]:
        """None where one has left memory: those of an ended gang go in turn."""
        current = self.state.attempts.get(job.attempt_key)
        ranks = self.state.ranks(current) if current is not None else []
        return ranks if current is not None and len(ranks) == current.ranks else []


CONTEXT = web.AppKey("context", Context)


def job_id_of(request: web.Request) -> int:
    """The job id in the address; a 404 when it is not a number that an id can be."""
    text = request.match_info["id"]
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise refusal(f"{text[:40]!r} is not a job id", ExitCode.NOT_FOUND)
    return int(text)
