"""The one table of the keys below `sweep:` of a job file."""

from __future__ import annotations

import functools
import re
from typing import Any

from racksack_jobspecs.readers import (
    DURATION,
    ENV,
    LABEL,
    NODE_NAME,
    Field,
    Kind,
    Report,
    attempt,
    list_of,
    number_of,
    one_of,
    read_fields,
    shown,
    whole_of,
    word_of,
)
from racksack_jobspecs.sweep import axes, expressions, folds
from racksack_jobspecs.sweep.scripts import jobs_of
from racksack_jobspecs.sweep.spec import Axis, Chunking, Control, Domain, Metric, Params, Range, Search, Stopping
from racksack_jobspecs.yamltext import Mapping, Node, Scalar, Sequence

POINTS_MAX = 100_000_000
DRAWN_POINTS_MAX = 1_000_000
PARAMETERS_MAX = 100
RANGE_PARTS = 65_536  # a range without a step is cut into about so many parts
METRICS_MAX = 20
STEPS_MAX = 1_000_000_000

_PART = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_]{0,99})=)?(-?[0-9]{1,18}):(-?[0-9]{1,18})(?::([0-9]{1,18}))?")
_METRIC = re.compile(r"([^\s:,](?:[^:,]{0,98}[^\s:,])?)(?::(max|min))?")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_WORKERS = whole_of(1, 4096, "a number of workers")
Slots = dict[str, int]  # workers of a runner by node, of all others under ""
_VALUE_SCHEMA: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}


def _function(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    if not _FUNCTION.fullmatch(word):
        raise ValueError(f"{shown(word)} is not the name of a function; write its name alone, as after def")
    return word


def _params(node: Node, path: str, report: Report) -> tuple[Axis | Domain, ...]:
    if not isinstance(node, Mapping):
        raise ValueError("this must be a mapping; write a line such as stop_loss: 20:80:2 for each parameter")
    if len(node.entries) > PARAMETERS_MAX:
        raise ValueError(f"there are {len(node.entries)} parameters; write at most {PARAMETERS_MAX}")
    found: dict[str, Axis | Domain] = {}
    left = axes.SPACE_VALUES_MAX
    for key, value in node.entries:
        where = f"{path}.{shown(key.text)}"
        if not axes.PARAMETER.fullmatch(key.text):
            report.add(key.line, where, "is not a parameter's name; write letters, digits and _, no digit first")
        elif key.text in found:
            report.add(key.line, where, "duplicate key; keep one of them")
        else:
            read_one = functools.partial(_parameter, key.text, min(left, axes.AXIS_VALUES_MAX))
            read = attempt(read_one, value, where, report)
            if read is not None:
                found[key.text] = read
                left -= len(read.values) if isinstance(read, Axis) else 0
    return tuple(found.values())


def _parameter(name: str, most: int, node: Node, path: str, report: Report) -> Axis | Domain | None:
    """With `most` values at most."""
    if isinstance(node, Sequence):
        return axes.listed(name, [_value(item) for item in node.items], "", most)
    if isinstance(node, Scalar):
        return axes.parameter(name, "null" if node.is_null else node.text, most)
    values = read_fields(node, path, PARAMETER_FIELDS, report, {"when": "if", "value": "values", "choices": "values"})
    found = values.get("values")
    if found is None:
        return None
    if isinstance(found, str):
        condition = values.get("if", "")
        return axes.parameter(name, f"{found} if {condition}" if condition else found, most)
    return axes.listed(name, found, values.get("if", ""), most)


def _value(node: Node) -> Any:  # noqa: ANN401 - a Value
    """One item of a list: what stood in quotes in the file is a text all the same if it is no number or word."""
    if not isinstance(node, Scalar):
        raise ValueError("a value is a number, a text, true or false; write a list of such")
    return None if node.is_null else axes.scalar(node.text)


def _values(node: Node, _path: str, _report: Report) -> Any:  # noqa: ANN401 - a text, or a list of Value
    if isinstance(node, Sequence):
        return [_value(item) for item in node.items]
    return word_of(node)


def _expression(node: Node, _path: str, _report: Report) -> str:
    return expressions.parse(word_of(node)).text.strip()


def _where(node: Node, path: str, report: Report) -> str:
    """One expression, or a list of which all must hold."""
    if not isinstance(node, Sequence):
        return _expression(node, path, report)
    parts = [attempt(_expression, item, f"{path}[{at}]", report) for at, item in enumerate(node.items)]
    return " and ".join(f"({part})" for part in parts if part)


def _range(node: Node, _path: str, _report: Report) -> Range:
    word = word_of(node)
    match = _PART.fullmatch(word)
    if match is None:
        raise ValueError(f"{shown(word)} is not a range of numbers; write seed=0:4294967296 or seed=0:4294967296:65536")
    first, last = int(match[2]), int(match[3])
    if last <= first:
        raise ValueError(f"{shown(word)} is empty; write the first number and, larger, the one after the last")
    step = int(match[4]) if match[4] else max(1, -(-(last - first) // RANGE_PARTS))
    if not step:
        raise ValueError(f"{shown(word)} has parts of 0 numbers; write a third number above zero, or none")
    if (last - first) / step > POINTS_MAX:
        raise ValueError(f"{shown(word)} has more than {POINTS_MAX} parts; write a larger third number")
    return Range(match[1] or "range", first, last, step)


def _search(node: Node, path: str, report: Report) -> Search:
    if isinstance(node, Mapping):
        return Search(**read_fields(node, path, SEARCH_FIELDS, report, {"n": "count", "points": "count"}))
    return Search(kind=SEARCH_KIND.read(node, path, report))


def _warm_start(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node).lower()
    if word != "auto" and not (word.isascii() and word.isdigit() and len(word) <= 15):
        raise ValueError(f"{shown(word)} is not the id of a sweep; write one, or auto")
    return word


def _folds(node: Node, path: str, report: Report) -> tuple[Params, ...]:
    if isinstance(node, Sequence):
        return folds.listed([_fixed(item, f"{path}[{at}]", report) for at, item in enumerate(node.items)])
    return folds.parse(word_of(node))


def _stop(node: Node, path: str, report: Report) -> Stopping | None:
    if isinstance(node, Mapping):
        values = read_fields(node, path, STOP_FIELDS, report, {"grace_steps": "grace", "grace_period": "grace"})
    else:
        values = {"kind": STOP_KIND.read(node, path, report)}
    kind = values.pop("kind", "asha")
    return None if kind == "none" else Stopping(kind=kind, **values)


def _grace(node: Node, _path: str, _report: Report) -> float:
    steps = number_of(node)
    if not 0 < steps <= STEPS_MAX:
        raise ValueError(f"{shown(word_of(node))} is not a step; write a number above 0 and at most {STEPS_MAX}")
    return steps


def _metric(node: Node, _path: str, _report: Report) -> Metric:
    word = word_of(node)
    match = _METRIC.fullmatch(word)
    if match is None:
        raise ValueError(f"{shown(word)} is not a metric; write its name and max or min, such as sharpe:max")
    return Metric(match[1], "min" if match[2] == "min" else "max")


def _chunk(node: Node, path: str, report: Report) -> Chunking:
    if isinstance(node, Mapping):
        values = read_fields(node, path, CHUNK_FIELDS, report)
        if values.get("min", 1) > (values.get("max") or POINTS_MAX):
            report.add(node.line, path, "min is above max; turn them round")
        return Chunking(values.get("target", 300.0), values.get("min", 1), values.get("max"))
    if word_of(node).lower() == "auto":
        return Chunking()
    size = _POINTS.read(node, path, report)
    return Chunking(points_min=size, points_max=size)


def _max_fails(node: Node, path: str, report: Report) -> int | float:
    """A number of points, or a share as a float."""
    match = _SHARE.fullmatch(word_of(node).replace(" ", ""))
    if match is None:
        return int(whole_of(0, POINTS_MAX, "a number of points; or write a share such as 5%").read(node, path, report))
    share = float(match[1]) / 100
    if share > 1:
        raise ValueError(f"{match[0]} is more than all points; write at most 100%")
    return share


def _slots(node: Node, path: str, report: Report) -> Slots:
    """A number for all nodes, `NODE=N` for some, or both: 12,r1=4; or a mapping of nodes to numbers."""
    if isinstance(node, Mapping):
        pairs = [(key.text, value) for key, value in node.entries]
    else:
        words = [part.strip().rpartition("=") for part in word_of(node).split(",")]
        pairs = [(name.strip(), Scalar(node.line, number, is_plain=True)) for name, _, number in words]
    found: Slots = {}
    for name, number in pairs:
        if name and NODE_NAME.fullmatch(name) is None:
            raise ValueError(f"{shown(name)} is not a node's name; write a number, or NODE=N such as r1=4")
        if name in found:
            raise ValueError(f"there are two numbers for {shown(name) if name else 'all nodes'}; keep one of them")
        found[name] = _WORKERS.read(number, path, report)
    return found


def _fixed(node: Node, path: str, report: Report) -> Params:
    """Arguments that every point gets."""
    if not isinstance(node, Mapping):
        raise ValueError("this must be a mapping; write NAME: value lines below it")
    found: Params = {}
    for key, value in node.entries:
        where = f"{path}.{shown(key.text)}"
        if not axes.PARAMETER.fullmatch(key.text) or key.text in found:
            report.add(key.line, where, "is not a name of its own; write letters, digits and _, each name once")
        elif not isinstance(value, Scalar):
            report.add(value.line, where, "this must be a single value")
        else:
            found[key.text] = None if value.is_null else axes.scalar(value.text)
    return found


def _control(node: Node, path: str, report: Report) -> Control:
    if isinstance(node, Mapping):
        values = read_fields(node, path, CONTROL_FIELDS, report)
        return Control(top=values.get("top"), env=values.get("env", {}), args=values.get("args", {}))
    return Control(top=_TOP.read(node, path, report))


def _top(node: Node, path: str, report: Report) -> int | None:
    return None if word_of(node).lower() == "all" else int(_POINTS.read(node, path, report))


def _seconds(node: Node, _path: str, _report: Report) -> float:
    """Plain seconds are understood here, where everything is short."""
    return number_of(node)


_POINTS = whole_of(1, POINTS_MAX, "a number of points")
_TOP = Kind(_top, {"type": ["string", "integer"]})
_EXPRESSION = Kind(_expression, {"type": "string"})
_PARAM_SCHEMA: dict[str, Any] = {
    "anyOf": [
        _VALUE_SCHEMA,
        {"type": "array", "items": _VALUE_SCHEMA},
        {"type": "object", "required": ["values"], "additionalProperties": True},
    ]
}
PARAMETER_FIELDS = (
    Field("values", Kind(_values, {}), "A list, or a text such as 1:10:1.", "1:10:1", is_required=True),
    Field("if", _EXPRESSION, "Points for which this is false do not have the parameter.", "algo == 'knn'", "always"),
)
SEARCH_KIND = one_of("grid", "random", "lhs", "sobol", "tpe", "cmaes", "ga")
SEARCH_FIELDS = (
    Field(
        "kind",
        SEARCH_KIND,
        "grid: every combination; random, lhs (Latin hypercube), sobol: spread over the space; tpe, cmaes, ga "
        "(genetic): each point learns from those before.",
        "tpe",
        "grid",
    ),
    Field("count", whole_of(1, DRAWN_POINTS_MAX, "a number of points"), "How many points are drawn.", "500", "all"),
    Field("seed", whole_of(0, 2**31 - 1, "a seed"), "The same seed draws the same points.", "7", "0"),
    Field(
        "population",
        whole_of(2, 10_000, "a number of points"),
        "Points of a generation, of cmaes and ga; make it a multiple of the rack's workers.",
        "24",
        "by the number of parameters",
    ),
    Field(
        "warm_start",
        Kind(_warm_start, {"type": ["string", "integer"], "pattern": "^(auto|[0-9]{1,15})$"}),
        "tpe, cmaes and ga begin with the results of an earlier sweep: its id, or auto, the latest of the same target.",
        "auto",
        "none",
    ),
)
CHUNK_FIELDS = (
    Field("target", DURATION, "How long a chunk lasts at most; the first ones are shorter.", "300s", "300s"),
    Field("min", _POINTS, "The least number of points, but at the end.", "500", "1"),
    Field("max", _POINTS, "The largest number of points.", "2000", "none"),
)
STOP_KIND = one_of("asha", "hyperband", "median", "none")
STOP_FIELDS = (
    Field(
        "kind",
        STOP_KIND,
        "asha: at each rung only the best part goes on; hyperband: the same with several first rungs; median: what is "
        "worse than half of the points stops; none.",
        "asha",
        "asha",
    ),
    Field("grace", Kind(_grace, {"type": "number"}), "The step of the first rung.", "5", "1"),
    Field("reduction", whole_of(2, 100, "a number"), "Of how many points one goes on at a rung.", "4", "3"),
    Field("rungs", whole_of(1, 40, "a number of rungs"), "How many rungs there are.", "5", "8"),
)
CONTROL_FIELDS = (
    Field("top", _TOP, "How many of the best points run again, or all.", "100", "all"),
    Field(
        "args",
        Kind(_fixed, {"type": "object", "additionalProperties": _VALUE_SCHEMA}),
        "Arguments that the second run gets.",
        "{data: 2024.csv}",
        "none",
    ),
    Field("env", ENV, "Environment variables that the second run gets.", "{PERIOD: control}", "none"),
)


def _object(fields: tuple[Field, ...]) -> dict[str, Any]:
    """The schema of a mapping with these keys."""
    properties = {field.key: field.kind.schema for field in fields}
    return {"type": "object", "additionalProperties": False, "properties": properties}


SWEEP_FIELDS = (
    Field(
        "function",
        Kind(_function, {"type": "string", "pattern": f"^{_FUNCTION.pattern}$"}),
        "A function of the entrypoint, called with the parameters; it returns a dict of metrics or a number.",
        "evaluate",
        "none: the entrypoint is a program",
    ),
    Field(
        "params",
        Kind(_params, {"type": "object", "additionalProperties": _PARAM_SCHEMA}),
        "The parameters: start:stop:step, lists, log:low:high:number, single values.",
        "{stop_loss: 20:80:2, mode: [fast, slow]}",
        "none",
    ),
    Field(
        "where",
        Kind(_where, {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
        "Combinations for which this is false are left out.",
        "fast < slow",
        "none",
    ),
    Field(
        "range",
        Kind(_range, {"type": "string"}),
        "In place of params: a range of numbers in parts; each point gets start and end (one after its last number).",
        '"seed=0:4294967296:65536"',
        "none",
    ),
    Field(
        "jobs",
        Kind(jobs_of, {"anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "string"}]}),
        "In place of params: a list of programs with their words.",
        '[{job_id: a, script: train.py, args: ["--lr", "0.1"]}]',
        "none",
    ),
    Field(
        "fixed",
        Kind(_fixed, {"type": "object", "additionalProperties": _VALUE_SCHEMA}),
        "Arguments that every point gets.",
        "{data: prices.csv}",
        "none",
    ),
    Field(
        "search",
        Kind(_search, {"anyOf": [SEARCH_KIND.schema, _object(SEARCH_FIELDS)]}),
        "How points are chosen.",
        "{kind: random, count: 500}",
        "grid",
    ),
    Field(
        "metric",
        list_of(Kind(_metric, {"type": "string"}), splits_at_commas=True),
        "What a point is judged by, and whether more (max) or less (min) is better; the first one ranks.",
        "sharpe:max",
        "value:max",
    ),
    Field("point_timeout", DURATION, "The time limit of one point.", "120s", "none"),
    Field("retries", whole_of(0, 100, "a number of retries"), "How often a failed point is retried.", "2", "1"),
    Field("backoff", DURATION, "The wait before the first retry; each further one waits twice as long.", "10s", "2s"),
    Field(
        "max_fails",
        Kind(_max_fails, {"type": ["integer", "string"]}),
        "The sweep ends when more points than this have failed for good.",
        "5%",
        "none",
    ),
    Field(
        "chunk",
        Kind(_chunk, {"anyOf": [{"type": ["string", "integer"]}, _object(CHUNK_FIELDS)]}),
        "How many points a runner gets at once: auto, a number, or target, min and max.",
        "{target: 60s}",
        "auto",
    ),
    Field("max_runners", whole_of(1, 4096, "a number of runners"), "How many runners there are at most.", "4", "none"),
    Field(
        "slots",
        Kind(
            _slots,
            {"anyOf": [{"type": ["string", "integer"]}, {"type": "object", "additionalProperties": _WORKERS.schema}]},
        ),
        "Workers of a runner; `NODE=N` or a mapping gives some nodes another number.",
        "12,r1=4",
        "one for each GPU, else for each CPU",
    ),
    Field("stuck_after", DURATION, "A runner that says nothing for so long is given up.", "10m", "10m"),
    Field(
        "stop",
        Kind(_stop, {"anyOf": [STOP_KIND.schema, _object(STOP_FIELDS)]}),
        "Points that report while they run are stopped early when they are not worth going on with.",
        "{kind: asha, grace: 5}",
        "none",
    ),
    Field(
        "folds",
        Kind(_folds, {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}),
        "Every combination is computed on each of these folds: kfold:5, walk-forward:..., or a list of arguments.",
        '"kfold:5"',
        "none",
    ),
    Field(
        "repeat",
        whole_of(1, 1000, "a number of repeats"),
        "How often every combination is computed; the function gets seed: 0, 1, ...",
        "5",
        "1",
    ),
    Field(
        "aggregate",
        one_of("mean", "median", "worst"),
        "What a combination is ranked by, over its folds and repeats.",
        "worst",
        "mean",
    ),
    Field(
        "require",
        Kind(_where, {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
        "An expression of metrics: points for which it is false are not ranked.",
        "trades >= 30",
        "none",
    ),
    Field(
        "control",
        Kind(_control, {"anyOf": [{"type": ["string", "integer"]}, _object(CONTROL_FIELDS)]}),
        "The best points run a second time, on other data.",
        "{top: 100, args: {data: 2024.csv}}",
        "none",
    ),
    Field(
        "notify",
        list_of(LABEL, splits_at_commas=True),
        "Who is told of the end; names of `notify:` in racksack.yaml.",
        "[telegram]",
        "those for all sweeps",
    ),
)
FAMILIAR_KEYS = {
    "parameters": "params",
    "space": "params",
    "constraint": "where",
    "constraints": "where",
    "metrics": "metric",
    "objective": "metric",
    "timeout": "point_timeout",
    "per_point_timeout": "point_timeout",
    "chunk_size": "chunk",
    "parallel": "max_runners",
    "max_parallel": "max_runners",
    "workers": "slots",
    "per_node": "slots",
    "method": "search",
    "cv": "folds",
    "repeats": "repeat",
    "requires": "require",
    "optimization_type": "search",
    "seed": "search",
    "count": "search",
}
