"""(f) Sweeps: points a second of a function that does nothing, and of one that takes a millisecond.

racksack stores every result durably and is counted from the moment when its workers are up, as the peers' are, to the
last result in the store; a second row counts from the job file. The peers keep results in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import ours, processes, stored_points
from tests.bench.harness import Contender, Report, wait_for
from tests.bench.peers import sweeps
from tests.bench.setting import Setting, leaving_out

POINTS = 65_536
CHUNKS = {
    "pool": (2048, 256),
    "joblib": (2048,),
    "celery": (1024,),
    "dask": (1024,),
    "hyperqueue": (32_768, 4096, 1024),
}
POOL = "ProcessPoolExecutor, chunks of 2,048"
CODE = """
import time
def evaluate(a, b):
    return {"score": a * 1.5 - b, "trades": a}
def wait(a, b):
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    return evaluate(a, b)
def fail(a, b):
    raise ValueError("no luck")
"""


def run(setting: Setting) -> list[Report]:
    """All contenders have warm workers and take turns."""
    empty = Report(f"Sweep of {POINTS:,} near-empty points (points a second)", reference=POOL)
    waiting = Report("Sweep of points of 1 ms (points a second)", reference="ProcessPoolExecutor, chunks of 256")
    memory = Report("Memory of the controller")
    with contextlib.ExitStack() as stack:
        rack = stack.enter_context(ours.running(setting.folder / "racksack", {"here": ours.local_node(2)}))
        sweep = Ours(rack, setting.folder)
        before = processes.rss_bytes(rack.process.pid)
        peers = {}
        for kind in CHUNKS:
            if setting.wants(kind):
                with leaving_out(empty, kind):
                    place = setting.folder / kind
                    peers[kind] = stack.enter_context(
                        sweeps.running(kind, place, setting.hyperqueue.with_name("sweeps"))
                    )
        names = {"pool": "ProcessPoolExecutor", "joblib": "joblib", "celery": "Celery and Redis", "dask": "Dask",
                 "hyperqueue": "HyperQueue"}  # fmt: skip
        contenders = [Contender("racksack, every result stored", lambda: sweep.rate("evaluate", 256))]
        for kind, peer in peers.items():
            contenders += [
                Contender(f"{names[kind]}, chunks of {size:,}", _measure(peer, POINTS, size)) for size in CHUNKS[kind]
            ]
        empty.take_turns(contenders, "/s", setting.rounds)
        empty.add("racksack, from the job file to the last result", "/s", sweep.whole)
        empty.add("racksack, points that all fail", "/s", [sweep.rate("fail", 256) for _ in range(setting.rounds)])
        few = 8 if setting.is_quick else 32
        contenders = [Contender("racksack, every result stored", lambda: sweep.rate("wait", few))]
        if "pool" in peers:
            contenders.append(
                Contender("ProcessPoolExecutor, chunks of 256", _measure(peers["pool"], few * 256, 256, 0.001))
            )
        waiting.take_turns(contenders, "/s", setting.rounds)
        memory.add("before", "MiB", [before / 2**20])
        memory.add(f"after {sweep.points:,} points", "MiB", [processes.rss_bytes(rack.process.pid) / 2**20])
    return [empty, waiting, memory, _top(setting)]


def _top(setting: Setting) -> Report:
    """The ten best of many stored points, as `racksack sweep top` asks for them."""
    points = 100_000 if setting.is_quick else 1_000_000
    report = Report(f"The ten best of {points:,} stored points (ms)")
    store = stored_points.make(setting.folder / "top.db", points)
    for by in ("score", "score / (1 + drawdown)"):
        report.add(f"by {by}", "ms", [1000 * stored_points.seconds_to_rank(store, by) for _ in range(setting.rounds)])
    for by in ("score", "score / (1 + drawdown)"):
        times = [1000 * stored_points.seconds_to_draw(store, by) for _ in range(setting.rounds)]
        report.add(f"with all plots, as the page shows them, by {by}", "ms", times)
    return report


def _measure(peer: sweeps.Peer, points: int, size: int, seconds: float = 0.0) -> Callable[[], float]:
    return lambda: peer.rate(points, size, seconds)


class Ours:
    """Sweeps through the spool, as any program submits them."""

    def __init__(self, rack: ours.Racksack, folder: Path) -> None:
        self._rack = rack
        self._folder = folder
        self._number = 0
        self.points = 0
        self.whole: list[float] = []

    def rate(self, function: str, rows: int) -> float:
        """Points a second of a sweep of `rows` x 256; its code is new each time, so that nothing is reused."""
        self._number += 1
        project = self._folder / f"sweep-{self._number}"
        project.mkdir()
        (project / "f.py").write_text(f"{CODE}# {self._number} {os.getpid()}\n")
        name = self._rack.upload(project)
        known = set((self._rack.spool / "returns").iterdir())
        text = f"project: {name}\nentrypoint: f.py\nenvironment: none\ncpus: 2\nram: 1G\n"
        text += f"submission: sweep-{self._number}\n"
        text += f"sweep: {{function: {function}, params: {{a: '0:{rows - 1}:1', b: '0:255:1'}}, "
        text += "metric: score, retries: 0}\n"
        dropped_s = self._rack.drop(text, f"sweep-{self._number}")
        summary = self._summary(known)
        points = rows * 256
        assert summary["failed" if function == "fail" else "done"] == points, summary
        self.points += points
        if function == "evaluate":
            self.whole.append(points / (summary["ended_at_s"] - dropped_s))
        return points / float(summary["ended_at_s"] - summary["ready_at_s"])

    def _summary(self, known: set[Path]) -> dict[str, float]:
        """What the sweep's folder says, once it is there."""
        found: list[Path] = []

        def is_there() -> bool:
            new = {one for one in (self._rack.spool / "returns").iterdir() if one.name.isdigit()} - known
            found[:] = [path for folder in new if (path := folder / "summary.json").exists()]
            return bool(found)

        wait_for(is_there, "the end of the sweep", 600, every_s=0.05)
        time.sleep(0.5)  # its runner goes, and its folder is written: neither is part of the next round
        content: dict[str, float] = json.loads(found[0].read_text())
        return content
