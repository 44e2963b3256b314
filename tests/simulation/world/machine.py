"""A server of the simulated rack: what its agent keeps on disk, the programs that run, and when it loses power.

It does what the agent promises and no more: a launch, a stop or a removal that comes twice changes nothing the second
time; a record of an end is written after the outputs are on disk; after a restart what ran is lost. How the real agent
keeps these promises is tested with the real agent, under power cuts of real file systems.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec

from racksack_controller.core.report import AttemptReport
from racksack_controller.nodes.node import LaunchOrder, LaunchReply
from racksack_jobspecs.resources import Inventory
from tests.simulation.world.story import Story

GIB = 1024**3
PREPARE_S = (0.05, 3.0)


class Run:
    """One attempt on a machine: its records on disk and, while it runs, its program."""

    def __init__(self, order: LaunchOrder, boot: int) -> None:
        self.order, self.boot = order, boot
        self.state = "preparing"
        self.started_at_s: float | None = None
        self.ended_at_s: float | None = None
        self.outcome: str | None = None
        self.reason = ""
        self.exit_code: int | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.is_readable = True  # False: its record is torn

    @property
    def is_alive(self) -> bool:
        """Whether something of it may still compute."""
        return self.state != "ended"

    @property
    def payload(self) -> bytes:
        """What the program wrote: of this very attempt, as it was placed."""
        return f"{self.order.attempt} {self.order.epoch} {self.boot}\n".encode() * 20


class Machine:
    """One server."""

    def __init__(self, name: str, cpus: int, clock: Callable[[], float], chance: Random, story: Story) -> None:
        self.name, self.cpus = name, cpus
        self._wall, self._chance, self._story = clock, chance, story
        self.boots = 1
        self.is_on = True
        self.is_full = False  # its disk
        self.runs: dict[str, Run] = {}
        self.contents: dict[str, bool] = {}  # digest -> whether it is whole
        self.completed: list[tuple[str, str]] = []  # (attempt, epoch) of programs that ran to their own end
        self.began: list[tuple[str, str]] = []
        self.failed: set[str] = set()  # attempts whose program failed
        self.links: list[Callable[[AttemptReport], None]] = []  # of the agents that are connected now
        self.before_launch: Callable[[Machine, str, str, float], None] = lambda *_arguments: None
        self.before_program: Callable[[Machine, str], None] = lambda *_arguments: None

    @property
    def boot_id(self) -> str:
        """Changes with each start."""
        return f"{self.name}-boot-{self.boots}"

    def inventory(self) -> Inventory:
        """What jobs may have."""
        return Inventory(self.cpus, self.cpus * 2 * GIB, 1000 * GIB, ())

    def cpus_in_use(self) -> float:
        """Of all programs that run, wanted or not."""
        return sum(run.order.cpus for run in self.runs.values() if run.state == "running")

    def living(self) -> Iterator[Run]:
        """Attempts that have not ended."""
        return (run for run in self.runs.values() if run.is_alive)

    # What the agent does

    def launch(self, order: LaunchOrder) -> LaunchReply:
        """Begin an attempt, unless it is there already."""
        known = self.runs.get(order.attempt)
        if known is not None:
            if known.order.epoch != order.epoch:
                return LaunchReply(order.attempt, ok=False, error="another store's attempt", kind="other_epoch")
            return LaunchReply(order.attempt, ok=True)
        if not self.contents.get(order.digest, False):
            return LaunchReply(order.attempt, ok=False, error="the content is not here", kind="no_snapshot")
        if self.is_full:
            return LaunchReply(order.attempt, ok=False, error="the node's disk is full", kind="disk_full")
        self.before_launch(self, order.attempt, order.epoch, order.cpus)
        run = self.runs[order.attempt] = Run(order, self.boots)
        self._story.note(f"{self.name}: {order.attempt} is prepared")
        self._tell(run)
        self._later(run, self._chance.uniform(*PREPARE_S), self._prepared)
        return LaunchReply(order.attempt, ok=True)

    def go(self, attempt: str) -> None:
        """A prepared rank may begin."""
        run = self.runs.get(attempt)
        if run is not None and run.state == "prepared":
            self._begin(run)

    def stop(self, attempt: str, reason: str, grace_s: float) -> None:
        """Ask a program to end; it obeys, or is killed after its grace."""
        run = self.runs.get(attempt)
        if run is not None and run.is_alive and run.reason == "":
            run.reason = reason
            self._story.note(f"{self.name}: {attempt} is asked to end ({reason})")
            obeys_s = self._chance.uniform(0.01, 1.2) * max(0.5, grace_s)
            outcome = {"timeout": "timeout"}.get(reason, "cancelled")
            self._later(run, min(obeys_s, grace_s + 0.5), lambda: self._ended(run, outcome))

    def remove(self, attempt: str) -> bool:
        """Take the folder of an attempt away; False while it runs."""
        run = self.runs.get(attempt)
        if run is not None and run.is_alive:
            return False
        self.runs.pop(attempt, None)
        return True

    def report(self, run: Run) -> AttemptReport:
        """What the agent says of it."""
        facts: dict[str, Any] = {"attempt": run.order.attempt, "state": run.state, "epoch": run.order.epoch}
        if not run.is_readable:
            facts = {**facts, "epoch": None, "state": "ended", "outcome": "lost", "reason": "its records are damaged"}
            return msgspec.convert(facts, AttemptReport)
        facts |= {"started_at_s": run.started_at_s, "boot_id": self.boot_id}
        if run.state == "ended":
            facts |= {"ended_at_s": run.ended_at_s, "outcome": run.outcome, "exit_code": run.exit_code}
            if run.outcome == "done":
                facts |= {"output_files": 1, "output_bytes": len(run.payload)}
                facts["output_digest"] = _digest_of(run.payload)
        return msgspec.convert({key: value for key, value in facts.items() if value is not None}, AttemptReport)

    def reports(self) -> list[AttemptReport]:
        """Of all attempts that have a folder."""
        return [self.report(run) for run in self.runs.values()]

    # What happens to it

    def lose_power(self) -> None:
        """Everything that runs is gone; what the disk has not got yet is gone or torn."""
        self.is_on = False
        self._story.note(f"{self.name}: power lost")
        for run in self.runs.values():
            if run.timer is not None:
                run.timer.cancel()
            if run.is_alive:
                run.state, run.outcome, run.reason = "ended", "lost", "the node was restarted"
                run.is_readable = self._chance.random() > 0.1
        for digest in [digest for digest in self.contents if self._chance.random() < 0.1]:
            self.contents[digest] = False
        self.links.clear()

    def boot(self) -> None:
        """Come up again, as another boot."""
        self.boots += 1
        self.is_on = True
        self._story.note(f"{self.name}: up again, boot {self.boots}")

    def kill_supervisor(self, attempt: str) -> None:
        """Whoever watched the program was killed, and nobody can say how it ended."""
        run = self.runs.get(attempt)
        if run is not None and run.state == "running":
            self._ended(run, "lost")

    def _later(self, run: Run, delay_s: float, then: Callable[..., None]) -> None:
        if run.timer is not None:
            run.timer.cancel()
        bound = (lambda: then(run)) if then == self._prepared else then
        run.timer = asyncio.get_running_loop().call_later(delay_s, bound)

    def _prepared(self, run: Run) -> None:
        if run.order.go_within_s is not None:
            run.state = "prepared"
            self._tell(run)
        else:
            self._begin(run)

    def _begin(self, run: Run) -> None:
        run.state, run.started_at_s = "running", self._wall()
        self.before_program(self, run.order.attempt)
        self.began.append((run.order.attempt, run.order.epoch))
        self._story.note(f"{self.name}: {run.order.attempt} runs")
        length_s, outcome = float(run.order.args[0]), run.order.args[1]
        if run.order.time_limit_s is not None and run.order.time_limit_s < length_s:
            length_s, outcome = run.order.time_limit_s, "timeout"
        self._tell(run)
        self._later(run, length_s, lambda: self._ended(run, outcome))

    def _ended(self, run: Run, outcome: str) -> None:
        if not run.is_alive:
            return
        run.state, run.outcome, run.ended_at_s = "ended", outcome, self._wall()
        run.exit_code = {"done": 0, "failed": 1}.get(outcome)
        if outcome == "done":
            self.completed.append((run.order.attempt, run.order.epoch))
        elif outcome == "failed":
            self.failed.add(run.order.attempt)
        self._story.note(f"{self.name}: {run.order.attempt} has ended as {outcome}")
        self._tell(run)

    def _tell(self, run: Run) -> None:
        for tell in list(self.links):
            tell(self.report(run))


def _digest_of(payload: bytes) -> str:
    """The digest of a folder that holds the file `payload` alone, by the rule of the agent's `output_digest`."""
    identity = hashlib.sha256(payload).hexdigest()
    return hashlib.sha256(f"{len(payload)} {identity} payload\0".encode()).hexdigest()
