"""What is known: jobs, attempts and nodes, as frozen records in one owner.

`State` is changed by `apply` alone. It notes which records changed, so that a step is saved in one transaction, and how
each change is undone, so that an event which fails half-way leaves nothing behind (see `journal`).
Finished jobs leave memory once nothing of theirs is left on a node; the store keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec

from racksack_controller.core import lifecycle
from racksack_controller.core.journal import Journal
from racksack_controller.core.power_records import Phase, PowerLine, PowerRecord, PowerTraits, opens_s
from racksack_controller.core.queue.counts import Counts
from racksack_controller.core.queue.fair_share import OwnerUse, Usage
from racksack_controller.core.queue.history import History, HistoryKey, RunHistory, history_key
from racksack_controller.core.queue.job_queue import NO_LIMIT, JobQueue
from racksack_controller.core.queue.turns import Turns
from racksack_controller.core.rack.allocations import Times
from racksack_controller.core.rack.amounts import CPUS, GPUS, RAM, demand_of
from racksack_controller.core.rack.contents import Contents
from racksack_controller.core.rack.rack import Rack
from racksack_controller.core.records import NOT_CONNECTED_YET, attempt_key
from racksack_controller.core.records import Allocation as Allocation
from racksack_controller.core.records import Attempt as Attempt
from racksack_controller.core.records import Checkpoint as Checkpoint
from racksack_controller.core.records import Drain as Drain
from racksack_controller.core.records import Ending as Ending
from racksack_controller.core.records import Job as Job
from racksack_controller.core.records import Node as Node
from racksack_controller.core.records import Orphan as Orphan
from racksack_controller.core.records import Part as Part
from racksack_controller.core.records import Stop as Stop
from racksack_controller.core.records import Unsettled as Unsettled
from racksack_jobspecs.states import ACTIVE, FINAL, WAITING, JobState, NodeState

_SHOWN = {
    Phase.OFF: NodeState.OFF,
    Phase.BOOTING: NodeState.BOOTING,
    Phase.STOPPING: NodeState.STOPPING,
    Phase.SET_ASIDE: NodeState.SET_ASIDE,
}


class Changes(msgspec.Struct, frozen=True):
    """What a step has to save. `events` are (job id, node, time, sentence) lines of the story."""

    jobs: tuple[Job, ...]
    attempts: tuple[Attempt, ...]
    nodes: tuple[Node, ...]
    events: tuple[tuple[int | None, str | None, float, str], ...]
    usage: tuple[OwnerUse, ...] = ()  # what owners have used, for fair share
    history: tuple[RunHistory, ...] = ()  # what runs have told about programs
    power: tuple[PowerRecord, ...] = ()
    power_lines: tuple[PowerLine, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.jobs or self.attempts or self.nodes or self.events or self.power or self.power_lines)


@dataclass
class ArrayProgress:
    """How far an array is of which not all is over."""

    live: int = 0  # elements that are not over
    broken: dict[int, JobState] = field(default_factory=dict)  # elements that ended otherwise than done


class State:
    """All that is known. Read freely; change only through `apply`."""

    def __init__(self) -> None:
        self.now_s = 0.0  # the time of the latest event
        self.journal = Journal()  # of what was changed since `saved`
        self.jobs: dict[int, Job] = {}
        self.attempts: dict[str, Attempt] = {}
        self.nodes: dict[str, Node] = {}
        self.orphans: dict[tuple[str, str], Orphan] = {}  # by (node, attempt)
        self.epoch = ""  # of this start of the controller; attempts that it places bear it
        self.dependents: dict[tuple[int, bool], set[int]] = {}  # by `Wait.target`
        self.unsettled: dict[tuple[int, bool], Unsettled] = {}  # those that have ended, with dependents to be judged
        self.arrays: dict[int, ArrayProgress] = {}  # by the id of the first element
        self.power: dict[str, PowerRecord] = {}  # of the nodes with a power block
        self.power_traits: dict[str, PowerTraits] = {}
        self.usage = Usage()
        self.turns = Turns()
        self.history = History()
        self.contents = Contents(self.journal)
        # Indexes, so that no event and no pass has to walk over all records.
        self.queued_ids: dict[int, None] = {}  # ids of queued jobs, in order of arrival
        self.queue = JobQueue(self.history)  # the queued jobs that wait for nothing but room or a moment
        self.rack = Rack()
        self.open: dict[str, None] = {}  # attempts about which something may have to be asked of their node
        self.silent: set[str] = set()  # nodes that do not answer
        self.running = Counts()
        self.unfinished: dict[str, int] = {}  # jobs of each owner that are not over
        self._on_node: dict[str, dict[str, None]] = {}
        self._changed_jobs: dict[int, Job] = {}
        self._changed_attempts: dict[str, Attempt] = {}
        self._changed_nodes: dict[str, Node] = {}
        self._changed_usage: dict[str, OwnerUse] = {}
        self._changed_history: dict[HistoryKey, RunHistory] = {}
        self._changed_power: dict[str, PowerRecord] = {}
        self._events: list[tuple[int | None, str | None, float, str]] = []
        self._power_lines: list[PowerLine] = []

    def load(
        self,
        jobs: Iterable[Job],
        attempts: Iterable[Attempt],
        nodes: Iterable[Node],
        usage: Iterable[OwnerUse] = (),
        history: Iterable[RunHistory] = (),
        power: Iterable[PowerRecord] = (),
        broken: Mapping[int, Mapping[int, JobState]] | None = None,
    ) -> None:
        """Take what the store has, without noting a change.

        `broken` has, of each array of which not all is over, the elements that ended otherwise than done.
        Connections are not remembered, nor since when: nobody has called the nodes yet, so none has failed to answer.
        """
        self.usage = Usage(usage, self.usage.half_life_s)
        self.history.records.update((record.key, record) for record in history)
        for node in nodes:
            reason = node.connection_reason or NOT_CONNECTED_YET
            self.put_node(
                msgspec.structs.replace(node, connected=False, connection_since_s=0.0, connection_reason=reason)
            )
        for record in power:
            if record.node in self.nodes:
                self.put_power(record)
        for job in jobs:
            self.put_job(job)
        for array, elements in (broken or {}).items():
            self.arrays.setdefault(array, ArrayProgress()).broken.update(elements)
        for attempt in attempts:
            self.put_attempt(attempt)
        self.take_changes()

    def put_job(self, job: Job) -> None:
        """Store a job's new record; an illegal change of state raises IllegalTransitionError."""
        old = self.jobs.get(job.id)
        if old is not None and old.state is not job.state:
            lifecycle.check(lifecycle.JOB, old.state, job.state, f"job {job.id}")
        self.journal.note(partial(self._put_back_job, job, old))
        self.journal.assign(self._changed_jobs, job.id, job)
        if old is None:
            self.journal.assign(self.unfinished, job.owner, self.unfinished.get(job.owner, 0) + 1)
        self.jobs[job.id] = job
        self._index(job)
        if job.array_id is not None:
            self._count_element(job.array_id, old, job)

    def _put_back_job(self, new: Job, old: Job | None) -> None:
        if old is not None:
            self.jobs[old.id] = old
            self._index(old)
        else:
            self.jobs.pop(new.id, None)
            self.queued_ids.pop(new.id, None)
            self.queue.remove(new.id)

    def put_attempt(self, attempt: Attempt) -> None:
        """Store an attempt's new record; an illegal change of state raises IllegalTransitionError."""
        old = self.attempts.get(attempt.key)
        if old is not None and old.state is not attempt.state:
            lifecycle.check(lifecycle.ATTEMPT, old.state, attempt.state, f"attempt {attempt.key}")
        self._account(old, attempt)
        self.journal.note(partial(self._put_back_attempt, attempt, old))
        self.journal.assign(self._changed_attempts, attempt.key, attempt)
        self._list_attempt(attempt)

    def _list_attempt(self, attempt: Attempt) -> None:
        self._note_open(attempt)
        if attempt.removed and attempt.state in FINAL:
            self._unlist_attempt(attempt)
        else:
            self.attempts[attempt.key] = attempt
            self._on_node.setdefault(attempt.node, {})[attempt.key] = None

    def _unlist_attempt(self, attempt: Attempt) -> None:
        self.attempts.pop(attempt.key, None)
        self._on_node.get(attempt.node, {}).pop(attempt.key, None)

    def _put_back_attempt(self, new: Attempt, old: Attempt | None) -> None:
        if old is not None:
            self._list_attempt(old)
        else:
            self._unlist_attempt(new)
            self.open.pop(new.key, None)

    def put_node(self, node: Node) -> None:
        """Store a node's new record. Raises OverflowError for one that has more than can be added up."""
        old = self.nodes.get(node.name)
        self.journal.note(partial(self._put_back_node, node, old))
        self.rack.put_node(node)
        self.journal.assign(self._changed_nodes, node.name, node)
        self.nodes[node.name] = node
        self._note_silent(node)

    def _note_silent(self, node: Node) -> None:
        if node.connected:
            self.silent.discard(node.name)
        else:
            self.silent.add(node.name)

    def _put_back_node(self, new: Node, old: Node | None) -> None:
        if old is not None:
            self.rack.put_node(old)
            self.nodes[old.name] = old
            self._note_silent(old)
        else:
            # Rows of the rack never move, so it keeps one that has nothing and takes nothing.
            if new.name in self.rack.row:
                self.rack.put_node(msgspec.structs.replace(new, connected=False, inventory=None))
            self.nodes.pop(new.name, None)
            self.silent.discard(new.name)

    def put_power(self, power: PowerRecord) -> None:
        """Store the new record of a node's power; an illegal change of phase raises IllegalTransitionError."""
        old = self.power.get(power.node)
        if old is not None and old.phase is not power.phase:
            lifecycle.check(lifecycle.POWER, old.phase, power.phase, f"the power of {power.node}")
        self.journal.note(partial(self._show_power, power.node, old))
        self._show_power(power.node, power)
        self.journal.assign(self._changed_power, power.node, power)
        self.journal.assign(self.power, power.node, power)

    def _show_power(self, name: str, power: PowerRecord | None) -> None:
        """Tell the rack about a node's power; None: it is always on."""
        self.rack.put_power(
            name,
            powered=power is None or power.takes_jobs,
            opens_s=0.0 if power is None else self._opens_s(power),
            opened_s=0.0 if power is None else power.on_since_s or power.since_s,
        )

    def put_traits(self, name: str, traits: PowerTraits) -> None:
        """What is configured about a node's power."""
        self.journal.assign(self.power_traits, name, traits)

    def drop_power(self, name: str) -> None:
        """A node no longer has a power block: it is always on. Its record stays in the store."""
        power = self.power.get(name)
        if power is not None:
            self.journal.note(partial(self._show_power, name, power))
            self._show_power(name, None)
        self.journal.drop(self.power_traits, name)
        self.journal.drop(self.power, name)

    def put_orphan(self, node: str, key: str, orphan: Orphan) -> None:
        """A node has an attempt that is not to run there."""
        self.journal.assign(self.orphans, (node, key), orphan)

    def drop_orphan(self, node: str, key: str) -> Orphan | None:
        """It has not, or it is one of ours after all; what was known of it."""
        orphan = self.orphans.get((node, key))
        self.journal.drop(self.orphans, (node, key))
        return orphan

    def drop_dependents(self, target: tuple[int, bool]) -> set[int]:
        """Nobody waits any more for what has ended; those who did."""
        dependents = self.dependents.get(target, set())
        self.journal.drop(self.dependents, target)
        return dependents

    def put_array(self, array_id: int, progress: ArrayProgress) -> None:
        """How far an array is of which nothing was known any more."""
        self.journal.assign(self.arrays, array_id, progress)

    def begin_turn(self, key: str, part: float, now: float, *, passes: bool) -> None:
        """An attempt holds a part of the rack from now on; see `Turns.begin`."""
        self.journal.note(self.turns.undo_of(key))
        self.turns.begin(key, part, now, passes=passes)

    def tell_power(self, line: PowerLine) -> None:
        """Add a line to the power story of a node."""
        self._power_lines.append(line)
        self.journal.note(self._power_lines.pop)

    def learn(self, job: Job, ending: Ending) -> None:
        """Remember how long a run took and what it needed."""
        key = history_key(job)
        self.journal.note(partial(self._put_back_history, key, self.history.records.get(key)))
        record = self.history.add(job, ending)
        if record is not None:
            self.journal.assign(self._changed_history, key, record)
            self.queue.repredict(key)

    def _put_back_history(self, key: HistoryKey, old: RunHistory | None) -> None:
        if old is not None:
            self.history.records[key] = old
        else:
            self.history.records.pop(key, None)
        self.queue.repredict(key)

    def tell(self, now_s: float, sentence: str, *, job: int | None = None, node: str | None = None) -> None:
        """Add a line to the story of a job or node."""
        self._events.append((job, node, now_s, sentence))
        self.journal.note(self._events.pop)

    def changes(self) -> Changes:
        """Everything that changed since `saved`."""
        return Changes(
            tuple(self._changed_jobs.values()),
            tuple(self._changed_attempts.values()),
            tuple(self._changed_nodes.values()),
            tuple(self._events),
            tuple(self._changed_usage.values()),
            tuple(self._changed_history.values()),
            tuple(self._changed_power.values()),
            tuple(self._power_lines),
        )

    def saved(self) -> None:
        """What changed is saved, and cannot be undone any more; finished jobs leave memory."""
        for job in self._changed_jobs.values():
            if job.state in FINAL and self.jobs.pop(job.id, None) is not None:
                self._one_less(job.owner)
                if job.array_id in self.arrays and not self.arrays[job.array_id].live:
                    del self.arrays[job.array_id]
        self._changed_jobs, self._changed_attempts, self._changed_nodes, self._events = {}, {}, {}, []
        self._changed_usage, self._changed_history = {}, {}
        self._changed_power, self._power_lines = {}, []
        self.journal.forget()

    def take_changes(self) -> Changes:
        """Everything that changed, as good as saved."""
        changes = self.changes()
        self.saved()
        return changes

    def _one_less(self, owner: str) -> None:
        self.unfinished[owner] -= 1
        if not self.unfinished[owner]:
            del self.unfinished[owner]

    def current(self, job: Job) -> Attempt | None:
        """The attempt that the job is with now, or None."""
        return self.attempts.get(job.attempt_key) if job.state in ACTIVE else None

    def ranks(self, attempt: Attempt) -> list[Attempt]:
        """All ranks of the gang that an attempt is one of, itself included; they stay until all are over."""
        keys = (attempt_key(attempt.job, attempt.number, rank) for rank in range(attempt.ranks))
        return [self.attempts[key] for key in keys if key in self.attempts]

    def on_node(self, name: str) -> list[Attempt]:
        """The attempts that are with a node and not ended."""
        return [attempt for attempt in self.attempts_on(name) if attempt.state in ACTIVE]

    def attempts_on(self, name: str) -> list[Attempt]:
        """The attempts of which something may be left on a node."""
        return [self.attempts[key] for key in self._on_node.get(name, ())]

    def node_state(self, node: Node) -> NodeState:
        """What a person is shown."""
        power = self.power.get(node.name)
        if power is not None and power.phase in _SHOWN:
            return _SHOWN[power.phase]
        if not node.connected:
            is_new = node.connection_reason == NOT_CONNECTED_YET
            return NodeState.CONNECTING if is_new else NodeState.UNREACHABLE
        if node.drain is None:
            return NodeState.UP
        return NodeState.DRAINING if self.on_node(node.name) else NodeState.DRAINED

    def _opens_s(self, power: PowerRecord) -> float:
        """When a node that takes no jobs for want of power is expected to take some (Unix seconds)."""
        traits = self.power_traits.get(power.node)
        return float("inf") if traits is None else opens_s(power, traits)

    def _index(self, job: Job) -> None:
        if job.state is JobState.QUEUED:
            self.queued_ids.setdefault(job.id)
        else:
            self.queued_ids.pop(job.id, None)
        if job.state is JobState.QUEUED and not job.waits_for:
            self.queue.put(job)
        else:
            self.queue.remove(job.id)
        for wait in job.waits_for if job.state in WAITING else ():
            waiting = self.dependents.setdefault(wait.target, set())
            if job.id not in waiting:
                self.journal.note(partial(waiting.discard, job.id))
                waiting.add(job.id)

    def _count_element(self, array_id: int, old: Job | None, job: Job) -> None:
        self.journal.note(self._undo_of_element(array_id, job.id))
        array = self.arrays.setdefault(array_id, ArrayProgress())
        was_live = old is not None and old.state not in FINAL
        is_live = job.state not in FINAL
        array.live += is_live - was_live
        if is_live or job.state is JobState.DONE:
            array.broken.pop(job.id, None)
        else:
            array.broken[job.id] = job.state

    def _undo_of_element(self, array_id: int, job_id: int) -> Callable[[], None]:
        array = self.arrays.get(array_id)
        live, broken = (array.live, array.broken.get(job_id)) if array is not None else (0, None)

        def undo() -> None:
            if array is None:
                self.arrays.pop(array_id, None)
                return
            array.live = live
            if broken is None:
                array.broken.pop(job_id, None)
            else:
                array.broken[job_id] = broken

        return undo

    def _note_open(self, attempt: Attempt) -> None:
        """Keep `open` to the attempts that `decide` has to look at."""
        if attempt.state in FINAL:
            asks = not attempt.removed
        else:
            unsent_stop = attempt.stop is not None and not attempt.stop.sent
            unsent_start = attempt.state is JobState.STAGING and not attempt.launched
            unsent_go = attempt.state is JobState.PREPARING and attempt.prepared and not attempt.go_sent
            asks = unsent_stop or unsent_start or unsent_go or attempt.state is JobState.COLLECTING
            asks = asks or attempt.pull.is_due
        if asks:
            self.open[attempt.key] = None
        else:
            self.open.pop(attempt.key, None)

    def _account(self, old: Attempt | None, new: Attempt) -> None:
        """Follow what attempts hold: in the rack, in the counts and in what their owners use."""
        held = old is not None and lifecycle.holds_resources(old.state)
        holds = lifecycle.holds_resources(new.state)
        if old is not None and held:
            before = self.rack.allocations.times_of(old.key)
        if holds and not held:
            job, times = self.jobs[new.job], self._times(new)
            self.journal.note(partial(self._release, new))
            self.rack.take(new.key, [(new.node, new.allocation)], times)
            self.journal.note(self.running.undo_of(job))
            self.running.begin(job)
            self._count_use(new, 1)
        elif old is not None and held and not holds:
            job = self.jobs[new.job]
            self.journal.note(partial(self._hold_again, old, before))
            self.rack.give_back(new.key)
            self.journal.note(self.running.undo_of(job))
            self.running.end(job)
            self.journal.note(self.turns.undo_of(new.key))
            self.turns.end(new.key, self.now_s)
            self._count_use(new, -1)
        elif holds and old is not None and (old.started_at_s, old.stop) != (new.started_at_s, new.stop):
            self.journal.note(partial(self.rack.allocations.retime, old.key, before))
            self.rack.allocations.retime(new.key, self._times(new))

    def _release(self, attempt: Attempt) -> None:
        if attempt.key in self.rack.allocations.of:
            self.rack.give_back(attempt.key)

    def _hold_again(self, attempt: Attempt, times: Times) -> None:
        if attempt.key not in self.rack.allocations.of:
            self.rack.take(attempt.key, [(attempt.node, attempt.allocation)], times)

    def _times(self, attempt: Attempt) -> Times:
        job = self.jobs[attempt.job]
        limit_s = NO_LIMIT if job.spec.time_limit_s is None else job.spec.time_limit_s
        begin_s = attempt.started_at_s or attempt.placed_at_s
        if attempt.stop is not None:  # it is being ended
            limit_s = max(0.0, self.now_s - begin_s) + attempt.stop.warn_s + attempt.stop.grace_s
        return Times(begin_s, limit_s, self.history.predict_s(history_key(job)))

    def _count_use(self, attempt: Attempt, sign: int) -> None:
        owner, held = self.jobs[attempt.job].owner, demand_of(attempt.allocation)
        cpus, ram, gpus = (float(sign * held[dimension]) for dimension in (CPUS, RAM, GPUS))
        self.journal.note(self.usage.undo_of(owner))
        used = self.usage.change(owner, (cpus, ram, gpus), self.now_s)
        self.journal.assign(self._changed_usage, owner, used)
