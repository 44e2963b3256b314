"""One controller as an object: what can be asked of it and told to it, with values in place of JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from racksack import errors
from racksack.transport.connection import ANSWER_TIMEOUT_S, Answer, Connection
from racksack.transport.target import Target, choose
from racksack.views import (
    Accepted,
    Attach,
    EnergyReport,
    FailedPoint,
    JobDetails,
    JobUsage,
    JobView,
    NodeView,
    Plan,
    ProgramUsage,
    Ranking,
    RecurringView,
    Status,
    SweepView,
    Why,
)
from racksack_jobspecs.bounds import UNDECODABLE
from racksack_jobspecs.findings import Finding

T = TypeVar("T")
PAGE = 1000
LONG_POLL_S = 20.0
DOCTOR_S = 120.0  # the check of a node waits for BMCs
RESULTS_WAIT_S = 300.0  # a million points take a while
_ACCEPT_S_MAX = 60.0
_CHUNK_BYTES = 256 * 1024


class Client:
    """A way to one controller. Use it in `with`, or call `close`. Raises the errors of `racksack.errors`."""

    def __init__(self, controller: str | Target | None = None) -> None:
        self.target = controller if isinstance(controller, Target) else choose(controller)
        self._connection = Connection(self.target)
        self._is_ready = self.target.home is None
        self._ahead_s: float | None = None  # the controller's clock before ours, once it is known

    def now_s(self) -> float:
        """The time (Unix seconds) by the controller's clock, which times of jobs are told by; ours may be wrong."""
        if self._ahead_s is None:
            before = time.time()
            there = self.controller().get("now_s")
            self._ahead_s = there - (before + time.time()) / 2 if isinstance(there, int | float) else 0.0
        return time.time() + self._ahead_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def limit_opening(self, limit_s: float) -> None:
        """Give a login up after so long, also one that waits for a person."""
        self._connection.open_s_max = limit_s

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: bytes | None = None,
        wait_s: float = 0,
    ) -> Answer:
        """One request; an embedded controller is started first when it does not run. `wait_s` is what it may take
        longer.
        """
        if wait_s:
            query = {**(query or {}), "wait_s": f"{wait_s:g}"}
        try:
            return self._ask_ready(method, path, query, body, wait_s)
        except errors.UnreachableError:
            # An embedded controller that was just killed still looked alive. Only a question is repeated.
            if self._is_ready or method != "GET":
                raise
            return self._ask_ready(method, path, query, body, wait_s)

    def _ask_ready(
        self, method: str, path: str, query: Mapping[str, object] | None, body: bytes | None, wait_s: float
    ) -> Answer:
        if not self._is_ready:
            from racksack.transport.embedded import ensure_running

            ensure_running(self.target)
            self._is_ready = True
        try:
            return self._connection.request(method, path, query=query, body=body, timeout_s=ANSWER_TIMEOUT_S + wait_s)
        except errors.UnreachableError:
            self._is_ready = self.target.home is None
            raise

    def get(self, kind: type[T], path: str, query: Mapping[str, object] | None = None, *, wait_s: float = 0) -> T:
        """GET, decoded."""
        return _decode(self.ask("GET", path, query, wait_s=wait_s).body, kind)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - whatever it answers
        """POST, decoded."""
        answer = self.ask("POST", path, body=msgspec.json.encode(body or {})).body
        return _decode(answer, object) if answer.strip() else None

    def status(self) -> Status:
        """Waiting, active and the last finished jobs, and the nodes."""
        return self.get(Status, "status")

    def controller(self) -> dict[str, Any]:
        """What the controller says about itself, at once: `version`, `now_s`, `started_at_s`, `problem`, ..."""
        return self.get(dict[str, Any], "controller")

    def doctor(self, nodes: Sequence[str] = ()) -> list[Finding]:
        """What the controller finds out about itself, its nodes and its jobs; `nodes` are checked in full."""
        return self.get(list[Finding], "doctor", {"node": ",".join(nodes) or None}, wait_s=DOCTOR_S)

    def jobs(self, *, limit: int | None = None, before: int | None = None, **query: object) -> list[JobView]:
        """Jobs, newest first: `state` (a comma list), `owner` (`me`), `name`, `fetched` (0), `all` (1).

        before: only ids below this one.
        """
        found: list[JobView] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = self.get(list[JobView], "jobs", {**query, "limit": size, "before": before})
            page = [job for job in page if before is None or job.id < before]
            found += page
            if len(page) < size:
                break
            before = min(job.id for job in page)
        return found

    def job(self, job_id: int, *, seen: str | None = None, wait_s: float = 0) -> JobDetails:
        """One job; with `seen` and `wait_s` the answer comes when its state is another one, or after that time."""
        return self.get(JobDetails, f"jobs/{job_id}", {"seen": seen}, wait_s=wait_s)

    def why(self, job_id: int) -> Why:
        """Why a job is where it is."""
        return self.get(Why, f"jobs/{job_id}/why")

    def node_why(self, name: str) -> Why:
        """Why a node is as it is."""
        return self.get(Why, f"nodes/{name}/why")

    def usage(self, job_id: int) -> JobUsage:
        """What a job used of what it asked for."""
        return self.get(JobUsage, f"jobs/{job_id}/usage")

    def usage_of_programs(
        self, *, project: str | None = None, since_s: float | None = None, owner: str | None = None
    ) -> list[ProgramUsage]:
        """Sums over the runs that ended since a time (Unix seconds), program by program."""
        return self.get(list[ProgramUsage], "usage", {"project": project, "since_s": since_s, "owner": owner})

    def nodes(self) -> list[NodeView]:
        """All nodes."""
        return self.get(list[NodeView], "nodes")

    def node(self, name: str) -> NodeView:
        """One node."""
        return self.get(NodeView, f"nodes/{name}")

    def power(self, name: str, act: str, **body: object) -> NodeView:
        """Have a node switched: on, off or cycle (`force`), hold (`for_s`, `reason`) or release."""
        found = self.post(f"nodes/{name}/power", {"act": act, **{k: v for k, v in body.items() if v is not None}})
        return msgspec.convert(found, NodeView)

    def energy(self, since_s: float | None = None) -> EnergyReport:
        """What nodes and jobs drew since a Unix time (default: a week ago)."""
        return self.get(EnergyReport, "energy", {"since_s": since_s})

    def act(self, job_id: int, verb: str, **body: object) -> Any:  # noqa: ANN401
        """cancel, hold, release, retry or fetched."""
        return self.post(f"jobs/{job_id}/{verb}", {key: value for key, value in body.items() if value is not None})

    def cancel_many(self, ids: Sequence[int], *, reason: str | None, results: bool | None) -> set[int]:
        """Cancel jobs in one request; which of them it was. Sweeps and jobs that are over are not among them."""
        body = {"ids": list(ids), "reason": reason, "results": results}
        answer = self.post("cancel", {key: value for key, value in body.items() if value is not None})
        return set(answer["cancelled"])

    def bring(self, job_id: int, patterns: Sequence[str]) -> dict[str, Any]:
        """Have files that stayed on a job's node brought to its results; how many came, and what was not found."""
        while True:
            answer: dict[str, Any] = self.post(f"jobs/{job_id}/bring", {"patterns": list(patterns)})
            if not answer.get("under_way"):
                return answer

    def attach(self, job_id: int, *, shell: bool = False, view: bool = False, rank: int | None = None) -> Attach:
        """How to get into a running job (`view`: to only see its terminal), of a gang into one rank of it."""
        query = {"shell": 1 if shell else None, "view": 1 if view else None, "rank": rank}
        return self.get(Attach, f"jobs/{job_id}/attach", query)

    def plan(self, text: str, size_bytes: int = 0) -> Plan:
        """What would become of a job file whose project has so many bytes."""
        query = {"bytes": size_bytes or None}
        return _decode(self.ask("POST", "plan", query, body=text.encode()).body, Plan)

    def has_snapshot(self, digest: str) -> bool:
        """Whether a job of ours may refer to this content."""
        try:
            self.ask("GET", f"snapshots/{digest}")
        except errors.NotFoundError:
            return False
        return True

    def accepted(self, key: str) -> list[int]:
        """The jobs (the sweep, the recurring job) of a submission, once it was accepted.

        Raises UsageError with the reason when it was refused.
        """
        deadline = time.monotonic() + _ACCEPT_S_MAX
        while time.monotonic() < deadline:
            try:
                answer = self.get(Accepted, f"submissions/{key}", wait_s=LONG_POLL_S)
            except errors.NotFoundError:
                answer = Accepted()
            if answer.error is not None:
                raise errors.UsageError(f"the controller refused the job: {answer.error}")
            if answer.jobs:
                return answer.jobs
            if answer.sweep is not None:
                return [answer.sweep]
            if answer.recurring is not None:
                return [answer.recurring]
            time.sleep(0.1)
        raise errors.RacksackError(
            f"the job was handed in but not accepted within {_ACCEPT_S_MAX:.0f} s; it is kept, so do not submit it "
            "again: `racksack status` shows it as soon as it is accepted"
        )

    def recurring(self, *, everybody: bool = False) -> list[RecurringView]:
        """The recurring jobs of the caller, or (operators) of everybody."""
        return self.get(list[RecurringView], "recurring", {"all": 1 if everybody else None})

    def recurring_job(self, number: int) -> RecurringView:
        """One of them."""
        return self.get(RecurringView, f"recurring/{number}")

    def act_on_recurring(self, number: int, verb: str) -> RecurringView:
        """Pause | resume | remove | run."""
        return _decode(self.ask("POST", f"recurring/{number}/{verb}").body, RecurringView)

    def log_chunk(
        self,
        job_id: int,
        stream: str,
        offset: int,
        *,
        attempt: int | None = None,
        rank: int | None = None,
        wait_s: float = 0,
    ) -> tuple[bytes, int, bool]:
        """Bytes of a log from `offset` (below zero: from the end), the next offset, and whether the log has ended."""
        answer = self.ask(
            "GET",
            f"jobs/{job_id}/logs/{stream}",
            {"offset": offset, "limit": _CHUNK_BYTES, "attempt": attempt, "rank": rank},
            wait_s=wait_s,
        )
        following = answer.headers.get("Racksack-Offset", str(max(offset, 0) + len(answer.body)))
        return answer.body, int(following), answer.headers.get("Racksack-Ended", "0") == "1"

    def history(self, **query: object) -> list[JobView]:
        """Finished jobs: `since_s`, `owner`, `limit`."""
        return self.get(list[JobView], "history", query)

    def sweeps(self, *, limit: int | None = None, **query: object) -> list[SweepView]:
        """Sweeps, newest first: `state`, `owner` (`me`), `name`."""
        return self.get(list[SweepView], "sweeps", {**query, "limit": limit})

    def sweep(self, number: int, *, seen: str | None = None, wait_s: float = 0) -> SweepView:
        """One sweep; with `seen` and `wait_s` the answer comes when its state is another one, or after that time."""
        return self.get(SweepView, f"sweeps/{number}", {"seen": seen}, wait_s=wait_s)

    def sweep_top(
        self, number: int, *, n: int = 10, by: str | None = None, run: str = "main", pareto: bool = False
    ) -> Ranking:
        """The best points of a sweep by a metric or an expression; `pareto`: those that none beats in all metrics."""
        query = {"n": n, "by": by, "run": run, "pareto": 1 if pareto else None}
        return self.get(Ranking, f"sweeps/{number}/results", query)

    def sweep_failures(self, number: int, *, run: str = "main", waiting: bool | None = None) -> Iterator[FailedPoint]:
        """The points of a sweep that failed: for good, until their retry (`waiting`), or both."""
        after = -1
        while True:
            query = {"failed": 1, "run": run, "after": after, "waiting": None if waiting is None else int(waiting)}
            page = self.get(list[FailedPoint], f"sweeps/{number}/points", query)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].point

    def sweep_results(self, number: int, *, run: str = "main", as_csv: bool = False) -> bytes:
        """All results of a sweep as JSON lines or CSV."""
        query = {"all": 1, "run": run, "format": "csv" if as_csv else "jsonl"}
        return self.ask("GET", f"sweeps/{number}/results", query, wait_s=RESULTS_WAIT_S).body

    def act_on_sweep(self, number: int, verb: str, **body: object) -> SweepView:
        """stop, resume, retry or cancel."""
        return msgspec.convert(self.post(f"sweeps/{number}/{verb}", body), SweepView)

    def resolve(self, words: Sequence[str]) -> list[int]:
        """Job ids of what a person wrote: numbers, ranges, names and `last`."""
        from racksack.ids import resolve

        return resolve(self, words)

    def log(
        self,
        job_id: int,
        stream: str = "stdout",
        *,
        attempt: int | None = None,
        rank: int | None = None,
        offset: int = 0,
    ) -> Iterator[bytes]:
        """What a log holds now, piece by piece."""
        while True:
            data, offset, _ = self.log_chunk(job_id, stream, offset, attempt=attempt, rank=rank)
            if not data:
                return
            yield data


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNDECODABLE as error:
        raise errors.RacksackError(
            f"cannot understand the controller's answer ({error}); is it a different version?"
        ) from error
