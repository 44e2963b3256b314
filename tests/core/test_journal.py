"""An event is all or nothing: one that fails anywhere, in any history of a rack, leaves nothing behind.

The machine of `test_machine` runs on; before each of its events counts, the same event fails after so many of the
changes that it makes, and once after all of them. Then everything must be as it was, the numbers of the rack included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from racksack_controller.core import events as ev
from racksack_controller.core.apply import apply
from racksack_controller.core.power import events as pe
from racksack_controller.core.power_records import PowerTraits
from racksack_controller.core.rack.amounts import SLOTS
from racksack_controller.core.state import State
from tests.core.builders import Bench, inventory, job, node, report
from tests.core.test_machine import Rack
from tests.sizes import sized


class FaultError(Exception):
    """What no handler expects."""


class Fault:
    """Raises when so many changes have begun or been made."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.seen = 0

    def count(self) -> None:
        self.seen += 1
        self.left -= 1
        if self.left == 0:
            raise FaultError


CHANGES = ("put_job", "put_attempt", "put_node", "put_power", "put_traits", "drop_power", "learn", "tell", "tell_power")
INNER = ("put_orphan", "drop_orphan", "drop_dependents", "put_array", "begin_turn", "_count_use", "_index")
PARTS = (
    *(("rack", name) for name in ("take", "give_back", "put_power")),
    *(("running", name) for name in ("begin", "end")),
    *(("turns", name) for name in ("begin", "end")),
    *(("queue", "put"), ("usage", "change"), ("history", "add")),
)


@contextlib.contextmanager
def failing(state: State, fault: Fault) -> Iterator[None]:
    """Every change, and what it is made of, counts twice: as it begins and as it was made."""
    wrapped: list[tuple[Any, str]] = [(state, name) for name in (*CHANGES, *INNER)]
    wrapped += [(getattr(state, part), name) for part, name in PARTS]

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            fault.count()
            result = real(*arguments, **named)
            fault.count()
            return result

        return call

    for owner, name in wrapped:
        setattr(owner, name, counted(getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name in wrapped:
            delattr(owner, name)


def canonical(state: State, now: float) -> dict[str, Any]:
    """All of a state that can be told from outside, without the order of what has none."""
    rack, queue = state.rack, state.queue
    queue.advance(now)  # as every pass of the scheduler does first
    return {
        "jobs": dict(state.jobs),
        "attempts": dict(state.attempts),
        "nodes": dict(state.nodes),
        "orphans": dict(state.orphans),
        "dependents": {key: sorted(value) for key, value in state.dependents.items() if value},
        "power": (dict(state.power), dict(state.power_traits)),
        "usage": (dict(state.usage.records), dict(state.usage._held)),
        "history": dict(state.history.records),
        "queued": (sorted(state.queued_ids), sorted(queue._later_jobs)),
        "classes": {number: (queue.classes[index], entry) for number, (index, entry) in queue._where.items()},
        "sizes": {queue.classes[index]: (queue.jobs[index][:], int(queue.size[index])) for index in queue.classes},
        "predicted": {queue.classes[index]: float(queue.predicted_s(index)) for index in queue.classes},
        "rack": {
            name: [
                *(rack.total[:, row].tolist(), rack.held[:, row].tolist()),
                *(rack.usable[row], rack.powered[row], rack.opens_s[row], rack.cool_until[row]),
            ]
            for name, row in rack.row.items()
            if name in state.nodes  # a row is never taken out again
        },
        "rows of no node": sum(
            int(rack.total[:SLOTS, rack.row[name]].sum()) for name in set(rack.row) - set(state.nodes)
        ),
        "holds": {
            key: (rack.allocations.times_of(key), [rack.allocations.parts[place] for place in places])
            for key, places in rack.allocations.of.items()
        },
        "devices": rack.devices.free.tolist(),
        "open": sorted(state.open),
        "silent": sorted(state.silent),
        "running": [
            dict(table)
            for table in (
                *(state.running.of_array, state.running.of_owner, state.running.in_partition, state.running._attempts),
                *(state.unfinished, state.turns._parts),
            )
        ],
        "arrays": {key: (array.live, dict(array.broken)) for key, array in state.arrays.items()},
        "unsettled": dict(state.unsettled),
        "turns": (state.turns.by_use, state.turns._rate),
        "on_node": {name: sorted(keys) for name, keys in state._on_node.items() if keys},
        "changes": state.changes(),
    }


def check_all_or_nothing(state: State, event: ev.Event, now: float, most: int = 1000) -> int:
    """Let the event fail after every single change, or `most` of them evenly spread; how many it makes."""
    before = canonical(state, now)
    whole = Fault(-1)
    mark = state.journal.mark()
    with failing(state, whole):
        apply(state, event, now)
    state.journal.roll_back(mark)
    assert canonical(state, now) == before
    for after in range(1, whole.seen + 1, 1 + whole.seen // most):
        with failing(state, Fault(after)), pytest.raises(FaultError):
            apply(state, event, now)
        state.journal.roll_back(mark)
        assert canonical(state, now) == before, f"{event} left something behind after change {after}"
    return whole.seen


class FailingRack(Rack):
    """The rack of `test_machine`, in which every event fails first, after each of its changes."""

    def tell(self, event: ev.Event) -> None:
        """One event reaches the core."""
        check_all_or_nothing(self.state, event, self.now, most=8)
        super().tell(event)

    def teardown(self) -> None:
        """That every job ends is tested by `test_machine`."""


TestFailingRack = FailingRack.TestCase
TestFailingRack.settings = settings(
    max_examples=sized(20, 200), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_power_is_rolled_back_too() -> None:
    bench = Bench(node())
    state = bench.state
    events: list[ev.Event] = [
        pe.PowerConfigured("n1", PowerTraits()),
        pe.SwitchOnDecided("n1", "a job waits"),
        pe.PowerStepped("n1", "bmc", "on", "accepted", "asked"),
        ev.NodeConnected("n1", "b2", inventory(), ()),
        pe.PowerSwitched("n1", True, True, "is on"),
        pe.WattsRead("n1", 100.0, False),
        pe.LoginsSeen("n1", 2),
        pe.PowerSeen("n1", True, "the BMC says On"),
        pe.SwitchOffDecided("n1", "nothing to do"),
        pe.PowerSwitched("n1", False, True, "is off"),
        pe.PowerConfigured("n1", None),
    ]
    for event in events:
        check_all_or_nothing(state, event, bench.now)
        bench.happen(event)


def test_a_node_and_a_report_that_fail_leave_nothing() -> None:
    bench = Bench(node())
    state = bench.state
    bench.submit(job(1))
    bench.run(1)
    for event in (
        ev.NodeConfigured(node("n2")),
        ev.NodeConnected("n1", "b2", inventory(2), (report("1.1", "ended"), report("7.1"))),
        ev.NodeRemoved("n1"),
    ):
        assert check_all_or_nothing(state, event, bench.now) >= 2
    assert sorted(state.nodes) == ["n1"]
    placed = bench.place()
    assert placed == []
