"""Random histories of a rack: whatever happens in whatever order, no job is lost, none is done twice.

The machine drives the real core against `World`. After every step the invariants hold and `decide` repeats itself.
At the end all faults cease, and every job must reach a final state with nothing left on any node.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from racksack_controller.core import events as ev
from racksack_controller.core.actions import Action
from racksack_controller.core.apply import apply
from racksack_controller.core.decide import decide, next_wake_s
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.records import Wait
from racksack_controller.core.state import Attempt, Changes, Job, Node, State
from racksack_controller.core.step import Settings, step
from racksack_controller.simulate import invariants
from racksack_jobspecs.states import FINAL
from tests.core import builders
from tests.core.world import Server, World
from tests.sizes import sized

NAMES = ("a", "b", "c")
LOST_AFTER_S = 300.0
SETTINGS = Settings(lost_after_s=LOST_AFTER_S, unstaged_after_s=20.0)


class Rack(RuleBasedStateMachine):
    """Three servers, a queue and everything that can go wrong between them."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.now = 1000.0
        self.memory = PassMemory()
        self.world = World({name: Server(_inventory(name)) for name in NAMES}, ranks_of=self._ranks_of)
        self.finished: dict[int, Job] = {}
        self.submitted = 0
        self.stale: list[tuple[str, object]] = []

    def _ranks_of(self, key: str) -> list[Attempt]:
        attempt = self.state.attempts.get(key)
        return self.state.ranks(attempt) if attempt is not None else []

    def tell(self, event: ev.Event) -> None:
        """One event reaches the core."""
        apply(self.state, event, self.now)
        invariants.check(self.state)

    @initialize()
    def configure(self) -> None:
        """The nodes of the configuration answer, and the first jobs are about to start."""
        for name in NAMES:
            self.tell(ev.NodeConfigured(Node(name=name)))
            self.tell(self.world.hello(name))
        for _ in range(3):
            self.submit(2, None, 1, False, 1)
        self.place()

    @rule(
        cpus=st.integers(1, 4),
        gpu=st.sampled_from([None, 1, 2]),
        retries=st.integers(0, 2),
        after=st.booleans(),
        gang=st.sampled_from([1, 1, 2, 3]),
    )
    def submit(self, cpus: int, gpu: int | None, retries: int, after: bool, gang: int) -> None:
        """A user submits; now and then a job waits for the one before, or wants several nodes."""
        gang = min(gang, 2) if gpu else gang
        self.submitted += 1
        before = self.submitted - 1
        chained = after and before in self.state.jobs and self.state.jobs[before].state not in FINAL
        waits = (Wait(before, "any"),) if chained else ()
        wants = builders.request(cpus, 4, gpu)
        job = builders.job(self.submitted, wants, retries=retries, after=waits, gang=gang)
        self.tell(ev.JobAccepted(job))

    @rule()
    def place(self) -> None:
        """The scheduler's pass."""
        self.step()

    @rule(data=st.data(), how=st.sampled_from(["done", "done", "failed", "unheard"]))
    def act(self, data: st.DataObject, how: str) -> None:
        """The next action is done, fails, or is done without the controller hearing of it."""
        actions = decide(self.state, self.now)
        if not actions:
            return
        action = actions[data.draw(st.integers(0, len(actions) - 1), label="action")]
        server = self.world.servers[action.node]
        if how == "failed" or not server.up:
            fault = data.draw(st.sampled_from(["node", "job", "controller"]), label="fault")
            self.tell(self.world.refuse(action, fault))
        elif how == "done":
            self.tell(self.world.perform(action))
        else:
            self.world.perform(action)

    @rule()
    def launch_all(self) -> None:
        """Everything that is asked for is done, and nothing more happens."""
        self.ordinary(1, heard=False)

    @rule(rounds=st.integers(1, 3))
    def ordinary_minutes(self, rounds: int) -> None:
        """For a while all goes well, so that later faults meet attempts in every state."""
        self.ordinary(rounds, heard=True)

    def ordinary(self, rounds: int, *, heard: bool) -> None:
        """Place, do what is asked and, when `heard`, let every attempt go a step further."""
        for _ in range(rounds):
            self.place()
            for action in decide(self.state, self.now):
                if self.world.servers[action.node].up:
                    self.tell(self.world.perform(action))
            if heard:
                self._everything_goes_on()

    def _everything_goes_on(self) -> None:
        for name, server in self.world.servers.items():
            for key in list(server.attempts):
                told = self.world.advance(name, key)
                self.stale.append((name, told))
                if self.state.nodes[name].connected:
                    self.tell(ev.Reported(name, told))

    @rule(data=st.data(), outcome=st.sampled_from(["done", "failed", "oom", "timeout"]), heard=st.booleans())
    def progress(self, data: st.DataObject, outcome: str, heard: bool) -> None:
        """An attempt goes on; its report arrives, or is only seen at the next connection."""
        going = [(name, key) for name, server in self.world.servers.items() for key in server.attempts]
        if not going:
            return
        name, key = data.draw(st.sampled_from(going), label="attempt")
        told = self.world.advance(name, key, outcome)
        self.stale.append((name, told))
        if heard and self.state.nodes[name].connected:
            self.tell(ev.Reported(name, told))

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def old_news(self, data: st.DataObject) -> None:
        """A report of any time arrives again."""
        name, told = data.draw(st.sampled_from(self.stale), label="old report")
        current = self.world.servers[name].attempts.get(told.attempt)
        if current is None or current == told or (current.state == "ended" and told.state != "ended"):
            apply(self.state, ev.Reported(name, told), self.now)
            invariants.check(self.state)

    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["cut", "same", "same", "rebooted", "wiped"]))
    def network(self, name: str, how: str) -> None:
        """A connection is gone, or a node answers (again)."""
        self.world.servers[name].up = how != "cut"
        if how == "cut":
            self.tell(ev.NodeDisconnected(name, "no answer"))
            return
        if how == "rebooted":
            self.world.reboot(name)
        if how == "wiped":
            self.world.wipe(name)
        self.tell(self.world.hello(name))

    @rule(name=st.sampled_from(NAMES), what=st.sampled_from(["drain", "drain now", "resume", "resume"]))
    def operate(self, name: str, what: str) -> None:
        """An operator drains and resumes."""
        drain = ev.DrainRequested(name, "new fan", now=what == "drain now")
        self.tell(drain if what.startswith("drain") else ev.ResumeRequested(name))

    @rule(data=st.data(), what=st.sampled_from(["cancel", "hold", "release", "retry"]))
    def meddle(self, data: st.DataObject, what: str) -> None:
        """An owner changes his mind, also about jobs that are over or never were."""
        number = data.draw(st.integers(1, self.submitted + 1), label="job")
        if what == "retry":
            if number in self.finished and number not in self.state.jobs:
                self.tell(ev.RetryRequested(number, self.finished.pop(number)))
            return
        cancel = ev.CancelRequested(number, "cancelled by ann")
        hold = ev.HoldRequested(number, "held by ann")
        self.tell({"cancel": cancel, "hold": hold, "release": ev.ReleaseRequested(number)}[what])

    @rule(seconds=st.sampled_from([0.0, 1.0, 60.0, 600.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, and the loop's own clean-up runs."""
        self.now += seconds
        self.step()

    def step(self) -> list[Action]:
        """A step of the loop: its changes are saved, and finished jobs leave memory; what is asked for."""
        done = step(self.state, [], self.now, SETTINGS, self.memory)
        self.memory = done.memory
        invariants.check(self.state)
        self._save(done.changes)
        return done.actions

    def _save(self, changes: Changes) -> None:
        for job in changes.jobs:
            if job.state in FINAL:
                assert job.id not in self.finished, f"job {job.id} ended twice"
                self.finished[job.id] = job

    @rule()
    def restart(self) -> None:
        """The controller is killed after a save and comes back with what the store has."""
        self._save(self.state.take_changes())
        self.memory = PassMemory()
        fresh = State()
        fresh.load(self.state.jobs.values(), self.state.attempts.values(), self.state.nodes.values())
        self.state = fresh
        for name, server in self.world.servers.items():
            if server.up:
                self.tell(self.world.hello(name))

    @invariant()
    def nobody_is_lost(self) -> None:
        """Every accepted job is in memory or was finished and saved."""
        for number in range(1, self.submitted + 1):
            assert number in self.state.jobs or number in self.finished, f"job {number} is gone"

    @invariant()
    def asks_the_same_twice(self) -> None:
        """`decide` and `schedule` change nothing by being asked."""
        assert decide(self.state, self.now) == decide(self.state, self.now)
        placed, self.memory = schedule(self.state, self.now, memory=self.memory)
        assert schedule(self.state, self.now).placed == placed, "what is remembered and a pass from scratch differ"
        keys = [action.key for action in decide(self.state, self.now)]
        assert len(keys) == len(set(keys)), "one step is asked for twice"

    def teardown(self) -> None:
        """All faults cease: then every job ends and every node is left clean."""
        for name in NAMES:
            self.world.servers[name].up = True
            self.tell(self.world.hello(name))
            self.tell(ev.ResumeRequested(name))
        for number in range(1, self.submitted + 1):
            self.tell(ev.ReleaseRequested(number))
        for _ in range(80 + 90 * self.submitted):
            if not self._work_left():
                break
            self._step()
        else:
            raise AssertionError(f"never quiet: {self.state.jobs}, {self.state.attempts}, {self.state.orphans}")
        self._check_all_over()

    def _work_left(self) -> bool:
        return bool(self.state.jobs or self.state.attempts or self.state.orphans)

    def _step(self) -> None:
        for action in self.step():
            self.tell(self.world.perform(action))
        for name, server in self.world.servers.items():
            for key in list(server.attempts):
                self.tell(ev.Reported(name, self.world.advance(name, key)))
        for action in decide(self.state, self.now):
            assert self._due(action), f"{action} is asked for before its time"
        self.now = next_wake_s(self.state, self.now, LOST_AFTER_S) or self.now + 1

    def _due(self, action: Action) -> bool:
        attempt = self.state.attempts.get(action.attempt)
        return attempt is None or attempt.retry_at_s <= self.now

    def _check_all_over(self) -> None:
        for number in range(1, self.submitted + 1):
            assert self.finished[number].state in FINAL
        for name, server in self.world.servers.items():
            left = list(server.attempts)
            assert not left, f"{left} was left on {name}"


def _inventory(name: str) -> builders.Inventory:
    return builders.inventory(4, 16, devices=builders.gpus(2, prefix=name) if name != "a" else ())


TestRack = Rack.TestCase
TestRack.settings = settings(
    max_examples=sized(60, 1000), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
