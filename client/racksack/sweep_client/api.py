"""Sweeps from Python: `racksack.sweep(...)` and what it returns.

sweep = racksack.sweep("./project", "backtest.py:evaluate", {"fast": "5:60:1", "slow": range(20, 241, 5)}, cpus=4)
sweep.wait()
print(sweep.top(10)[0].params)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict, Unpack

from racksack.api import connect, submit_spec
from racksack.client import Client
from racksack.submission.draft import Value, spec_of_options
from racksack.sweep_client import options as wishes
from racksack.views import FailedPoint, RankedPoint, SweepView

Scalar: TypeAlias = str | int | float | bool | None
Params: TypeAlias = Mapping[str, "str | Scalar | Iterable[Scalar] | Mapping[str, Scalar | Iterable[Scalar]]"]
"""Values by parameter: as on the command line (`"20:80:2"`), one value, several, or `{"values": ..., "if": ...}`."""


@dataclass(frozen=True)
class Sweep:
    """A sweep on a controller. Holds an id and the way to ask about it, nothing that could be out of date."""

    id: int
    client: Client

    def status(self) -> SweepView:
        """How far it is now."""
        return self.client.sweep(self.id)

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait until it is over or stopped, and return its state (`done`, ...). Raises WaitTimeoutError."""
        from racksack.sweep_client.progress import wait

        return wait(self.client, self.id, timeout_s).state

    def top(self, n: int = 10, *, by: str | None = None, run: str = "main") -> list[RankedPoint]:
        """The best points so far, by a metric or an expression such as `"sharpe / (1 + drawdown)"`."""
        return self.client.sweep_top(self.id, n=n, by=by, run=run).rows

    def points(self, *, failed: bool = True, waiting: bool | None = None) -> Iterator[FailedPoint]:
        """The points that failed: for good (`waiting=False`), until their retry (`waiting=True`), or both."""
        if not failed:
            raise ValueError("results are what `results` gives; `points` gives those that failed")
        return self.client.sweep_failures(self.id, waiting=waiting)

    def results(self, *, run: str = "main") -> list[dict[str, object]]:
        """All points: `point`, `params`, `metrics`, `seconds`, and how one `failure`d."""
        import json

        return [json.loads(line) for line in self.client.sweep_results(self.id, run=run).splitlines()]

    def export(self, path: str | Path, *, run: str = "main", kind: str | None = None) -> Path:
        """Write all results: CSV, JSON, JSON lines or Parquet, by the path's ending. Raises RacksackError."""
        from racksack.sweep_client.export import kind_of, write

        target = Path(path)
        write(self.client, self.id, run, kind_of(str(target), kind), target)
        return target

    def stop(self, reason: str = "") -> None:
        """Pause a sweep."""
        self.client.act_on_sweep(self.id, "stop", reason=reason)

    def resume(self, reason: str = "") -> None:
        """Continue with the missing points."""
        self.client.act_on_sweep(self.id, "resume", reason=reason)

    def retry(self, reason: str = "") -> int:
        """Run exactly the failed points again; how many. Raises RefusedError when none has failed."""
        return self.client.act_on_sweep(self.id, "retry", reason=reason).retried or 0

    def cancel(self, reason: str = "") -> None:
        """Stop a sweep; keep what was computed."""
        self.client.act_on_sweep(self.id, "cancel", reason=reason)


class SweepOptions(TypedDict, total=False):
    """What a sweep may be given, written as on the command line."""

    args: Sequence[str]  # words of a program, with {name}
    where: str | Sequence[str]
    range: str
    jobs: str | Path  # a file
    fixed: Mapping[str, Scalar]
    search: str
    count: int
    seed: int
    population: int
    warm_start: int | str
    metric: str | Sequence[str]
    point_timeout: str
    retries: int
    backoff: str
    max_fails: int | str
    chunk: int | str
    max_runners: int
    slots: int | str
    control: int | str
    control_args: Mapping[str, Scalar]
    control_env: Mapping[str, str]
    notify: Sequence[str]
    name: str
    cpus: float
    ram: str
    gpus: int | str | Mapping[str, str | float]
    env: Mapping[str, str]
    environment: str
    python: str
    requirements: str
    priority: int
    labels: Sequence[str]
    nodes: Sequence[str]
    ramdisk: Sequence[str]
    hold: bool
    submission: str


def sweep(
    project: str | Path,
    target: str,
    params: Params | None = None,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    controller: str | Client | None = None,
    **options: Unpack[SweepOptions],
) -> Sweep:
    """Submit a sweep of `FILE.py:FUNCTION`, or of a program.

    Raises UsageError for arguments that make no sweep, ProjectError, NeverRunnableError, UnreachableError and
    TransferError.
    """
    unknown = [key for key in options if key not in SweepOptions.__annotations__]
    if unknown:
        raise TypeError(f"sweep() has no option {unknown[0]!r}; there are {', '.join(SweepOptions.__annotations__)}")
    if not isinstance(target, str):
        raise TypeError("sweep() needs its target as text, 'FILE.py:FUNCTION'; a function by itself cannot be sent")
    entrypoint, function = wishes.split_target(target)
    values = {key: _values(value) for key, value in (params or {}).items()}
    job: dict[str, Value | None] = {"project": "local", "entrypoint": entrypoint}
    for key, value in options.items():
        if key in _OF_JOB:
            job[_OF_JOB[key]] = value  # type: ignore[assignment]  # what kinds these are stands in SweepOptions
    job["sweep"] = _inner(function, values, options)
    client = connect(controller)
    [made] = submit_spec(spec_of_options(job), Path(project), include=include, exclude=exclude, controller=client)
    return Sweep(made.id, client)


_OF_JOB = {"ramdisk": "stage_in_ram"} | {
    key: key
    for key in (
        "args", "name", "cpus", "ram", "gpus", "env", "environment", "python", "requirements", "priority", "labels",
        "nodes", "hold", "submission",
    )
}  # fmt: skip
_AS_THEY_ARE = ("range", "point_timeout", "retries", "backoff", "max_fails", "chunk", "max_runners", "slots")


def _inner(function: str | None, params: dict[str, Value], options: SweepOptions) -> dict[str, Value]:
    """What stands under `sweep`."""
    plain: dict[str, Value | None] = {key: options.get(key) for key in _AS_THEY_ARE}  # type: ignore[misc]
    jobs, control = options.get("jobs"), options.get("control")
    search = [options.get(key) for key in ("search", "count", "seed", "population", "warm_start")]
    top = None if control is None else str(control)
    return wishes.given(
        plain
        | {
            "function": function,
            "params": params,
            "where": _several(options.get("where")),
            "jobs": wishes.jobs_text(Path(jobs)) if jobs is not None else None,
            "fixed": _scalars(options.get("fixed")),
            "search": wishes.search_value(*search),  # type: ignore[arg-type]
            "metric": _several(options.get("metric")),
            "control": wishes.control_value(
                top, _scalars(options.get("control_args")), dict(options.get("control_env") or {})
            ),
            "notify": list(options.get("notify") or ()),
        }
    )


def _several(value: str | Sequence[str] | None) -> Value | None:
    """One, or several."""
    return [value] if isinstance(value, str) and value else list(value or ())


def find_sweep(number: int | str, controller: str | Client | None = None) -> Sweep:
    """A sweep by number, name or `last`. Raises NotFoundError."""
    from racksack.ids import sweep_id

    client = connect(controller)
    return Sweep(client.sweep(sweep_id(client, str(number))).id, client)


def sweeps(
    *, owner: str | None = None, state: str | None = None, controller: str | Client | None = None
) -> list[SweepView]:
    """Sweeps, newest first; `owner="me"` for one's own."""
    return connect(controller).sweeps(owner=owner, state=state, limit=1000)


def _values(value: object) -> Value:
    """The values of one parameter as a job file has them."""
    if isinstance(value, Mapping):
        return {str(key): _values(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return [_scalar(item) for item in value]
    return _scalar(value)


def _scalars(values: Mapping[str, Scalar] | None) -> dict[str, Value]:
    return {key: _scalar(value) for key, value in (values or {}).items()}


def _scalar(value: object) -> Value:
    """One value; a text in Python stays a text, also when it looks like a number."""
    from racksack_jobspecs.sweep.write import scalar_text

    item = getattr(value, "item", None)  # a number of numpy
    plain = item() if callable(item) else value
    if plain is not None and not isinstance(plain, (bool, int, float, str)):
        raise TypeError(f"{value!r} is no value of a parameter; use numbers, texts, booleans or None")
    return scalar_text(plain)
