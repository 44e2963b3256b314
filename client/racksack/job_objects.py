"""A job, and the jobs of an array, as objects: `racksack.Job`, `racksack.JobArray`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, overload

from racksack.client import Client
from racksack.errors import RacksackError, RefusedError
from racksack.views import JobDetails, JobUsage


@dataclass(frozen=True, repr=False)
class Job:
    """A job on a controller. Holds an id and the way to ask about it, nothing that could be out of date."""

    id: int
    client: Client

    def status(self) -> JobDetails:
        """What the controller knows about the job now."""
        return self.client.job(self.id)

    @property
    def state(self) -> str:
        """Its state now: `queued`, `running`, `done`, ..."""
        return self.status().state

    def why(self) -> str:
        """Why the job is where it is, as a sentence."""
        return self.client.why(self.id).sentence

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait until the job has ended and return its state (`done`, `failed`, ...). Raises WaitTimeoutError."""
        from racksack.following import wait_for

        return wait_for(self.client, [self.id], timeout_s=timeout_s)[0].state

    def result(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until the job has ended and return how it did: state, reason, exit_code, ram_peak_bytes, cpu_s, ...

        Raises WaitTimeoutError.
        """
        self.wait(timeout_s)
        job = self.status()
        same = ("state", "node", "attempt", "exit_code", "ram_peak_bytes", "cpu_s", "output_files", "output_bytes")
        return {"job": job.id, "reason": job.outcome_reason, **{name: getattr(job, name) for name in same}}

    def logs(self, stream: str = "stdout", *, follow: bool = False) -> Iterator[str]:
        """The lines of a log (`stdout`, `stderr`, `env`), without their ends; `follow` goes on until the job has
        ended.
        """
        from racksack.following import follow_log

        pieces = follow_log(self.client, self.id, stream) if follow else self.client.log(self.id, stream)
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def fetch(self, into: str | Path = "results", *, overwrite: bool = False) -> Path:
        """Bring the results to `<into>/<id>-<name>/` and return the folder that they are in.

        Raises RefusedError when local files differ and `overwrite` is not given, TransferError when something is
        missing.
        """
        from racksack.errors import TransferError
        from racksack.fetching import Wish, fetch

        wish = Wish(Path(into), existing="overwrite" if overwrite else "keep")
        (result,) = fetch(self.client, [self.status()], wish)
        if result.error is not None:
            raise TransferError(f"job {self.id}: {result.error}")
        if result.kept:
            raise RefusedError(
                f"job {self.id}: {len(result.kept)} files in {result.folder} differ; allow overwrite=True"
            )
        return result.folder

    def usage(self) -> JobUsage:
        """What it used of what it asked for."""
        return self.client.usage(self.id)

    def cancel(self, reason: str = "") -> None:
        """End the job. A job that has ended stays as it is."""
        self.client.act(self.id, "cancel", reason=reason)

    def retry(self, *, from_checkpoint: bool = False) -> None:
        """Run a finished job again, as it was; it starts from the beginning, or goes on from its newest checkpoint.

        Raises RefusedError for one that has not ended, or has no checkpoint to go on from.
        """
        self.client.act(self.id, "retry", from_checkpoint=from_checkpoint or None)

    def hold(self) -> None:
        """Keep a waiting job from starting."""
        self.client.act(self.id, "hold")

    def release(self) -> None:
        """Let a held job start."""
        self.client.act(self.id, "release")

    def _seen(self) -> JobDetails | None:
        try:
            return self.status()
        except RacksackError:  # a repr never fails
            return None

    def __repr__(self) -> str:
        job = self._seen()
        return f"Job({self.id})" if job is None else f"Job({self.id}, {job.name!r}, {job.state})"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return _html([self._seen() or JobDetails(id=self.id, name="?", state="unknown")])


@dataclass(frozen=True, repr=False)
class JobArray(Sequence[Job]):
    """The jobs of an array, in the order of their indices."""

    jobs: tuple[Job, ...]

    @overload
    def __getitem__(self, index: int) -> Job: ...

    @overload
    def __getitem__(self, index: slice) -> JobArray: ...

    def __getitem__(self, index: int | slice) -> Job | JobArray:
        return JobArray(self.jobs[index]) if isinstance(index, slice) else self.jobs[index]

    def __len__(self) -> int:
        return len(self.jobs)

    @property
    def id(self) -> int:
        """The id of the array: of its first job."""
        return self.jobs[0].id

    def wait(self, timeout_s: float | None = None) -> list[str]:
        """Wait until all have ended and return their states. Raises WaitTimeoutError."""
        from racksack.following import wait_for

        found = wait_for(self.jobs[0].client, [job.id for job in self.jobs], timeout_s=timeout_s)
        states = {job.id: job.state for job in found}
        return [states[job.id] for job in self.jobs]

    def fetch(self, into: str | Path = "results", *, overwrite: bool = False) -> list[Path]:
        """Bring the results of each; raises as `Job.fetch`."""
        return [job.fetch(into, overwrite=overwrite) for job in self.jobs]

    def cancel(self, reason: str = "") -> None:
        """End all of them."""
        for job in self.jobs:
            job.cancel(reason)

    def __repr__(self) -> str:
        return f"JobArray({self.id}, {len(self)} jobs)"

    def _repr_html_(self) -> str:
        """For notebooks; the first hundred."""
        shown = (job._seen() for job in self.jobs[:100])
        return _html([job for job in shown if job is not None])


def _html(jobs: Sequence[JobDetails]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("job", "name", "state", "node", "reason"))
    cells = [
        (job.id, job.name, job.state, job.node or "", (job.outcome_reason if job.is_final else job.why) or "")
        for job in jobs
    ]
    rows = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
