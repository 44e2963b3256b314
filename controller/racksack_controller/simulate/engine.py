"""The replay: the production core, driven by a clock that jumps from event to event.

All that happens at one moment goes into one step, the same that the daemon's loop takes. What the step asks of the
nodes is done at once, and the outcome goes into the next step at the same moment, until nothing more is asked. Jobs
start when they are placed and end after the run time of the workload. Everything is a function of the workload, the
rack, the policy and the seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence

import msgspec

from racksack_controller.core import events as ev
from racksack_controller.core.actions import (
    Action,
    Assemble,
    AttemptAction,
    Collect,
    Remove,
    Start,
    SwitchOff,
    SwitchOn,
)
from racksack_controller.core.decide import next_wake_s
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.policy import Policy
from racksack_controller.core.power.plan import plan_power
from racksack_controller.core.power_policy import DEFAULT_POWER
from racksack_controller.core.report import AttemptReport, ReportState
from racksack_controller.core.state import Changes, State
from racksack_controller.core.step import Planner, Scheduler, Settings, Step, step
from racksack_controller.simulate.fleet import Fleet
from racksack_controller.simulate.machines import Layout, Machines, job_of, nodes_of
from racksack_controller.simulate.pool import schedule_pool
from racksack_controller.simulate.pool_power import plan_pool
from racksack_controller.simulate.power import PowerModel, PowerUse, SimulatedPower
from racksack_controller.simulate.workload import Task
from racksack_jobspecs.states import FINAL, JobState

LOST_AFTER_S = 300.0


class Faults(msgspec.Struct, frozen=True):
    """What breaks: each node loses power now and then, and comes back with nothing running."""

    mean_between_s: float = 0.0  # per node; 0: nothing breaks
    down_s: float = 300.0
    seed: int = 1


class Outcome(msgspec.Struct):
    """What became of one task. Times in seconds from the workload's start; None: never."""

    task: Task
    started_s: float | None = None  # of the attempt that counted
    ended_s: float | None = None
    nodes: tuple[str, ...] = ()
    attempts: int = 0


class Replay:
    """One run. `watch` is called with the state after every moment. Without `power` all nodes are always on."""

    def __init__(
        self,
        tasks: Sequence[Task],
        machines: Machines | Fleet,
        policy: Policy,
        *,
        faults: Faults | None = None,
        power: PowerModel | None = None,
        watch: Callable[[State, float], None] | None = None,
    ) -> None:
        self.state = State()
        self.policy = policy
        self.machines = machines
        self.outcomes: dict[int, Outcome] = {}
        self.left_out = 0
        self._watch = watch
        self._agenda: list[tuple[float, int, int, Callable[[float], None]]] = []
        self._sequence = itertools.count()
        self._random = random.Random(faults.seed if faults else 0)  # noqa: S311 - a replay has to be repeatable
        self._faults = faults
        self._running: dict[str, dict[str, float]] = {}  # node -> attempt -> started
        self._boots: dict[str, int] = {}
        self._now = min((task.submit_s for task in tasks), default=0.0)
        self.power = None if power is None else SimulatedPower(power, self, self._connect)
        self._pooled = power is not None and machines.layout is Layout.POOL
        self._nodes = {node.name: node for node in nodes_of(machines, switched=power is not None)}
        self._events: list[ev.Event] = []
        self._memory = PassMemory()
        power_policy = DEFAULT_POWER if power is None else power.policy
        self._settings = Settings(policy=policy, power=power_policy, lost_after_s=LOST_AFTER_S)
        self._prepare(tasks)

    def run(self) -> list[Outcome]:
        """Play until every job has ended."""
        unfinished = len(self.outcomes)
        while unfinished and self._agenda:
            self._now = self._agenda[0][0]
            while self._agenda and self._agenda[0][0] <= self._now:
                heapq.heappop(self._agenda)[-1](self._now)
            unfinished -= self._settle()
            if self._watch is not None:
                self._watch(self.state, self._now)
        return list(self.outcomes.values())

    def power_use(self) -> PowerUse | None:
        """What the machines used until now; None when they were always on."""
        if self.power is None:
            return None
        done = [one.task for one in self.outcomes.values() if one.ended_s is not None]
        work_s = sum(task.run_s * task.processors for task in done)
        return self.power.use(self._now, work_s / self.machines.cpus)

    def at(self, time_s: float, what: Callable[[float], None], *, rank: int = 1) -> None:
        """Let something happen at a time; of one moment, the lowest rank first (ends before arrivals)."""
        heapq.heappush(self._agenda, (time_s, rank, next(self._sequence), what))

    def tell(self, event: ev.Event) -> None:
        """The core hears of an event with the next step."""
        self._events.append(event)

    def _prepare(self, tasks: Sequence[Task]) -> None:
        for node in self._nodes.values():
            self.tell(ev.NodeConfigured(node))
            if self.power is None:
                self._connect(node.name)
            else:
                self.power.begin(node.name, self._now)
            if self._faults is not None and self._faults.mean_between_s:
                self._plan_fault(node.name)
        for number, task in enumerate(tasks, start=1):
            job = job_of(task, number, self.machines)
            if job is None:
                self.left_out += 1
                continue
            self.outcomes[number] = Outcome(task)
            self.at(task.submit_s, lambda _now, job=job: self.tell(ev.JobAccepted(job)))  # type: ignore[misc]

    def _settle(self) -> int:
        """Take steps until nothing more happens at this moment; how many jobs have ended."""
        ended = 0
        while True:
            events, self._events = self._events, []
            done = self._step(events)
            for error in done.refused.values():
                raise error
            ended += self._note_ended(done.changes)
            under_way = self.power.under_way if self.power is not None else ()
            for action in done.actions:
                if action.key not in under_way:
                    self._perform(action)
            if not self._events and len(done.placed) < self.policy.placements_max:
                self._wake_at(next_wake_s(self.state, self._now, LOST_AFTER_S))
                self._wake_at(done.power_wake_s)
                return ended

    def _step(self, events: Sequence[ev.Event]) -> Step:
        planner: Planner | None = None
        if self.power is not None:
            planner = plan_pool if self._pooled else plan_power
        scheduler: Scheduler = schedule_pool if self._pooled else schedule
        done = step(self.state, events, self._now, self._settings, self._memory, scheduler=scheduler, planner=planner)
        self._memory = done.memory
        return done

    def _wake_at(self, time_s: float | None) -> None:
        """Let the next step be no later than this; the one after it asks again."""
        if time_s is not None and (not self._agenda or time_s < self._agenda[0][0]):
            self.at(time_s, lambda _now: None)

    def _perform(self, action: Action) -> None:
        if isinstance(action, Start):
            self._start(action)
        elif isinstance(action, Collect):
            self.tell(ev.Collected(action.attempt))
        elif isinstance(action, Assemble):
            self.tell(ev.Assembled(action.attempt))
        elif isinstance(action, Remove):
            self.tell(ev.Removed(action.node, action.attempt))
        elif isinstance(action, AttemptAction):
            self._end(action.node, action.attempt, "cancelled")
            self.tell(ev.StopSent(action.node, action.attempt))
        elif isinstance(action, SwitchOn | SwitchOff) and self.power is not None:
            self.power.perform(action, self._now)

    def _start(self, action: Start) -> None:
        attempt = self.state.attempts[action.attempt]
        outcome = self.outcomes[attempt.job]
        if attempt.rank == 0:
            outcome.started_s = self._now
            outcome.attempts += 1
            outcome.nodes = tuple(rank.node for rank in self.state.ranks(attempt))
        self._running.setdefault(action.node, {})[action.attempt] = self._now
        running = AttemptReport(attempt=action.attempt, state=ReportState.RUNNING, started_at_s=self._now)
        self.tell(ev.Reported(action.node, running))
        end = self._now + outcome.task.run_s
        self.at(end, lambda _now: self._end(action.node, action.attempt, "done"), rank=0)

    def _end(self, node: str, attempt: str, outcome: str) -> None:
        started_s = self._running.get(node, {}).pop(attempt, None)
        if started_s is None:
            return
        ended = AttemptReport(
            attempt=attempt,
            state=ReportState.ENDED,
            outcome=JobState(outcome),
            started_at_s=started_s,
            ended_at_s=self._now,
        )
        self.tell(ev.Reported(node, ended))

    def _note_ended(self, changes: Changes) -> int:
        ended = [job for job in changes.jobs if job.state in FINAL]
        for job in ended:
            self.outcomes[job.id].ended_s = self._now
        return len(ended)

    def _connect(self, name: str) -> None:
        node = self._nodes[name]
        boot = self._boots[name] = self._boots.get(name, 0) + 1
        if node.inventory is not None:
            self.tell(ev.NodeConnected(name, f"boot{boot}", node.inventory, ()))

    def _plan_fault(self, name: str) -> None:
        faults = self._faults
        if faults is not None:
            self.at(self._now + self._random.expovariate(1 / faults.mean_between_s), lambda _now: self._fail(name))

    def _fail(self, name: str) -> None:
        """The node's power is gone; it comes back later, without what ran on it. One that is off has none to lose."""
        if self.power is not None and not self.state.nodes[name].connected:
            self._plan_fault(name)
            return
        self._running.pop(name, None)
        self.tell(ev.NodeDisconnected(name, "no answer"))
        down_s = self._faults.down_s if self._faults is not None else 0.0
        self.at(self._now + down_s, lambda _now: self._connect(name))
        self.at(self._now + down_s, lambda _now: self._plan_fault(name))
