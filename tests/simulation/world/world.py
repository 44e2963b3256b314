"""One simulation: the rack, the controller's lives, what users do and what breaks, until all is over or a law is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import secrets
import shutil
import sqlite3
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import msgspec

from racksack_controller import store
from racksack_controller.app import App
from racksack_controller.core import events as ev
from racksack_controller.core.records import Job
from racksack_controller.intake.spool import SpoolBusyError
from racksack_controller.store import StoreError
from racksack_jobspecs.states import FINAL, JobState
from tests.simulation.world.clock import Clock, Loop, StandstillError
from tests.simulation.world.controller import OF_THE_WORLD, Controller, Disk, end_all
from tests.simulation.world.laws import BrokenLawError, Laws
from tests.simulation.world.link import Line, SimulatedNode
from tests.simulation.world.machine import Machine
from tests.simulation.world.plan import ENDLESS_S, FAULTS_END_S, NODES, Deed
from tests.simulation.world.story import Story

SETTLES_S = 1800.0  # once nothing breaks any more, all is over within this time
LOOK_S = 2.0
RAM_DISK = Path("/dev/shm")


class Outcome(msgspec.Struct, frozen=True):
    """What came of one simulation."""

    broken: str  # which law; empty: none
    story: tuple[str, ...]
    seconds: float  # simulated
    faults: dict[str, int]
    jobs: int
    attempts: int


class World:
    """Everything that there is."""

    def __init__(self, seed: int, root: Path, clock: Clock) -> None:
        self.clock = clock
        self.chance = Random(f"world {seed}")
        self.story = Story(clock.monotonic, str(root))
        self.machines = {name: Machine(name, cpus, clock.wall, self.chance, self.story) for name, cpus in NODES.items()}
        self.lines = {name: Line(self.chance) for name in NODES}
        self.links: dict[str, SimulatedNode] = {}
        self.store_is_full = False
        self.controller = Controller(root / "spool", list(NODES), self._link, self._answers)
        self.laws = Laws(self.machines, self.controller.spool, self._reaches)
        self.jobs: dict[int, str] = {}  # number in the plan -> submission key
        self.faults: dict[str, int] = defaultdict(int)
        self._waits: dict[str, int] = {}  # submission key -> the id of the job that it waits for
        self._endless: set[int] = set()  # numbers in the plan of jobs that end only when they are cancelled
        self._busy: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        for machine in self.machines.values():
            machine.before_launch = self._before_launch
            machine.before_program = self._before_program

    def _link(self, name: str) -> SimulatedNode:
        self.links[name] = SimulatedNode(name, self.machines[name], self.lines[name], lambda: self.store_is_full)
        return self.links[name]

    def _reaches(self, name: str) -> bool:
        line = self.lines[name]
        return line.to_node and line.to_controller and self.machines[name].is_on

    def _answers(self, name: str) -> Callable[[], Awaitable[bool]]:
        async def answers() -> bool:
            await asyncio.sleep(0.01 if self._reaches(name) else 2.0)
            return self._reaches(name)

        return answers

    def _before_launch(self, machine: Machine, attempt: str, epoch: str, cpus: float) -> None:
        self.laws.before_launch(self.controller.app, machine, attempt, epoch, cpus)

    def _before_program(self, machine: Machine, attempt: str) -> None:
        app = self.controller.app
        job = app.state.jobs.get(int(attempt.partition(".")[0])) if app is not None else None
        if job is not None and (first := self._waits.get(job.spec.submission.partition(":")[2])) is not None:
            self.laws.after[job.id] = first
        self.laws.before_program(self.controller.app, machine, attempt)

    async def run(self, deeds: Sequence[Deed]) -> None:
        """All of it. Raises BrokenLawError."""
        asyncio.current_task().set_name(OF_THE_WORLD)  # type: ignore[union-attr]
        await self.start()
        for deed in deeds:
            await self._until(deed.at_s)
            self.story.note(f"== {deed.kind} {deed.facts}")
            self._spawn(getattr(self, f"do_{deed.kind}")(**deed.facts))
        await self._until(FAULTS_END_S)
        await self._heal()
        await self._until(FAULTS_END_S + 60.0)
        for job in self._endless:
            await self.do_cancel(job)
        await self._until(FAULTS_END_S + SETTLES_S, self._is_over)
        self.laws.at_the_end(self._stored(), self._ids())
        await self.controller.stop()

    async def _until(self, at_s: float, is_enough: Callable[[], bool] = lambda: False) -> None:
        while self.clock.now_s < at_s and not is_enough():
            await asyncio.sleep(min(LOOK_S, max(0.001, at_s - self.clock.now_s)))
            if self.laws.broken is not None:
                raise self.laws.broken

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=OF_THE_WORLD)
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    def _is_over(self) -> bool:
        app = self.controller.app
        is_idle = app is not None and not app.state.jobs and not any(self.controller.spool.jobs.glob("*.yaml"))
        returned = is_idle and all(
            (self.controller.spool.returned(job) / "result.json").exists() for job in self._stored()
        )
        return returned and not any(machine.runs for machine in self.machines.values())

    def _stored(self) -> dict[int, Job]:
        with contextlib.closing(sqlite3.connect(self.controller.spool.database)) as connection:
            rows = connection.execute("SELECT record FROM jobs").fetchall()
        return {job.id: job for job in (msgspec.json.decode(row[0], type=Job) for row in rows)}

    def _ids(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {key: [] for key in self.jobs.values()}
        for job in self._stored().values():
            found.setdefault(job.spec.submission.partition(":")[2], []).append(job.id)
        return found

    # The controller's lives

    async def start(self) -> None:
        """Begin a life, and watch over it."""
        async with self._starting:
            if self.controller.app is not None:
                return
            app = await self.controller.start()
            app.loop.listen(lambda changes: self.laws.after_step(app, changes))
        self.story.note("the controller is ready")

    async def do_kill(self, down_s: float) -> None:
        """kill -9; a while later somebody starts it again."""
        self.faults["controller killed"] += 1
        async with self._starting:
            await self.controller.kill()
        await asyncio.sleep(down_s)
        await self.start()

    async def do_restart(self) -> None:
        """SIGTERM, as an update does."""
        self.faults["controller restarted"] += 1
        async with self._starting:
            await self.controller.stop()
        await self.start()

    async def do_second(self) -> None:
        """Somebody starts another controller on the same spool."""
        self.faults["second controller"] += 1
        if self.controller.app is None or self._starting.locked():
            return
        try:
            App(self.controller.app.config)
        except SpoolBusyError:
            return
        self.laws.broken = BrokenLawError("two controllers hold one spool")

    # What users do

    async def do_submit(
        self, job: int, after: int | None = None, gang: int = 1, hold: bool = False, **wants: Any
    ) -> None:
        """A file is renamed into jobs/, its project is there already."""
        spool = self.controller.spool
        key = self.jobs[job] = f"job-{job}"
        upload = spool.incoming / f"up-{job}"
        upload.mkdir(parents=True)
        (upload / "main.py").write_text(f"print({job % 3})\n")
        lines = [f"project: up-{job}", "entrypoint: main.py", f"submission: {key}", "environment: none", "ram: 1G"]
        lines += [f"args: ['{wants['length_s']}', {wants['outcome']}]", f"cpus: {wants['cpus']}"]
        lines += [f"retries: {wants['retries']}", "retry_on: [exit]"] if wants["retries"] else []
        lines += [f"gang: {gang}"] if gang > 1 else []
        lines += ["hold: yes"] if hold else []
        if after is not None and (first := self._id_of(after)) is not None:
            lines.append(f"after: [{first}]")
            self._waits[key] = first
        if wants["length_s"] >= ENDLESS_S:
            self._endless.add(job)
        beside = spool.jobs / f".{key}"
        beside.write_text("\n".join(lines) + "\n")
        beside.rename(spool.jobs / f"{key}.yaml")

    def _id_of(self, job: int) -> int | None:
        ids = self._ids().get(self.jobs.get(job, ""), [])
        return ids[0] if ids else None

    async def _ask(self, job: int, make: Callable[[int], ev.Event]) -> bool:
        """What the HTTP API does for a user; refused or in vain is fine, and then nothing may have changed."""
        app, job_id = self.controller.app, self._id_of(job)
        if app is None or job_id is None:
            return False
        try:
            await app.loop.submit(make(job_id))
        except (ev.RefusedError, StoreError):
            return False
        return True

    async def do_cancel(self, job: int) -> None:
        """Its owner does not want it any more."""
        job_id = self._id_of(job)
        if job_id is not None:
            self.laws.cancelled.add(job_id)
            if await self._ask(job, lambda job_id: ev.CancelRequested(job_id, "cancelled by ann")):
                self.laws.over.add(job_id)

    async def do_retry(self, job: int) -> None:
        """Run it again if it is over."""
        app, job_id = self.controller.app, self._id_of(job)
        if app is not None and job_id is not None and self._stored()[job_id].state in FINAL:
            with contextlib.suppress(Exception):
                await app.intake.keep_project(self._stored()[job_id])
                self.laws.over.discard(job_id)
                await self._ask(job, ev.RetryRequested)

    async def do_hold(self, job: int) -> None:
        """Not yet."""
        is_saved = await self._ask(job, lambda job_id: ev.HoldRequested(job_id, "held by ann"))
        app, job_id = self.controller.app, self._id_of(job)
        is_held = app is not None and job_id in app.state.jobs and app.state.jobs[job_id].state is JobState.HELD
        if is_saved and is_held and job_id is not None:
            self.laws.held.add(job_id)

    async def do_release(self, job: int) -> None:
        """Now."""
        app, job_id = self.controller.app, self._id_of(job)
        if app is not None and job_id in app.state.jobs and app.state.jobs[job_id].state is JobState.HELD:
            self.laws.held.discard(job_id)
            await self._ask(job, lambda job_id: ev.ReleaseRequested(job_id, "ann"))

    async def do_drain(self, node: str, length_s: float) -> None:
        """An operator wants to open the machine."""
        self.faults["node drained"] += 1
        if await self._operate(ev.DrainRequested(node, "a new fan", False, None)):
            app = self.controller.app
            has = {one.key for one in app.state.on_node(node)} if app is not None else set()
            self.laws.drained.setdefault(node, has)
        await asyncio.sleep(length_s)
        await self._resume(node)

    async def _resume(self, node: str) -> None:
        self.laws.drained.pop(node, None)
        await self._operate(ev.ResumeRequested(node))

    async def _operate(self, event: ev.Event) -> bool:
        if self.controller.app is None:
            return False
        try:
            await self.controller.app.loop.submit(event)
        except (ev.RefusedError, StoreError):
            return False
        return True

    # What breaks

    async def do_cut(self, node: str, way: str, length_s: float) -> None:
        """Nothing gets through, one way or both."""
        self.faults["line cut" if way == "both" else "line cut one way"] += 1
        line = self.lines[node]
        line.to_node, line.to_controller = way == "to_controller", way == "to_node"
        self._notice(node)
        await asyncio.sleep(length_s)
        line.to_node = line.to_controller = True
        self._notice(node)

    def _notice(self, node: str) -> None:
        if node in self.links:
            self.links[node].notice()

    async def do_power(self, node: str, length_s: float) -> None:
        """A machine loses its power, and has it again a while later."""
        self.faults["node lost power"] += 1
        if self.machines[node].is_on:
            self.machines[node].lose_power()
            self._notice(node)
            await asyncio.sleep(length_s)
            if not self.machines[node].is_on:
                self.machines[node].boot()

    async def do_wipe(self, node: str) -> None:
        """A machine is installed anew: nothing of ours is on it any more."""
        self.faults["node wiped"] += 1
        machine = self.machines[node]
        if machine.is_on:
            machine.lose_power()
            machine.runs.clear()
            machine.contents.clear()
            self._notice(node)
            await asyncio.sleep(10.0)
            if not machine.is_on:
                machine.boot()

    async def do_supervisor(self, node: str) -> None:
        """Something kills what watches a program."""
        self.faults["supervisor killed"] += 1
        for run in list(self.machines[node].living())[:1]:
            self.machines[node].kill_supervisor(run.order.attempt)

    async def do_full(self, node: str, length_s: float) -> None:
        """A node's disk is full for a while."""
        self.faults["node's disk full"] += 1
        self.machines[node].is_full = True
        await asyncio.sleep(length_s)
        self.machines[node].is_full = False

    async def do_store(self, length_s: float) -> None:
        """The controller's disk is full for a while."""
        self.faults["controller's disk full"] += 1
        self.store_is_full = True
        await asyncio.sleep(length_s)
        self.store_is_full = False

    async def do_flip(self, node: str, files: int) -> None:
        """A bit of what comes from a node is flipped on its way, or on its disk."""
        self.faults["bit flipped"] += files
        self.lines[node].flips += files

    async def do_jump(self, by_s: float) -> None:
        """The controller's wall clock is set."""
        self.faults["clock jumped"] += 1
        self.clock.wall_offset_s += by_s

    async def do_slow(self, times: float, length_s: float) -> None:
        """The controller's disk is slow for a while."""
        self.faults["controller's disk slow"] += 1
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        loop.slow = times
        await asyncio.sleep(length_s)
        loop.slow = loop.usual

    async def do_spoil(self, node: str) -> None:
        """Content on a node is damaged or removed."""
        self.faults["content damaged"] += 1
        for digest in self.machines[node].contents:
            self.machines[node].contents[digest] = False

    async def _heal(self) -> None:
        """From now on nothing breaks."""
        self.story.note("== all faults end")
        async with self._starting:  # no life is just beginning or ending
            await end_all(self._busy)
        self.store_is_full = False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        loop.slow = loop.usual
        for name, machine in self.machines.items():
            self.lines[name].to_node = self.lines[name].to_controller = True
            self.lines[name].flips = 0
            machine.is_full = False
            if not machine.is_on:
                machine.boot()
        await self.start()
        for name in NODES:
            await self._resume(name)
        for job in self.jobs:
            await self.do_release(job)


def simulate(seed: int, deeds: Sequence[Deed]) -> Outcome:
    """Run one simulation from its beginning to its end, in a process of its own or one after the other."""
    clock = Clock()
    root = Path(tempfile.mkdtemp(prefix="rs-sim-", dir=RAM_DISK if RAM_DISK.is_dir() else None))
    loop = Loop(clock, Random(f"threads {seed}"))
    world = World(seed, root, clock)
    broken = ""
    try:
        with _simulated(world, seed):
            try:
                loop.run_until_complete(world.run(deeds))
            except (BrokenLawError, StandstillError) as error:
                broken = str(error)
                world.story.note(f"BROKEN: {error}")
            finally:
                loop.run_until_complete(_leave(world))
    finally:
        loop.close()
        shutil.rmtree(root, ignore_errors=True)
    begun = sum(len(machine.began) for machine in world.machines.values())
    return Outcome(broken, tuple(world.story.lines), clock.now_s, dict(world.faults), len(world.jobs), begun)


@contextlib.contextmanager
def _simulated(world: World, seed: int) -> Iterator[None]:
    """The lowest layers are the simulation's: time, chance, disk, machines."""
    with contextlib.ExitStack() as layers:
        for layer in (
            world.clock.rules(),
            _repeatable(seed),
            world.story.listening(),
            world.controller.parts(),
            _on_its_disk(world),
        ):
            layers.enter_context(layer)
        yield


async def _leave(world: World) -> None:
    """Whatever is left of it ends."""
    asyncio.current_task().set_name(OF_THE_WORLD)  # type: ignore[union-attr]
    for task in list(world._busy):
        task.cancel()
    await world.controller.kill()
    await end_all(task for task in asyncio.all_tasks() if task is not asyncio.current_task())
    gc.collect()


@contextlib.contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """What production draws by chance is the seed's."""
    names = Random(f"names {seed}")
    random.seed(f"shared {seed}")
    with (
        mock.patch.object(secrets, "token_hex", lambda count=16: names.randbytes(count).hex()),
        mock.patch.object(uuid, "uuid4", side_effect=lambda: uuid.UUID(bytes=names.randbytes(16), version=4)),
    ):
        yield


@contextlib.contextmanager
def _on_its_disk(world: World) -> Iterator[None]:
    """The store writes to the simulation's disk, which may be full; so may the results be."""
    real = sqlite3.connect

    class Mine(Disk):
        is_full = staticmethod(lambda: world.store_is_full)

    def connect(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        return real(database, *arguments, **options, factory=Mine)

    with mock.patch.object(store.sqlite3, "connect", connect):
        yield
