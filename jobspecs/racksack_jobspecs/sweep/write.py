"""SweepSpec -> what stands behind `sweep:` in a job file, on one line, which is read back to the same spec."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from racksack_jobspecs.sweep import axes
from racksack_jobspecs.sweep.spec import (
    FOLD,
    Axis,
    Chunking,
    Control,
    Domain,
    Metric,
    Params,
    Range,
    Script,
    Search,
    Stopping,
    SweepSpec,
    Value,
    combined_axes,
)
from racksack_jobspecs.units import exact_duration
from racksack_jobspecs.yamlscalar import quoted

_LISTED_MAX = 200  # longer lists of numbers are one text


def sweep_text(sweep: SweepSpec) -> str:
    """A mapping in YAML's flow style. Raises ValueError for text that is not Unicode."""
    return _mapping((key, text) for key, text in _entries(sweep) if text)


def _entries(sweep: SweepSpec) -> Iterable[tuple[str, str]]:
    """All keys with their values as YAML, empty where the default says the same."""
    default = SweepSpec(target=sweep.target)
    own = sweep.axes[: len(sweep.axes) - len(combined_axes(sweep))]
    params = [*((axis.name, _axis(axis)) for axis in own), *((one.name, _domain(one)) for one in sweep.domains)]
    yield "function", quoted(sweep.target.name) if sweep.target.kind == "function" else ""
    yield "params", _mapping(params) if params else ""
    yield "where", _always_quoted(sweep.where) if sweep.where else ""
    yield "range", "" if sweep.range is None else _range(sweep.range)
    yield "jobs", _always_quoted(json.dumps([_script(one) for one in sweep.scripts])) if sweep.scripts else ""
    yield "fixed", _values(sweep.target.fixed) if sweep.target.fixed else ""
    yield "search", "" if sweep.search == Search() else _search(sweep.search)
    yield "metric", "" if sweep.metrics == default.metrics else f"[{', '.join(map(_metric, sweep.metrics))}]"
    yield "point_timeout", "" if sweep.point_timeout_s is None else exact_duration(sweep.point_timeout_s)
    yield "retries", "" if sweep.retries == default.retries else str(sweep.retries)
    yield "backoff", "" if sweep.backoff_s == default.backoff_s else exact_duration(sweep.backoff_s)
    yield "max_fails", _fails(sweep)
    yield "chunk", "" if sweep.chunking == Chunking() else _chunk(sweep.chunking)
    yield "max_runners", str(sweep.runners_max or "")
    yield "slots", _slots(sweep)
    yield "stuck_after", "" if sweep.stuck_after_s == default.stuck_after_s else exact_duration(sweep.stuck_after_s)
    yield "stop", "" if sweep.stop is None else _stop(sweep.stop)
    yield "folds", _folds(sweep.folds) if sweep.folds else ""
    yield "repeat", str(sweep.repeats) if sweep.repeats > 1 else ""
    yield "aggregate", sweep.aggregate if sweep.aggregate != default.aggregate else ""
    yield "require", _always_quoted(sweep.requires) if sweep.requires else ""
    yield "control", "" if sweep.control is None else _control(sweep.control)
    yield "notify", f"[{', '.join(map(quoted, sweep.notify))}]" if sweep.notify else ""


def _slots(sweep: SweepSpec) -> str:
    everywhere = [str(sweep.slots)] if sweep.slots is not None else []
    words = [*everywhere, *(f"{node}={number}" for node, number in sweep.slots_on.items())]
    return ",".join(words) if len(words) < 2 and everywhere else _always_quoted(",".join(words)) if words else ""


def _mapping(entries: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {text}" for key, text in entries) + "}"


def _always_quoted(text: str) -> str:
    found = quoted(text)
    return found if found.startswith('"') else f'"{found}"'


def scalar_text(value: Value) -> str:
    """A value as `axes.scalar` reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if not isinstance(value, str):
        return repr(value)
    is_plain = value and axes.scalar(value) == value and not value.startswith(("'", '"'))
    return value if is_plain and isinstance(axes.scalar(value), str) else f"'{value}'"


def _values(values: Mapping[str, Value]) -> str:
    return _mapping((name, _always_quoted(scalar_text(value))) for name, value in values.items())


def _axis(axis: Axis) -> str:
    text = _progression(axis) or _numbers(axis)
    values = _always_quoted(text) if text else f"[{', '.join(_always_quoted(scalar_text(v)) for v in axis.values)}]"
    return values if not axis.only_if else _mapping([("values", values), ("if", _always_quoted(axis.only_if))])


def _progression(axis: Axis) -> str:
    """`start:stop:step` where that says the same."""
    numbers = [value for value in axis.values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(axis.values) or len(numbers) < 3:
        return ""
    step = Decimal(repr(numbers[1])) - Decimal(repr(numbers[0]))
    text = f"{numbers[0]!r}:{numbers[-1]!r}:{step}"
    try:
        again = axes.parameter(axis.name, text)
    except ValueError:
        return ""
    is_same = isinstance(again, Axis) and list(map(repr, again.values)) == list(map(repr, numbers))
    return text if is_same else ""


def _numbers(axis: Axis) -> str:
    is_long = len(axis.values) > _LISTED_MAX and not any(isinstance(value, str) for value in axis.values)
    return ",".join(map(scalar_text, axis.values)) if is_long else ""


def _domain(domain: Domain) -> str:
    low, high = (int(domain.low), int(domain.high)) if domain.is_whole else (domain.low, domain.high)
    text = f"{'log:' if domain.is_log else ''}{low!r}:{high!r}"
    if not domain.only_if:
        return _always_quoted(text)
    return _mapping([("values", _always_quoted(text)), ("if", _always_quoted(domain.only_if))])


def _range(numbers: Range) -> str:
    return _always_quoted(f"{numbers.name}={numbers.first}:{numbers.last}:{numbers.step}")


def _script(script: Script) -> dict[str, object]:
    entry: dict[str, object] = {"job_id": script.job_id, "script": script.script, "args": list(script.args)}
    return entry if script.gpu_id is None else {**entry, "gpu_id": script.gpu_id}


def _search(search: Search) -> str:
    parts: list[tuple[str, str]] = [("kind", search.kind)]
    if search.count is not None:
        parts.append(("count", str(search.count)))
    if search.population is not None:
        parts.append(("population", str(search.population)))
    if search.warm_start:
        parts.append(("warm_start", search.warm_start))
    return _mapping([*parts, ("seed", str(search.seed))])


def _folds(folds: Sequence[Params]) -> str:
    if list(folds) == [{FOLD: number, "folds": len(folds)} for number in range(len(folds))]:
        return _always_quoted(f"kfold:{len(folds)}")
    plain = [{name: value for name, value in fold.items() if name != FOLD} for fold in folds]
    return f"[{', '.join(map(_values, plain))}]"


def _stop(stop: Stopping) -> str:
    steps = repr(int(stop.grace) if stop.grace.is_integer() else stop.grace)
    parts = [("kind", stop.kind), ("grace", steps), ("reduction", str(stop.reduction)), ("rungs", str(stop.rungs))]
    return _mapping(parts)


def _metric(metric: Metric) -> str:
    return _always_quoted(f"{metric.name}:{metric.direction}")


def _fails(sweep: SweepSpec) -> str:
    if sweep.fails_share_max is not None:
        return f"{(Decimal(repr(sweep.fails_share_max)) * 100).normalize():f}%"
    return "" if sweep.fails_max is None else str(sweep.fails_max)


def _chunk(chunking: Chunking) -> str:
    parts = [("target", exact_duration(chunking.target_s)), ("min", str(chunking.points_min))]
    return _mapping(parts if chunking.points_max is None else [*parts, ("max", str(chunking.points_max))])


def _control(control: Control) -> str:
    parts = [("top", "all" if control.top is None else str(control.top))]
    if control.args:
        parts.append(("args", _values(control.args)))
    if control.env:
        env = ((quoted(key), _always_quoted(value)) for key, value in control.env.items())
        parts.append(("env", _mapping(env)))
    return _mapping(parts)
