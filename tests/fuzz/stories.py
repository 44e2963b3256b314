"""What a node tells, one line after another, as events of a rack with running jobs: each is taken whole or refused
before, and what comes of all of them can be decided on, saved and shown.

A line is a report, an inventory (the node connects anew and says what it has), or anything else (it is silent).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from racksack_controller.core import events as ev
from racksack_controller.core.actions import Remove, Start, StopAttempt
from racksack_controller.core.decide import decide
from racksack_controller.core.report import AttemptReport
from racksack_controller.core.why import why_job
from racksack_controller.nodes import lines, link
from racksack_controller.store import _attempt_row, _job_row
from racksack_jobspecs.resources import Inventory
from tests.core.builders import Bench, job, node
from tests.fuzz.messages import _no_absurd_number

LINES_MAX = 12


def node_stories(data: bytes) -> None:
    """A story that a node tells about two jobs that run on it, one that waits, and attempts that nobody knows."""
    bench = Bench(node())
    bench.submit(job(1), job(2), job(3))
    bench.run(1)
    told: dict[str, AttemptReport] = {}
    for line in data.split(b"\n")[:LINES_MAX]:
        bench.happen(*_events(line, told))
        bench.place()
        for action in decide(bench.state, bench.now):
            if isinstance(action, Start):
                bench.happen(ev.Launched(action.attempt))
            elif isinstance(action, StopAttempt):
                bench.happen(ev.StopSent(action.node, action.attempt))
            elif isinstance(action, Remove):
                bench.happen(ev.Removed(action.node, action.attempt))
    changes = bench.state.changes()
    for row in (*map(_job_row, changes.jobs), *map(_attempt_row, changes.attempts)):
        _no_absurd_number(list(row))
    msgspec.json.encode([changes.nodes, changes.usage, changes.history, changes.events])
    for one in bench.state.jobs.values():
        why_job(bench.reading(), one).encode()
    assert {one.id for one in changes.jobs} <= {1, 2, 3}


def _events(line: bytes, told: dict[str, AttemptReport]) -> list[ev.Event]:
    try:
        text = lines.without_lone_surrogates(line)
        report = link.report_of("n1", msgspec.Raw(text))
    except ValueError:
        pass
    else:
        told[report.attempt] = report
        return [ev.Reported("n1", report)]
    try:
        found: Inventory = lines.decode(text, Inventory)
    except ValueError:
        return [ev.NodeDisconnected("n1", "it is silent")]
    return [ev.NodeDisconnected("n1", "it is silent"), ev.NodeConnected("n1", "boot2", found, tuple(told.values()))]


TARGETS: dict[str, Callable[[bytes], None]] = {"node_stories": node_stories}
