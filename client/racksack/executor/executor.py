"""`racksack.Executor`: `submit` and `map` as in `concurrent.futures`, each call a job, a `map` one job array.

    with racksack.Executor(cpus=4, ram="8G") as executor:
        futures = [executor.submit(train, seed) for seed in range(10)]
        scores = [future.result() for future in futures]

A future knows the id of its job, so `racksack.Future.load(id)` takes it up again tomorrow, in another process.
"""

from __future__ import annotations

import concurrent.futures
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from racksack.client import Client
from racksack.errors import RacksackError
from racksack.executor.calls import ENTRY, Call, outcome_of, write_project
from racksack.submission.draft import Value, spec_of_options
from racksack.views import JobView
from racksack_jobspecs.states import FINAL

LOOK_S, LOOK_MOST_S = 0.1, 2.0  # between two looks at the jobs that are awaited, growing
LISTED_MAX = 1000


class Future(concurrent.futures.Future[Any]):
    """The result of one call. `job_id` is its job."""

    def __init__(self, job_id: int, watcher: Watcher) -> None:
        super().__init__()
        self.job_id = job_id
        self._watcher = watcher
        watcher.watch(self)

    @classmethod
    def load(cls, job_id: int, controller: str | None = None) -> Future:
        """The future of a job that an Executor submitted, perhaps in another process."""
        return cls(job_id, Watcher(controller))

    def cancel(self) -> bool:
        """Cancel the job, also while it runs; whether it had not ended yet."""
        if self.done():
            return False
        self._watcher.cancel(self.job_id)
        super().cancel()
        return True

    def __repr__(self) -> str:
        """With the job, by which it can be loaded again."""
        state = "finished" if self.done() else "running" if self.running() else "pending"
        return f"<racksack.Future of job {self.job_id}, {state}>"


class Watcher:
    """One thread that looks at all jobs whose futures are not done, by a connection of its own."""

    def __init__(self, controller: str | None) -> None:
        self._controller = controller
        self._futures: dict[int, Future] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="racksack-results-")

    def watch(self, future: Future) -> None:
        """Look at its job until it has ended."""
        with self._lock:
            self._futures[future.job_id] = future
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="racksack-futures", daemon=True)
                self._thread.start()

    def cancel(self, job_id: int) -> None:
        """Cancel a job. Raises RacksackError."""
        with Client(self._controller) as client:
            client.act(job_id, "cancel")

    def _run(self) -> None:
        pause_s = LOOK_S
        with Client(self._controller) as client:
            while True:
                with self._lock:
                    waiting = dict(self._futures)
                    if not waiting:
                        self._thread = None
                        return
                if self._look(client, waiting):
                    pause_s = LOOK_S
                time.sleep(pause_s)
                pause_s = min(LOOK_MOST_S, 1.5 * pause_s)

    def _look(self, client: Client, waiting: dict[int, Future]) -> bool:
        """Settle the futures whose jobs have ended; whether there were any."""
        try:
            listed = {job.id: job for job in client.jobs(owner="me", all=1, limit=LISTED_MAX)}
            ended = [job_id for job_id in waiting if self._is_over(client, job_id, listed)]
        except RacksackError:
            return False  # the controller is away for now: its jobs go on, and so does this
        for job_id in ended:
            with self._lock:
                future = self._futures.pop(job_id)
            _settle(client, future, Path(self._folder.name))
        return bool(ended)

    def _is_over(self, client: Client, job_id: int, listed: dict[int, JobView]) -> bool:
        job = listed.get(job_id) or client.job(job_id)
        return job.state in FINAL


def _settle(client: Client, future: Future, folder: Path) -> None:
    """Give a future what its job came to."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(outcome_of(client, client.job(future.job_id), folder))
    except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
        future.set_exception(error)


class Executor(concurrent.futures.Executor):
    """Calls functions on the rack. Keywords are the settings of a job, as of `racksack.submit`.

    `packages`: requirements that the function needs on the node, such as ["numpy==2.1"]; none: nothing is installed.
    """

    def __init__(
        self,
        *,
        controller: str | None = None,
        packages: Sequence[str] = (),
        name: str = "call",
        **settings: Value | None,
    ) -> None:
        self._controller = controller
        self._packages = tuple(packages)
        self._settings = {"name": name, "environment": "requirements" if packages else "none", **settings}
        self._watcher = Watcher(controller)
        self._futures: list[Future] = []
        self._is_shut = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:  # noqa: ANN401
        """Call `fn` on the rack. Raises UsageError for what cannot be pickled, and as `racksack.submit`."""
        return self._submit([(fn, args, kwargs)])[0]

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """The results of all calls in their order; all calls are one job array."""
        del chunksize  # each element is a job of its own
        deadline = None if timeout is None else time.monotonic() + timeout
        futures = self.map_futures(fn, *iterables)

        def results() -> Iterator[Any]:
            for future in futures:
                yield future.result(None if deadline is None else max(0.0, deadline - time.monotonic()))

        return results()

    def map_futures(self, fn: Callable[..., Any], *iterables: Iterable[Any]) -> list[Future]:
        """The futures of all calls, which are one job array."""
        calls: list[Call] = [(fn, args, {}) for args in zip(*iterables, strict=False)]
        return self._submit(calls) if calls else []

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; jobs go on by themselves, so that nothing is lost without waiting."""
        self._is_shut = True
        if cancel_futures:
            for future in self._futures:
                future.cancel()
        if wait:
            concurrent.futures.wait(self._futures)

    def _submit(self, calls: Sequence[Call]) -> list[Future]:
        from racksack.api import submit_spec

        if self._is_shut:
            raise RuntimeError("cannot submit after shutdown")
        array = f"0-{len(calls) - 1}" if len(calls) > 1 else None
        options: dict[str, Value | None] = {"project": "local", "entrypoint": ENTRY, **self._settings, "array": array}
        with tempfile.TemporaryDirectory(prefix="racksack-call-") as folder:
            write_project(Path(folder), calls, self._packages)
            jobs = submit_spec(spec_of_options(options), Path(folder), controller=self._controller)
        futures = [Future(job.id, self._watcher) for job in jobs]
        self._futures += futures
        return futures
