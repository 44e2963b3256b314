"""A rack that does what it is asked, late, twice or not at all: the other side of the core in its tests.

It keeps its own truth (which attempts are where, and what they did), so that a test can compare it with the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from racksack_controller.core import events as ev
from racksack_controller.core.actions import Action, Assemble, Collect, Go, Remove, Start, StopAttempt
from racksack_controller.core.records import Attempt
from racksack_controller.core.report import AttemptReport, ReportState
from racksack_jobspecs.resources import Inventory
from racksack_jobspecs.states import JobState


@dataclass
class Server:
    """One node as it really is."""

    inventory: Inventory
    boot: int = 1
    up: bool = True
    attempts: dict[str, AttemptReport] = field(default_factory=dict)


@dataclass
class World:
    """All servers, and how often a program ended with `done` for each job."""

    servers: dict[str, Server]
    collected: list[str] = field(default_factory=list)  # attempts whose results arrived
    ranks_of: Callable[[str], list[Attempt]] = lambda _key: []  # what the controller knows of an attempt's ranks
    gangs: set[str] = field(default_factory=set)  # attempts that wait for the go
    went: set[str] = field(default_factory=set)  # those that have it

    def perform(self, action: Action) -> ev.Event:
        """Do what is asked; the event that tells of its success."""
        server = self.servers[action.node]
        if isinstance(action, Start):
            if len(self.ranks_of(action.attempt)) > 1:
                self.gangs.add(action.attempt)
            server.attempts.setdefault(
                action.attempt, AttemptReport(attempt=action.attempt, state=ReportState.PREPARING)
            )
            return ev.Launched(action.attempt)
        if isinstance(action, Go):
            told = [self.servers[rank.node].attempts.get(rank.key) for rank in self.ranks_of(action.attempt)]
            assert not any(one is None or one.state == "preparing" for one in told), "a rank starts before the others"
            self.went.add(action.attempt)
            return ev.GoSent(action.node, action.attempt)
        if isinstance(action, Assemble):
            return ev.Assembled(action.attempt)
        if isinstance(action, StopAttempt):
            self._end(server, action.attempt, "cancelled")
            return ev.StopSent(action.node, action.attempt)
        if isinstance(action, Collect):
            if action.attempt not in server.attempts:
                return ev.CollectFailed(action.attempt, "it is gone", gone=True)
            self.collected.append(action.attempt)
            return ev.Collected(action.attempt)
        assert isinstance(action, Remove)
        running = server.attempts.get(action.attempt)
        if running is not None and running.state != "ended":
            return ev.RemoveFailed(action.node, action.attempt, "it still runs")
        server.attempts.pop(action.attempt, None)
        return ev.Removed(action.node, action.attempt)

    def refuse(self, action: Action, fault: str) -> ev.Event:
        """The event that tells of an action's failure."""
        if isinstance(action, Start):
            return ev.StartFailed(action.attempt, fault, "could not be sent")
        if isinstance(action, StopAttempt):
            return ev.StopFailed(action.node, action.attempt, "no answer")
        if isinstance(action, Go):
            return ev.GoFailed(action.node, action.attempt, "no answer")
        if isinstance(action, Assemble):
            return ev.AssembleFailed(action.attempt, "the disk is full")
        if isinstance(action, Collect):
            return ev.CollectFailed(action.attempt, "the disk is full")
        return ev.RemoveFailed(action.node, action.attempt, "no answer")

    def advance(self, name: str, attempt: str, outcome: str = "done") -> AttemptReport:
        """Let an attempt go one step further on its node."""
        server = self.servers[name]
        old = server.attempts[attempt]
        waits = attempt in self.gangs - self.went
        if old.state == "preparing" and attempt in self.gangs:
            server.attempts[attempt] = AttemptReport(attempt=attempt, state=ReportState.PREPARED)
        elif old.state == "preparing" or (old.state == "prepared" and not waits):
            server.attempts[attempt] = AttemptReport(attempt=attempt, state=ReportState.RUNNING, started_at_s=1.0)
        elif old.state == "running":
            self._end(server, attempt, outcome)
        return server.attempts[attempt]

    def reboot(self, name: str) -> None:
        """Power is gone and back: what had not ended is found lost by the agent."""
        server = self.servers[name]
        server.boot += 1
        for key, told in list(server.attempts.items()):
            if told.state != "ended":
                self._end(server, key, "lost")

    def wipe(self, name: str) -> None:
        """The node comes back with an empty disk."""
        self.reboot(name)
        self.servers[name].attempts.clear()

    def hello(self, name: str) -> ev.NodeConnected:
        """What a node says when it answers."""
        server = self.servers[name]
        return ev.NodeConnected(name, f"boot{server.boot}", server.inventory, tuple(server.attempts.values()))

    @staticmethod
    def _end(server: Server, attempt: str, outcome: str) -> None:
        told = server.attempts.get(attempt)
        if told is None:
            return
        if told.state != "ended":
            server.attempts[attempt] = AttemptReport(
                attempt=attempt, state=ReportState.ENDED, outcome=JobState(outcome)
            )
