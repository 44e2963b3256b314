"""The body of `POST /api/v1/sweeps` -> the text of a job file, so that one parser finds every mistake.

Besides the keys of a job file (those of `sweep` may stand at the top) it takes what optimizers over HTTP usually do:

    {"like": 41, "parameters": [{"name": "fast", "min_value": 5, "max_value": 50, "step": 1}],
     "optimization_type": "random", "max_iterations": 500, "metric": "sharpe:max"}

`like` names an earlier job or sweep of the caller, whose project, entrypoint and resources are taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from racksack_controller.core.records import Job
from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.web import sweeps
from racksack_controller.web.caller import Caller, body_of, refusal, utf8_of
from racksack_controller.web.context import Context
from racksack_jobspecs.fields import JOB_FIELDS
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.sweep.fields import SWEEP_FIELDS
from racksack_jobspecs.sweep.write import scalar_text
from racksack_jobspecs.units import exact_memory

_JOB_KEYS = frozenset(field.key for field in JOB_FIELDS)
_SWEEP_KEYS = frozenset(field.key for field in SWEEP_FIELDS)
_SEARCHES = {
    "grid_search": "grid",
    "random_search": "random",
    "bayesian": "tpe",
    "bayes": "tpe",
    "cma-es": "cmaes",
    "genetic": "ga",
    "latin_hypercube": "lhs",
}
_OWN_KEYS = frozenset({"like", "parameters", "optimization_type", "max_iterations", "seed"})


async def job_file_of(context: Context, request: web.Request, caller: Caller) -> str:
    """The job file that a request asks for. Raises a refusal with a sentence."""
    if request.content_type in ("application/yaml", "text/yaml", "application/x-yaml", "text/plain"):
        return await utf8_of(request)
    body = await body_of(request)
    unknown = [key for key in body if key not in _JOB_KEYS | _SWEEP_KEYS | _OWN_KEYS]
    if unknown:
        raise refusal(f"{unknown[0][:60]!r} is not a known key; see docs/sweeps.md, 'Over HTTP'", ExitCode.USAGE)
    job = {key: value for key, value in body.items() if key in _JOB_KEYS and key != "sweep"}
    inner = body.get("sweep", {})
    if not isinstance(inner, dict):
        raise refusal("sweep is not an object", ExitCode.USAGE)
    sweep = {**inner, **{key: value for key, value in body.items() if key in _SWEEP_KEYS}}
    like = await _like(context, body, caller)
    job, sweep = {**like[0], **job}, {**like[1], **sweep}
    _split_entrypoint(job, sweep)
    if "parameters" in body:
        sweep["params"] = _params(body["parameters"])
    _add_search(body, sweep)
    # JSON is YAML, as long as characters stand for themselves.
    return json.dumps({**job, "sweep": sweep}, ensure_ascii=False)


def _split_entrypoint(job: dict[str, Any], sweep: dict[str, Any]) -> None:
    """`backtest.py:evaluate` names the file and the function in it."""
    entrypoint = job.get("entrypoint")
    if isinstance(entrypoint, str) and ":" in entrypoint:
        job["entrypoint"], _, sweep["function"] = entrypoint.rpartition(":")


def _params(parameters: object) -> dict[str, Any]:
    if not isinstance(parameters, list) or not all(isinstance(one, dict) for one in parameters):
        raise refusal("parameters is not a list of objects with name, min_value, max_value and step", ExitCode.USAGE)
    found: dict[str, Any] = {}
    for one in parameters:
        name = one.get("name")
        if not isinstance(name, str) or name in found:
            raise refusal("each parameter needs a unique name", ExitCode.USAGE)
        found[name] = _values(name, one)
    return found


def _values(name: str, one: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what a job file has
    known = {"name", "min_value", "max_value", "step", "values", "log", "count", "if"}
    unknown = [key for key in one if key not in known]
    if unknown:
        raise refusal(
            f"parameter {name[:60]!r} has {unknown[0][:60]!r}; known are {', '.join(sorted(known))}", ExitCode.USAGE
        )
    if "values" in one:
        values = one["values"]
        if not isinstance(values, list):
            raise refusal(f"the values of parameter {name[:60]!r} are not a list", ExitCode.USAGE)
        text: Any = [scalar_text(value) if isinstance(value, str) else value for value in values]
    else:
        text = _range(name, one)
    return {"values": text, "if": one["if"]} if "if" in one else text


def _range(name: str, one: Mapping[str, Any]) -> str:
    ends = [one.get("min_value"), one.get("max_value"), one.get("step"), one.get("count")]
    for value in ends:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise refusal(f"parameter {name[:60]!r}: {value!r} is not a number", ExitCode.USAGE)
    low, high, step, count = ends
    if low is None or high is None:
        raise refusal(f"parameter {name[:60]!r} needs min_value and max_value, or values", ExitCode.USAGE)
    if one.get("log") is True or count is not None:
        kind = "log" if one.get("log") is True else "lin"
        return f"{kind}:{low!r}:{high!r}" + (f":{count!r}" if count is not None else "")
    if step is None and isinstance(low, float) != isinstance(high, float):
        low, high = float(low), float(high)
    return f"{low!r}:{high!r}" + (f":{step!r}" if step is not None else "")


def _add_search(body: Mapping[str, Any], sweep: dict[str, Any]) -> None:
    kind, count = body.get("optimization_type"), body.get("max_iterations")
    if kind is None and count is None and "seed" not in body:
        return
    word = str(kind or ("grid" if count is None else "random")).lower()
    search: dict[str, Any] = {"kind": _SEARCHES.get(word, word)}
    if count is not None and search["kind"] != "grid":
        search["count"] = count
    if "seed" in body and search["kind"] != "grid":
        search["seed"] = body["seed"]
    sweep["search"] = search


async def _like(context: Context, body: Mapping[str, Any], caller: Caller) -> tuple[dict[str, Any], dict[str, Any]]:
    """The project, entrypoint and resources of an earlier job or sweep of the caller."""
    if "like" not in body:
        return {}, {}
    number = body["like"]
    if not isinstance(number, int) or isinstance(number, bool):
        raise refusal("like is not the id of a job or a sweep", ExitCode.USAGE)
    found = await sweeps.find(context, number)
    earlier: Sweep | Job = found[0] if found is not None else await context.job(number)
    owner, spec, snapshot = earlier.owner, earlier.spec, earlier.snapshot
    if not caller.is_operator and owner != caller.name:
        raise refusal(f"{number} is not yours", ExitCode.REFUSED)
    job: dict[str, Any] = {
        "project": f"snapshot:{snapshot}",
        "entrypoint": spec.entrypoint,
        "name": spec.name,
        "cpus": spec.resources.cpus,
        "ram": exact_memory(spec.resources.ram_bytes),
    }
    target = spec.sweep.target if spec.sweep is not None else None
    return job, {"function": target.name} if target is not None and target.kind == "function" else {}
