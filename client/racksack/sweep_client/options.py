"""What `racksack sweep run` and `racksack.sweep` ask for -> the keys of a job file, which one parser checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from racksack.errors import UsageError
from racksack.submission.draft import Value
from racksack.text import clean

SPACE_BYTES_MAX = 1024**2
_SPACE_KEYS = ("params", "parameters", "where", "constraints", "search", "metric", "metrics", "fixed", "range", "jobs")


def assignment(option: str, text: str) -> tuple[str, str]:
    """`name=value`. Raises UsageError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"{option}: {clean(text)} has no =; write {option} NAME=VALUE")
    return name.strip(), value.strip()


def assignments(option: str, texts: Iterable[str]) -> dict[str, Value]:
    """Several, each name once. Raises UsageError."""
    found: dict[str, Value] = {}
    for text in texts:
        name, value = assignment(option, text)
        if name in found:
            raise UsageError(f"{option}: {clean(name)} is given twice; keep one of them")
        found[name] = value
    return found


def split_target(entrypoint: str) -> tuple[str, str | None]:
    """`backtest.py:evaluate` as the file and the function."""
    file, colon, function = entrypoint.rpartition(":")
    return (file, function) if colon and file.endswith((".py", ".pyw")) else (entrypoint, None)


def search_value(
    kind: str | None,
    count: int | None,
    seed: int | None,
    population: int | None = None,
    warm_start: str | None = None,
) -> Value | None:
    """What stands under `search`."""
    if (kind, count, seed, population, warm_start) == (None,) * 5:
        return None
    value: dict[str, Value] = {"kind": kind or ("random" if count is not None else "grid")}
    known = {"count": count, "seed": seed, "population": population, "warm_start": warm_start}
    return value | {key: number for key, number in known.items() if number is not None}


def chunk_value(size: str | None, target: str | None, least: int | None, most: int | None) -> Value | None:
    """What stands under `chunk`."""
    if size is not None and size != "auto":
        return size
    known: dict[str, Value | None] = {"target": target, "min": least, "max": most}
    return {key: value for key, value in known.items() if value is not None} or None


def stop_value(kind: str | None, grace: str | None, reduction: str | None, rungs: str | None) -> Value | None:
    """What stands under `stop`."""
    known: dict[str, Value | None] = {"kind": kind, "grace": grace, "reduction": reduction, "rungs": rungs}
    return {key: value for key, value in known.items() if value is not None} or None


def control_value(top: str | None, args: Mapping[str, Value], env: Mapping[str, Value]) -> Value | None:
    """What stands under `control`."""
    if top is None and not args and not env:
        return None
    value: dict[str, Value] = {"top": top or "all"}
    if args:
        value["args"] = args
    if env:
        value["env"] = env
    return value


def given(values: Mapping[str, Value | None]) -> dict[str, Value]:
    """Those that were given."""
    return {key: value for key, value in values.items() if value is not None and value not in ((), [], {}, "")}


def jobs_text(path: Path) -> str:
    """A file of jobs (JSON, or lines of JSON) as one text. Raises UsageError."""
    text = _read(path, "--jobs")
    try:
        entries: Any = json.loads(text)
    except ValueError:
        try:
            entries = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise UsageError(f"--jobs {clean(path)} is not JSON: {error}") from None
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":"))


def first_script(jobs: str) -> str:
    """The first program that a list of jobs names: the entrypoint of a command that names none. Raises UsageError."""
    from racksack_jobspecs.sweep.scripts import scripts_of

    try:
        scripts = scripts_of(json.loads(jobs))
    except ValueError as error:
        raise UsageError(f"--jobs: {error}") from None
    without = [one.job_id for one in scripts if not one.script]
    if without or not scripts:
        which = f"job {clean(without[0])}" if without else "it"
        raise UsageError(
            f"--jobs: {which} names no script; add one, or name the program: racksack sweep run DIR PROGRAM"
        )
    return scripts[0].script


def space_of_file(path: Path) -> dict[str, Value]:
    """The keys of `sweep` in a YAML or JSON file: a mapping of parameters alone, or with `params:`, `where:`, ...

    Raises UsageError.
    """
    from racksack_jobspecs import yamltext

    try:
        root = yamltext.load(_read(path, "--space"))
    except yamltext.YamlError as error:
        raise UsageError(f"--space {clean(path)}: {error}") from None
    if not isinstance(root, yamltext.Mapping):
        raise UsageError(f"--space {clean(path)} is not a mapping; write lines such as stop_loss: 20:80:2")
    found: dict[str, Value] = {key.text: value for key, value in root.entries}
    if not any(key in _SPACE_KEYS for key in found):
        return {"params": found}
    if "parameters" in found:
        found["params"] = found.pop("parameters")
    if "constraints" in found:
        found["where"] = found.pop("constraints")
    if "metrics" in found:
        found["metric"] = found.pop("metrics")
    return found


def merged(space: dict[str, Value], options: dict[str, Value]) -> dict[str, Value]:
    """A space with what options add; an option wins over the file, parameters by name."""
    params = options.get("params")
    whole = {**space, **options}
    from_file = space.get("params")
    if params is not None and from_file is not None:
        both = _items(from_file)
        both.update(_items(params))
        whole["params"] = both
    return whole


def _items(value: Value) -> dict[str, Value]:
    from racksack_jobspecs import yamltext

    if isinstance(value, yamltext.Mapping):
        return {key.text: item for key, item in value.entries}
    return dict(value) if isinstance(value, Mapping) else {}


def where_value(expressions: Sequence[str]) -> Value | None:
    """One expression, or several of which all must hold."""
    if not expressions:
        return None
    return expressions[0] if len(expressions) == 1 else list(expressions)


def _read(path: Path, option: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(SPACE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{option} {clean(path)} cannot be read: {error.strerror}") from error
    if len(data) > SPACE_BYTES_MAX:
        raise UsageError(f"{option} {clean(path)} is larger than {SPACE_BYTES_MAX // 1024} KiB; split it")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{option} {clean(path)} is not UTF-8 text") from None
