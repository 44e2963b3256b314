"""One worker: a process in the job's own Python that computes points, batch after batch, with imports paid once.

Started as a script: `worker.py SOCKET SHARED PLAN SLOT`. It reads batches from a socket and writes frames to it (see
`frames`). Into a few bytes of memory shared with the runner it writes which point of which batch it works on and since
when; so the runner can hold each point to its time limit and knows which one a crash is to blame on.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import threading
import time
import traceback
from array import array
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

if not __package__:  # started by its path; what the job imports must not meet our modules
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from racksack_agent.supervisor import masking
from racksack_agent.sweep_runner import columns, curves, frames, points, reporting, targets

if not __package__:
    del sys.path[0]

SHARED_BYTES = 64
FLUSH_S = 0.1
VERDICT_AGAIN_S, VERDICT_TRIES = 3.0, 10  # at a rung; a controller that is down costs no more, and is heard later
VERDICT_POLL_S = 0.002
_OOM_SCORE = "500"  # when memory is short, a worker goes before the runner

Plan = Dict[str, Any]
Message = Dict[str, Any]
Report = Tuple[int, float, Dict[str, Any]]  # point, seconds since it began, metrics with `step`


class Progress:
    """What the runner can see at any instant, whatever the point does to this process."""

    def __init__(self, file: int) -> None:
        shared = memoryview(mmap.mmap(file, SHARED_BYTES))
        self.numbers = shared[:16].cast("Q")  # the batch, the index of the point in it
        self.began_s = shared[16:24].cast("d")  # time.monotonic(); 0 between points
        self.verdict = shared[24:56].cast("Q")  # by the runner: batch, index, rungs judged, whether the point stops

    def is_stopped(self) -> bool:
        """Whether the verdict on the present point is to stop."""
        batch, index, _, stop = self.verdict
        return bool(stop) and batch == self.numbers[0] and index == self.numbers[1]

    def wait_for_verdict(self, rung: int, wait_s: float) -> bool:
        """Wait until the runner has passed on the verdict at this rung (from 0); whether it has."""
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s:
            batch, index, judged, _ = self.verdict
            if judged > rung and batch == self.numbers[0] and index == self.numbers[1]:
                return True
            time.sleep(VERDICT_POLL_S)
        return False

    def begin(self, batch: int) -> None:
        """A new batch, of which no point has begun."""
        self.began_s[0] = 0.0
        self.numbers[1] = 0
        self.numbers[0] = batch


class Batch:
    """The outcomes of one batch. The loop over the points appends; `flush`, called by it at the end and by a thread
    meanwhile, sends what is new: a point that takes long does not hold back those before it.
    """

    def __init__(self, send: Callable[[bytes], object], chunk: int, numbers: Sequence[int]) -> None:
        self.results: List[Optional[Dict[str, Any]]] = []  # None for a failure
        self.seconds: List[float] = []  # appended last: its length is the number of points that are done
        self.failures: List[List[Any]] = []
        self.reports: List[Report] = []
        self._send = send
        self._chunk = chunk
        self._numbers = numbers
        self._sent = 0
        self._failures_sent = 0
        self._lock = threading.Lock()

    def point(self, index: int) -> int:
        """The number of the point at `index`."""
        return int(self._numbers[index])

    def fail(self, index: int, kind: str, sentence: str, seconds: float) -> None:
        """A point that failed."""
        self.failures.append([self._numbers[index], kind, masking.mask_own(sentence), round(seconds, 6)])
        self.results.append(None)
        self.seconds.append(seconds)

    def flush(self) -> None:
        """Send what is new. Raises OSError when the runner is gone."""
        with self._lock:
            reports = self.reports[:]
            del self.reports[: len(reports)]  # what is appended meanwhile stays
            if reports:  # before the results of their points
                self._send(frames.encode(*self._frame_of(reports)))
            first, end = self._sent, len(self.seconds)
            if first == end:
                return
            failures = self.failures[self._failures_sent :]
            last = [failure for failure in failures if failure[0] in self._numbers[first:end]] if failures else []
            data = b""
            if len(last) < end - first:
                data = frames.encode(*self._frame(first, end, has_failures=bool(last)))
            if last:
                data += frames.encode({"k": "fail", "c": self._chunk, "p": last})
            self._sent = end
            self._failures_sent += len(last)
            self._send(data)

    def _frame_of(self, reports: List[Report]) -> tuple[Dict[str, Any], bytes]:
        header: Dict[str, Any] = {"k": "report", "c": self._chunk, "n": len(reports)}
        took = columns.little_endian(array("f", [seconds for _, seconds, _ in reports]))
        found = columns.columns([metrics for _, _, metrics in reports])
        header.update(t=len(took), cols=[[name, kind, len(data)] for name, kind, data in found])
        numbers = columns.little_endian(array("q", [point for point, _, _ in reports]))
        return header, b"".join([numbers, took, *(data for _, _, data in found)])

    def _frame(self, first: int, end: int, *, has_failures: bool) -> tuple[Dict[str, Any], bytes]:
        header: Dict[str, Any] = {"k": "ok", "c": self._chunk}
        parts = []
        numbers, results, seconds = self._numbers, self.results[first:end], self.seconds[first:end]
        if isinstance(numbers, range) and not has_failures:
            header["lo"] = numbers[first]
        else:
            kept = [index for index in range(first, end) if self.results[index] is not None]
            parts.append(columns.little_endian(array("q", [numbers[index] for index in kept])))
            results, seconds = [self.results[index] for index in kept], [self.seconds[index] for index in kept]
        took = columns.little_endian(array("f", seconds))
        parts.append(took)
        found = columns.columns(results)  # type: ignore[arg-type]  # failures were left out
        header.update(n=len(results), t=len(took), cols=[[name, kind, len(data)] for name, kind, data in found])
        return header, b"".join([*parts, *(data for _, _, data in found)])


class Worker:
    """Computes what it is sent."""

    def __init__(self, channel: socket.socket, progress: Progress, plan: Plan, target: targets.Target) -> None:
        self._channel = channel
        self._progress = progress
        self._plan = plan
        self._target = target
        self.batch: Optional[Batch] = None
        self._curve: Optional[curves.Curve] = None  # of the present point, once it has reported
        self._curve_index = -1
        self._curve_batch: Optional[Batch] = None
        self._values_of = None if plan["space"]["kind"] == "given" else points.values_of(plan["space"])

    def serve(self) -> None:
        """Until the runner closes the socket."""
        splitter = frames.Splitter()
        while True:
            data = self._channel.recv(1 << 20)
            if not data:
                return
            for message, _, _ in splitter.feed(data):
                self.compute(message)

    def compute(self, message: Message) -> None:
        """All points of one batch."""
        numbers = range(message["lo"], message["hi"]) if "lo" in message else message["p"]
        values = message["v"] if self._values_of is None else self._values_of(numbers)
        batch = self.batch = Batch(self._channel.sendall, message["c"], numbers)
        self._progress.begin(message["b"])
        self._run(batch, values)
        self._progress.began_s[0] = 0.0
        batch.flush()

    def _run(self, batch: Batch, values: Sequence[Dict[str, Any]]) -> None:
        """The loop over the points, which is all that a near-empty one costs: nothing here that can be elsewhere."""
        target, clock, metric = self._target, time.monotonic, self._plan["metric"]
        numbers, began = self._progress.numbers, self._progress.began_s
        keep_result, keep_seconds = batch.results.append, batch.seconds.append
        began_s = clock()
        for index, parameters in enumerate(values):
            numbers[1] = index
            began[0] = began_s
            try:
                result = target(**parameters)
                if result.__class__ is not dict:
                    result = columns.metrics_of(result, metric)
            except reporting.Stop:
                keep_result(self._curve.last if self._curve is not None else {})
                keep_seconds(clock() - began_s)
                began_s = clock()
            except BaseException as problem:  # noqa: BLE001 - whatever a point raises is that point's failure
                _failed(batch, index, problem, clock() - began_s)
                began_s = clock()
            else:
                ended_s = clock()
                keep_result(result)
                keep_seconds(ended_s - began_s)
                began_s = ended_s

    def heard(self, step: float, values: Mapping[str, Any]) -> bool:
        """The present point reports; whether it is to stop. Waits for the verdict where it has reached a rung."""
        batch, index = self.batch, int(self._progress.numbers[1])
        if batch is None:
            return False
        if self._curve is None or self._curve_index != index or self._curve_batch is not batch:
            rungs = curves.rungs_of(self._plan.get("stop"), batch.point(index))
            self._curve, self._curve_index, self._curve_batch = curves.Curve(rungs), index, batch
        curve, before = self._curve, self._curve.rung
        curve.last = {str(name): columns.plain(value) for name, value in values.items()}
        if curve.takes(step):
            seconds = time.monotonic() - self._progress.began_s[0]
            report: Report = (batch.point(index), seconds, {**curve.last, "step": step})
            batch.reports.append(report)
            if curve.rung > before:
                self._await_verdict(batch, curve.rung, report)
        return self._progress.is_stopped()

    def _await_verdict(self, batch: Batch, rung: int, report: Report) -> None:
        """Send the report until it is answered: a controller that was killed may not have answered it."""
        for _ in range(VERDICT_TRIES):
            batch.flush()
            if self._progress.wait_for_verdict(rung, VERDICT_AGAIN_S):
                return
            batch.reports.append(report)

    def flush_now_and_then(self) -> None:
        """The work of a thread."""
        while True:
            time.sleep(FLUSH_S)
            batch = self.batch
            if batch is not None:
                try:
                    batch.flush()
                except OSError:
                    return  # the runner is gone


def _failed(batch: Batch, index: int, problem: BaseException, seconds: float) -> None:
    if isinstance(problem, targets.PointFailed):
        batch.fail(index, problem.kind, str(problem), seconds)
        return
    if not isinstance(problem, (TypeError, ValueError)) or problem.__traceback__ is not None:
        traceback.print_exception(type(problem), problem, problem.__traceback__)
    batch.fail(index, "error", targets.describe(problem), seconds)


def settle(slot: Dict[str, Any]) -> None:
    """Take the slot's cores, and let the kernel end this process before the runner when memory is short."""
    if slot["cpu_ids"]:
        os.sched_setaffinity(0, slot["cpu_ids"])
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(_OOM_SCORE)
    except OSError:
        return


def main(channel_file: int, shared_file: int, plan: Plan, slot: Dict[str, Any]) -> None:
    """Load the target, say so, and serve."""
    settle(slot)
    channel = socket.socket(fileno=channel_file)
    progress = Progress(shared_file)
    began_s = time.monotonic()
    reporting.install()
    try:
        target = targets.load(plan, slot["extra"], slot["scratch"])
    except targets.TargetError as problem:
        cause = problem.__cause__
        if cause is not None:
            traceback.print_exception(type(cause), cause, cause.__traceback__)
        channel.sendall(frames.encode({"k": "bad", "c": 0, "error": str(problem)}))
        return
    channel.sendall(frames.encode({"k": "up", "c": 0, "s": round(time.monotonic() - began_s, 4)}))
    worker = Worker(channel, progress, plan, target)
    reporting.listen(worker.heard)
    threading.Thread(target=worker.flush_now_and_then, daemon=True).start()
    worker.serve()


if __name__ == "__main__":
    import json

    with open(sys.argv[3], encoding="utf-8") as _file:
        _plan = json.load(_file)
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), _plan, json.loads(sys.argv[4]))
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the runner is gone, and so is this attempt
