"""Carries actions out on the nodes, in groups, and posts what came of each as an event.

Every action ends in exactly one event and one `Loop.finished`, whatever happens. It has no opinions: when to try
again is the core's to say.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path

from racksack_controller import returns
from racksack_controller.config.config import Keep
from racksack_controller.config.secrets import JobSecret, values_of
from racksack_controller.core import events as ev
from racksack_controller.core.actions import (
    Assemble,
    AttemptAction,
    BringCheckpoint,
    Collect,
    Go,
    Remove,
    Start,
    StopAttempt,
)
from racksack_controller.core.jobs.requeue import grace_of
from racksack_controller.core.state import Attempt, Job
from racksack_controller.effects.checkpoints import Checkpoints, checkpoint_order
from racksack_controller.effects.content import Content
from racksack_controller.effects.job_env import job_env
from racksack_controller.effects.slurm_order import slurm_order
from racksack_controller.loop import Loop
from racksack_controller.nodes.errors import AgentError, NodeError, NodeUnreachable, TransferFailed
from racksack_controller.nodes.node import DataOrder, GpuGrant, LaunchOrder, LaunchReply, Node
from racksack_controller.nodes.settings import SlurmSettings
from racksack_controller.nodes.staging import DIFFERS
from racksack_controller.power.secret import SecretError
from racksack_controller.store import StoreError
from racksack_jobspecs import durable
from racksack_jobspecs.environments.plan import Plan, PlanError, plan_of
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import Environment, JobSpec
from racksack_jobspecs.states import JobState

log = logging.getLogger("racksack.edge")

GO_WITHIN_S = 7200.0  # so long a prepared rank waits for the others of its gang
MEASURED_BYTES = 8 * 1024**2  # a smaller transfer says nothing about the link
COLLECT_BATCH = 200  # attempts whose folders are pulled by one request

PlanOf = Callable[[Job, str], dict[str, object] | None]  # of the runner of a sweep on a node; None: of any other job
EnergyOf = Callable[[str, Sequence[int]], Awaitable[Mapping[int, Mapping[str, object]]]]
"""What jobs used that have just ended on a node, by job, as their result.json shows it."""


class AttemptEffects:
    """The effects on nodes. `nodes` is shared with the connector, which opens and closes them; `slurm_of`: of those
    that are clusters.
    """

    def __init__(
        self,
        loop: Loop,
        spool: Spool,
        nodes: Mapping[str, Node],
        node_env: Mapping[str, dict[str, str]],
        slurm_of: Mapping[str, SlurmSettings],
        energy_of: EnergyOf,
        *,
        plan_of: PlanOf,
        before_collect: Callable[[Attempt], Awaitable[None]],
    ) -> None:
        self._loop = loop
        self._spool = spool
        self._nodes = nodes
        self._node_env, self._slurm_of = node_env, slurm_of
        self._energy_of = energy_of
        self._checkpoints = Checkpoints(spool)
        self._tasks: set[asyncio.Task[None]] = set()
        self.placed: set[str] = set()  # attempts whose return folder is in place and whose job has not ended yet
        self.keep = Keep()
        self.secrets: Mapping[str, JobSecret] = {}
        self._plan_of, self._before_collect = plan_of, before_collect

    def start(self, actions: Sequence[AttemptAction]) -> None:
        """Begin these actions, those of one kind on one node together."""
        groups: dict[tuple[type[AttemptAction], str, str], list[AttemptAction]] = defaultdict(list)
        for action in actions:
            digest = self._digest(action) if isinstance(action, Start) else ""
            groups[type(action), action.node, digest].append(action)
        for (kind, node, _digest), group in groups.items():
            for first in range(0, len(group), COLLECT_BATCH):
                self._spawn(self._carry_out(kind, node, group[first : first + COLLECT_BATCH]))

    async def close(self) -> None:
        """Give up what is under way; it is asked for again after a restart."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _digest(self, action: AttemptAction) -> str:
        """Names the content that an attempt needs: those of one content are started together."""
        job = self._loop.state.jobs.get(self._loop.state.attempts[action.attempt].job)
        return " ".join(self._contents(job)) if job else ""

    def _contents(self, job: Job) -> dict[str, Content]:
        """All content that an attempt needs on its node, by digest; not data that lies there."""
        snapshots = self._spool.snapshots
        contents = {job.snapshot: Content("project snapshot", snapshots / job.snapshot)}
        for one in job.data:
            contents[one.digest] = Content(f"data set {one.name}", snapshots / one.digest)
        for saved in job.checkpoints[-1:]:
            contents[saved.digest] = Content("checkpoint", self._spool.checkpoint(job.id, saved.digest), of=job.id)
        contents.pop("", None)
        return contents

    async def _carry_out(self, kind: type[AttemptAction], node_name: str, group: Sequence[AttemptAction]) -> None:
        node = self._nodes.get(node_name)
        try:
            if kind is Assemble:
                await self._assemble(group)
            elif node is None:
                raise NodeUnreachable(f"{node_name} is not in the configuration")
            elif kind is Start:
                await self._start(node, group)
            elif kind is Go:
                await self._go(node, group)
            elif kind is Collect:
                await self._collect(node, group)
            elif kind is BringCheckpoint:
                await self._bring_checkpoints(node, group)
            elif kind is Remove:
                await self._remove(node, group)
            else:
                await self._stop(node, group)
        except (NodeError, StoreError) as error:
            self._failed(group, str(error))
        except Exception as error:  # an action must end in an event, or it would stay under way for ever
            log.exception("%s on %s failed unexpectedly", kind.__name__, node_name)
            self._failed(group, f"the controller could not do it: {error!r}; see its log")
        finally:
            for action in group:
                self._loop.finished(action)

    def _failed(self, group: Sequence[AttemptAction], sentence: str) -> None:
        for action in group:
            log.warning("failed action=%s reason=%s", action.key, sentence)
            self._loop.post(_failure(action, sentence))

    async def _start(self, node: Node, group: Sequence[AttemptAction]) -> None:
        wanted = [pair for pair in map(self._job_of, group) if pair is not None]
        if not wanted:
            return
        job = wanted[0][0]
        contents = self._contents(job)
        for digest, content in contents.items():
            if not content.path.is_dir():
                self._content_lost(group, digest, content, "missing from the spool")
                return
        try:
            await self._stage(node, contents)
        except TransferFailed as error:
            self._start_failed(group, "controller" if error.kind == "unreachable" else "node", str(error))
            return
        except AgentError as error:
            for digest, content in contents.items():
                if error.kind == DIFFERS and not await asyncio.to_thread(content.is_whole, digest):
                    self._content_lost(group, digest, content, "damaged")
                    return
            self._start_failed(group, "node", str(error))
            return
        source = self._spool.snapshots / job.snapshot
        orders = await self._orders(wanted, source)
        for reply in await self._launch(node, contents, orders):
            if reply.ok:
                self._loop.post(ev.Launched(reply.attempt))
            else:
                self._loop.post(ev.StartFailed(reply.attempt, "node", reply.error or "it was refused"))

    async def _stage(self, node: Node, contents: Mapping[str, Content]) -> None:
        """Send what the node does not have. Raises TransferFailed, AgentError."""
        for digest, content in contents.items():
            sent = await node.stage(digest, content.path)
            if sent is not None and sent.size_bytes >= MEASURED_BYTES:
                self._loop.post(ev.Transferred(node.name, sent.size_bytes, sent.seconds))

    def _content_lost(self, group: Sequence[AttemptAction], digest: str, content: Content, what: str) -> None:
        """The controller's copy is no good. Without a checkpoint a job goes on from the one before, or begins anew."""
        if content.of is not None:
            self._loop.post(ev.CheckpointDamaged(content.of, digest))
            self._start_failed(group, "controller", f"its checkpoint {digest[:12]} is {what}")
        elif what == "damaged":
            sentence = f"the spool's copy of the {content.what} {digest[:12]} is damaged; submit it again"
            self._start_failed(group, "job", sentence)
        else:
            self._start_failed(group, "job", f"the {content.what} {digest[:12]} is {what}")

    async def _launch(
        self, node: Node, contents: Mapping[str, Content], orders: Sequence[LaunchOrder]
    ) -> list[LaunchReply]:
        """Launch; once more with the content sent again where the node lacks it: a job or a person may have removed
        what was there.
        """
        replies = await node.launch(orders)
        lacking = {reply.attempt for reply in replies if reply.kind == "no_snapshot"}
        if not lacking:
            return replies
        try:
            for digest, content in contents.items():
                await node.stage(digest, content.path)
        except (TransferFailed, AgentError) as error:
            log.warning("content that %s lacks could not be sent again: %s", node.name, error)
            return replies
        again = await node.launch([order for order in orders if order.attempt in lacking])
        return [reply for reply in replies if reply.attempt not in lacking] + again

    def _start_failed(self, group: Sequence[AttemptAction], fault: str, sentence: str) -> None:
        for action in group:
            log.warning("failed action=%s reason=%s", action.key, sentence)
            self._loop.post(ev.StartFailed(action.attempt, fault, sentence))

    def _job_of(self, action: AttemptAction) -> tuple[Job, Attempt] | None:
        attempt = self._loop.state.attempts.get(action.attempt)
        job = self._loop.state.jobs.get(attempt.job) if attempt else None
        if job is None or attempt is None or len(self._loop.state.ranks(attempt)) != attempt.ranks:
            return None  # it is over, and nobody waits for it any more
        return job, attempt

    async def _orders(self, wanted: Sequence[tuple[Job, Attempt]], source: Path) -> list[LaunchOrder]:
        """What is to be launched; a job of which a secret is missing fails alone."""

        def read() -> list[tuple[Plan, dict[str, str] | SecretError]]:
            return [(environment_of(source, job.spec), self._secrets_of(job)) for job, _ in wanted]

        orders = []
        for (job, attempt), (plan, secrets) in zip(wanted, await asyncio.to_thread(read), strict=True):
            if not self._is_wanted(attempt):
                continue
            if isinstance(secrets, SecretError):
                self._loop.post(ev.StartFailed(attempt.key, "controller", str(secrets)))
            else:
                orders.append(self._order(job, attempt, plan, secrets))
        return orders

    def _secrets_of(self, job: Job) -> dict[str, str] | SecretError:
        try:
            return values_of(job.spec, job.owner, self.secrets)
        except SecretError as error:
            return error

    def _is_wanted(self, attempt: Attempt) -> bool:
        """Whether it is still to be launched: while its content was sent, its job may have been cancelled."""
        now = self._loop.state.attempts.get(attempt.key)
        is_known = now is not None and now.epoch == attempt.epoch and now.state is JobState.STAGING and now.stop is None
        return is_known and len(self._loop.state.ranks(attempt)) == attempt.ranks

    def _order(self, job: Job, attempt: Attempt, environment: Plan, secrets: dict[str, str]) -> LaunchOrder:
        spec = job.spec
        devices = {gpu.uuid: gpu for gpu in self._loop.state.nodes[attempt.node].gpus}
        held = [devices[uuid] for uuid in attempt.allocation.gpus if uuid in devices]
        return LaunchOrder(
            attempt=attempt.key,
            job_id=job.id,
            epoch=attempt.epoch,
            name=spec.name,
            node=attempt.node,
            digest=job.snapshot,
            entrypoint=spec.entrypoint,
            args=spec.args,
            env=job_env(job, attempt, self._loop.state.ranks(attempt)),
            secrets=secrets,
            node_env=self._node_env.get(attempt.node, {}),
            cpus=attempt.allocation.cpus,
            ram_bytes=attempt.allocation.ram_bytes,
            gpus=tuple(GpuGrant(uuid=gpu.uuid, index=gpu.index, vendor=gpu.vendor) for gpu in held),
            time_limit_s=spec.time_limit_s,
            environment=environment,
            outputs=spec.outputs,
            max_output_bytes=spec.max_output_bytes,
            shared=spec.shared,
            stage_in_ram=spec.stage_in_ram,
            data=tuple(DataOrder(one.name, one.digest, one.source, one.path) for one in job.data),
            checkpoint=checkpoint_order(job, attempt),
            sweep=self._plan_of(job, attempt.node),
            submitted_at_s=job.submitted_at_s,
            grace_s=grace_of(job),
            warn_s=spec.warn_s or None,
            warn_signal=spec.warn_signal,
            interactive=spec.interactive,
            slurm_env=spec.slurm_env,
            slurm=slurm_order(self._slurm_of[attempt.node], job, held) if attempt.node in self._slurm_of else None,
            new_files=spec.new_files,
            keep_left_s=self.keep.left_s,
            keep_left_bytes=self.keep.left_size_bytes,
            go_within_s=GO_WITHIN_S if attempt.ranks > 1 else None,
        )

    async def _go(self, node: Node, group: Sequence[AttemptAction]) -> None:
        await node.go([action.attempt for action in group])
        for action in group:
            self._loop.post(ev.GoSent(action.node, action.attempt))

    async def _collect(self, node: Node, group: Sequence[AttemptAction]) -> None:
        wanted = {attempt.key: (job, attempt) for job, attempt in filter(None, map(self._job_of, group))}
        notes = dict.fromkeys(wanted, "")
        for job, attempt in wanted.values():
            if job.spec.runner_of is not None:
                await self._before_collect(attempt)
        for key in await self._bring_last(node, list(wanted.values()), notes):
            del wanted[key]
        folders = await asyncio.to_thread(self._folders, list(wanted.values()))
        for key, (_, attempt) in wanted.items():
            if attempt.stop is not None and attempt.stop.discard:
                folders.pop(key, None)
                notes[key] = "what it wrote was not wanted and did not come back"
        if folders:
            for key, reply in (await node.collect(folders)).items():
                if reply.ok:
                    notes[key] = "; ".join(filter(None, (notes[key], *reply.notes)))
                else:
                    del wanted[key]
                    log.warning("failed action=Collect:%s reason=%s", key, reply.error)
                    passing = reply.kind in ("unreachable", "disk_full")
                    said = reply.error or reply.kind
                    gone = reply.kind in ("gone", "damaged")
                    self._loop.post(ev.CollectFailed(key, said, gone=gone, counts=not passing))
        jobs = [job.id for job, _ in wanted.values()]
        energy = await self._energy_of(node.name, jobs)
        failed = await asyncio.to_thread(self._complete, list(wanted.values()), notes, energy)
        for key in wanted:
            if key in failed:
                self._loop.post(ev.CollectFailed(key, failed[key]))
            else:
                self.placed.add(key)
                self._loop.post(ev.Collected(key, notes[key]))

    async def _bring_last(self, node: Node, pairs: Sequence[tuple[Job, Attempt]], notes: dict[str, str]) -> list[str]:
        """Bring the last checkpoints of attempts that have not ended well, before anything of them is removed; gives
        those that are to be tried again later.
        """
        postponed = []
        for job, attempt in pairs:
            is_unwanted = attempt.stop is not None and attempt.stop.discard
            if is_unwanted or (attempt.ending is not None and attempt.ending.outcome is JobState.DONE):
                continue
            event, note, again = await self._checkpoints.bring_last(node, job, attempt)
            if event is not None:
                self._loop.post(event)
            if again:
                postponed.append(attempt.key)
                log.warning("failed action=Collect:%s reason=%s", attempt.key, note)
                self._loop.post(ev.CollectFailed(attempt.key, note))
            notes[attempt.key] = note
        return postponed

    async def _bring_checkpoints(self, node: Node, group: Sequence[AttemptAction]) -> None:
        for job, attempt in filter(None, map(self._job_of, group)):
            self._loop.post(await self._checkpoints.bring(node, job, attempt))

    def _folders(self, pairs: Sequence[tuple[Job, Attempt]]) -> dict[str, Path]:
        """Folders for those attempts that were not received before; runs in a thread."""
        folders = {}
        for job, attempt in pairs:
            if not returns.already_placed(self._spool, job, attempt):
                folder = returns.begin(self._spool, attempt.key, attempt.epoch)
                if folder is not None:
                    folders[attempt.key] = folder
        return folders

    def _complete(
        self,
        pairs: Sequence[tuple[Job, Attempt]],
        notes: dict[str, str],
        energy: Mapping[int, Mapping[str, object]],
    ) -> dict[str, str]:
        """Put received folders in place, ranks' aside; gives the sentence of each that failed. Runs in a thread."""
        failed = {}
        for job, attempt in pairs:
            try:
                if returns.already_placed(self._spool, job, attempt):
                    continue
                if attempt.ranks > 1:
                    aside = returns.keep_rank(self._spool, attempt)
                    notes[attempt.key] = "; ".join(filter(None, (notes[attempt.key], aside)))
                else:
                    returns.complete(self._spool, job, attempt, notes[attempt.key], energy.get(job.id))
            except (OSError, returns.ReturnsError) as error:
                failed[attempt.key] = f"the results could not be stored on the controller: {error}"
        durable.sync_file_system(self._spool.returns)
        return failed

    async def _assemble(self, group: Sequence[AttemptAction]) -> None:
        for action in group:
            pair = self._job_of(action)
            if pair is None:
                continue
            job, attempt = pair
            # Each rank's part was settled when it was collected; this is the sum of all.
            energy = await self._energy_of(attempt.node, [job.id])
            ranks = self._loop.state.ranks(attempt)
            if not ranks:
                continue  # it was given up meanwhile
            try:
                await asyncio.to_thread(self._place_gang, job, ranks, energy.get(job.id))
            except (OSError, returns.ReturnsError) as error:
                sentence = f"the results could not be stored on the controller: {error}"
                log.warning("failed action=%s reason=%s", action.key, sentence)
                self._loop.post(ev.AssembleFailed(action.attempt, sentence))
            else:
                self.placed.add(job.attempt_key)
                self._loop.post(ev.Assembled(action.attempt))

    def _place_gang(self, job: Job, ranks: Sequence[Attempt], energy: Mapping[str, object] | None) -> None:
        """Make one return folder of those of a gang's ranks. Runs in a thread. Raises OSError, ReturnsError."""
        if not returns.already_placed(self._spool, job, ranks[0]):
            returns.assemble(self._spool, job, ranks, energy)
        durable.sync_file_system(self._spool.returns)

    async def _remove(self, node: Node, group: Sequence[AttemptAction]) -> None:
        await node.remove([action.attempt for action in group])
        for action in group:
            self._loop.post(ev.Removed(action.node, action.attempt))

    async def _stop(self, node: Node, group: Sequence[AttemptAction]) -> None:
        for action in group:
            if isinstance(action, StopAttempt):
                stop = action.stop
                await node.stop(action.attempt, stop.reason, stop.grace_s, stop.signal, stop.warn_s)
                self._loop.post(ev.StopSent(action.node, action.attempt))


def environment_of(snapshot: Path, spec: JobSpec) -> Plan:
    """What the venv of a job is made of; a plan that cannot be carried out says why when it is tried."""
    return _planned(snapshot, spec.entrypoint, spec.environment)


@functools.lru_cache(maxsize=256)  # snapshots never change, and jobs of one come in hundreds
def _planned(snapshot: Path, entrypoint: str, wanted: Environment) -> Plan:
    try:
        return plan_of(snapshot, entrypoint, wanted)
    except PlanError as error:
        return Plan(kind="plain", problem=str(error))


def _failure(action: AttemptAction, sentence: str) -> ev.Event:
    """The event that says that an action failed for reasons outside the job."""
    if isinstance(action, Start):
        return ev.StartFailed(action.attempt, "controller", sentence)
    if isinstance(action, Go):
        return ev.GoFailed(action.node, action.attempt, sentence)
    if isinstance(action, Assemble):
        return ev.AssembleFailed(action.attempt, sentence)
    if isinstance(action, Collect):
        return ev.CollectFailed(action.attempt, sentence)
    if isinstance(action, BringCheckpoint):
        return ev.CheckpointFailed(action.attempt, sentence)
    if isinstance(action, Remove):
        return ev.RemoveFailed(action.node, action.attempt, sentence)
    return ev.StopFailed(action.node, action.attempt, sentence)
