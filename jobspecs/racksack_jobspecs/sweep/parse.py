"""The `sweep:` mapping of a job file -> SweepSpec, or every mistake in it at once."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from typing import Any

import msgspec

from racksack_jobspecs.readers import Report, either, read_fields
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.axes import AXIS_VALUES_MAX
from racksack_jobspecs.sweep.fields import FAMILIAR_KEYS, METRICS_MAX, POINTS_MAX, SWEEP_FIELDS
from racksack_jobspecs.sweep.spec import (
    FOLD,
    SEED,
    Axis,
    Domain,
    Metric,
    Params,
    Search,
    SweepSpec,
    Target,
    combined_axes,
    point_numbers,
)
from racksack_jobspecs.yamltext import Mapping, Node

# Points times parameters, of searches that keep all of them in memory.
_REMEMBERED_VALUES_MAX = {"lhs": 20_000_000, "tpe": 2_000_000, "cmaes": 2_000_000, "ga": 2_000_000}

Values = dict[str, Any]
_PLAIN = {
    "where": "where",
    "range": "range",
    "jobs": "scripts",
    "search": "search",
    "metric": "metrics",
    "point_timeout": "point_timeout_s",
    "retries": "retries",
    "backoff": "backoff_s",
    "chunk": "chunking",
    "max_runners": "runners_max",
    "stuck_after": "stuck_after_s",
    "stop": "stop",
    "folds": "folds",
    "repeat": "repeats",
    "aggregate": "aggregate",
    "require": "requires",
    "control": "control",
    "notify": "notify",
}
_FINITE = "write its step (start:stop:step) or number of values (log:low:high:number), or choose a search"


def read_sweep(node: Node, path: str, report: Report) -> SweepSpec:
    """The reader of the key `sweep`. Its target knows the function or nothing; `with_entrypoint` completes it."""
    values = read_fields(node, path, SWEEP_FIELDS, report, FAMILIAR_KEYS)
    lines = {key.text: key.line for key, _ in node.entries} if isinstance(node, Mapping) else {}
    found = _Checked(values, lines, path, report)
    found.check()
    sweep = SweepSpec(
        target=_target(values),
        axes=tuple(one for one in found.params if isinstance(one, Axis)),
        domains=tuple(one for one in found.params if isinstance(one, Domain)),
        **_fails(values),
        **_slots(values),
        **{field: values[key] for key, field in _PLAIN.items() if key in values},
    )
    return msgspec.structs.replace(sweep, axes=(*sweep.axes, *combined_axes(sweep)))


def with_entrypoint(sweep: SweepSpec, entrypoint: str, args: Sequence[str], ramdisk: Sequence[str]) -> SweepSpec:
    """The sweep with what stands elsewhere in the job file."""
    target = sweep.target
    if target.kind == "function":
        target = msgspec.structs.replace(target, file=entrypoint)
    else:
        target = msgspec.structs.replace(target, argv=(entrypoint, *args))
    scripts = tuple(one if one.script else msgspec.structs.replace(one, script=entrypoint) for one in sweep.scripts)
    return msgspec.structs.replace(sweep, target=target, scripts=scripts, ramdisk=tuple(ramdisk))


def entrypoint_fault(sweep: SweepSpec, entrypoint: str, args: Sequence[str]) -> tuple[str, str] | None:
    """A key and a sentence where a sweep's function and the job's entrypoint do not go together."""
    if sweep.target.kind != "function":
        return None
    if posixpath.splitext(entrypoint)[1] not in (".py", ".pyw"):
        return "entrypoint", "is not a Python file, and sweep.function names a function of it"
    return ("args", "are for programs; write sweep.fixed (--fixed) for arguments of a function") if args else None


def _target(values: Values) -> Target:
    fixed: Params = values.get("fixed", {})
    if "function" in values:
        return Target(kind="function", name=values["function"], fixed=fixed)
    return Target(kind="script" if "jobs" in values else "program", fixed=fixed)


def _fails(values: Values) -> Values:
    limit = values.get("max_fails")
    if limit is None:
        return {}
    return {"fails_share_max": limit} if isinstance(limit, float) else {"fails_max": limit}


def _slots(values: Values) -> Values:
    by_node = dict(values.get("slots", {}))
    everywhere = by_node.pop("", None)
    return {"slots": everywhere, "slots_on": by_node}


class _Checked:
    """The checks that look at several keys at once."""

    def __init__(self, values: Values, lines: dict[str, int], path: str, report: Report) -> None:
        self._values, self._lines, self._path, self._report = values, lines, path, report
        self.params: tuple[Axis | Domain, ...] = values.get("params", ())
        self._search: Search = values.get("search", Search())

    def check(self) -> None:
        """Note every mistake."""
        self._one_space()
        self._conditions()
        self._names()
        self._combinations()
        self._metrics()
        self._kind_of_search()
        if not self._report.problems:
            self._size()

    def _add(self, key: str, sentence: str) -> None:
        line = self._lines.get(key.partition(".")[0], min(self._lines.values(), default=0))
        self._report.add(line, f"{self._path}.{key}", sentence)

    def _one_space(self) -> None:
        given = [key for key in ("params", "range", "jobs") if key in self._lines]
        if len(given) > 1:
            self._add(given[1], f"stands beside {given[0]}; keep one of {either(given)}")
        if not given:
            self._add("params", "is missing; write the parameters, or a range or a list of jobs in their place")
        if "jobs" in self._values and "function" in self._values:
            self._add("function", "has no use with jobs, which name programs; remove one of the two")
        for key in ("where", "search"):
            if key in self._values and ("range" in self._values or "jobs" in self._values):
                self._add(key, "has no use without params; remove it")

    def _conditions(self) -> None:
        """A condition may name the parameters before its own, so that it is clear what is decided first. Intervals
        come after all others.
        """
        known: list[str] = []
        for one in sorted(self.params, key=lambda one: isinstance(one, Domain)):
            if one.only_if:
                self._expression(f"params.{one.name}", one.only_if, known)
            known.append(one.name)
        if "where" in self._values and self.params:
            self._expression("where", self._values["where"], known)

    def _expression(self, key: str, text: str, known: list[str]) -> None:
        try:
            expression = expressions.check(text, known)
        except ValueError as error:
            self._add(key, str(error) + ("" if key == "where" else "; a condition may name parameters before it"))
            return
        if not expression.names:
            self._add(key, "names no parameter, so it is the same for all points; remove it")

    def _names(self) -> None:
        fixed = self._values.get("fixed", {})
        for one in self.params:
            if one.name in fixed:
                self._add("fixed", f"has {one.name}, which is a parameter too; keep one of them")

    def _combinations(self) -> None:
        """Folds and repeats are further axes of a grid."""
        for key, own in (("folds", FOLD), ("repeat", SEED)):
            if key not in self._values or self._values[key] == 1:
                continue
            if self._search.kind != "grid" or "params" not in self._values:
                self._add(key, "needs a grid of params; give each combination of a search its folds in the function")
            elif any(one.name == own for one in self.params):
                self._add(key, f"makes a parameter {own}, and there is one of that name; rename yours")

    def _metrics(self) -> None:
        metrics: tuple[Metric, ...] = self._values.get("metric", ())
        if len(metrics) > METRICS_MAX:
            self._add("metric", f"names more than {METRICS_MAX} metrics; name those that points are judged by")
            return
        names = [metric.name for metric in metrics]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._add("metric", f"{name} is named twice, with max and with min; keep one of them")

    def _kind_of_search(self) -> None:
        kind = self._search.kind
        if self._search.warm_start and kind not in ("tpe", "cmaes", "ga"):
            self._add("search", f"{kind} learns nothing, so warm_start has no use; choose tpe, cmaes or ga")
        if kind == "grid":
            for one in self.params:
                if isinstance(one, Domain):
                    many = f", having more than {AXIS_VALUES_MAX} values" if one.is_whole else ""
                    self._add(f"params.{one.name}", f"is an interval{many}, of which there is no grid; {_FINITE}")
            if self._search.count is not None:
                self._add("search", "a grid has no count; it is every combination, or choose random")
        elif self._search.count is None:
            if not any(problem.path == f"{self._path}.search.count" for problem in self._report.problems):
                example = f"{{kind: {kind}, count: 500}} (--count 500)"
                self._add("search", f"{kind} draws points; say how many, such as {example}")
        elif self._search.count * len(self.params) > _REMEMBERED_VALUES_MAX.get(kind, math.inf):
            most = _REMEMBERED_VALUES_MAX[kind] // len(self.params)
            self._add("search", f"{kind} keeps its points in memory; of so many parameters draw at most {most}")
        elif kind in ("cmaes", "sobol") and self.params and not any(map(_is_number_line, self.params)):
            self._add("search", f"{kind} needs a parameter that is a range of numbers; choose random or tpe")

    def _size(self) -> None:
        spec = SweepSpec(
            target=Target(),
            axes=(*(one for one in self.params if isinstance(one, Axis)), *self._combined()),
            range=self._values.get("range"),
            scripts=self._values.get("jobs", ()),
            search=self._search,
        )
        points = point_numbers(spec)
        if points > POINTS_MAX:
            self._add("params", f"make {points} combinations, more than {POINTS_MAX}; write larger steps or a search")

    def _combined(self) -> list[Axis]:
        folds, repeats = self._values.get("folds", ()), self._values.get("repeat", 1)
        return combined_axes(SweepSpec(target=Target(), folds=folds, repeats=repeats))


def _is_number_line(one: Axis | Domain) -> bool:
    return isinstance(one, Domain) or is_ordered(one)


def is_ordered(axis: Axis) -> bool:
    """Whether an axis is a line of numbers, on which near values are alike."""
    values = axis.values
    return (
        len(values) > 1
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        and (list(values) == sorted(values) or list(values) == sorted(values, reverse=True))  # type: ignore[type-var]
    )
