"""JobSpec -> job file: YAML text that `parse_job` reads back to the same spec. Nothing is imported for it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from racksack_jobspecs.dependency import format_dependency
from racksack_jobspecs.recurrence import Recurrence
from racksack_jobspecs.resources import GpuRequest
from racksack_jobspecs.spec import ArraySpec, DataUse, Environment, JobSpec
from racksack_jobspecs.sweep.spec import SweepSpec
from racksack_jobspecs.units import exact_duration, exact_memory
from racksack_jobspecs.yamlscalar import quoted


def job_file(spec: JobSpec) -> str:
    """The text of a job file. Raises ValueError for text that is not Unicode (a file name in another encoding)."""
    lines = [f"{key}: {value}" for key, value in _entries(spec) if value]
    return "\n".join(lines) + "\n"


def _entries(spec: JobSpec) -> Iterable[tuple[str, str]]:
    """All keys with their values as YAML, empty where the default says the same."""
    default = JobSpec(name="", project="", entrypoint="")
    env = {key: value for key, value in spec.env.items() if not key.startswith("RACKSACK_")}
    yield "name", quoted(spec.name)
    yield "project", quoted(spec.project)
    yield "entrypoint", quoted(spec.entrypoint)
    yield "digest", quoted(spec.digest) if spec.digest else ""
    yield "args", _list(spec.args)
    yield "sweep", "" if spec.sweep is None else _sweep(spec.sweep)
    yield "cpus", number(spec.resources.cpus)
    yield "ram", exact_memory(spec.resources.ram_bytes)
    yield "gpus", _gpus(spec.resources.gpus)
    yield "disk", exact_memory(spec.resources.disk_bytes) if spec.resources.disk_bytes else ""
    yield "time_limit", "" if spec.time_limit_s is None else exact_duration(spec.time_limit_s)
    yield "env", "{" + ", ".join(f"{quoted(key)}: {quoted(value)}" for key, value in env.items()) + "}" if env else ""
    yield "secrets", _list(spec.secrets)
    yield "environment", _environment(spec.environment)
    yield "outputs", _list(spec.outputs)
    yield "new_files", "" if spec.new_files == default.new_files else spec.new_files
    yield "max_output", "" if spec.max_output_bytes == default.max_output_bytes else exact_memory(spec.max_output_bytes)
    yield "retries", str(spec.retries) if spec.retries or spec.retry_on != default.retry_on else ""
    yield "no_retry_on", _list(spec.no_retry_on)
    yield "retry_delay", "" if spec.retry_delay_s == default.retry_delay_s else exact_duration(spec.retry_delay_s)
    yield "retry_on", "" if spec.retry_on == default.retry_on else _list(spec.retry_on) or "[]"
    yield "oom_factor", number(spec.oom_factor) if spec.oom_factor != 1.0 else ""
    yield "partition", quoted(spec.partition) if spec.partition else ""
    yield "priority", str(spec.priority or "")
    yield "after", _list(map(format_dependency, spec.after))
    yield "labels", _list(spec.labels)
    yield "nodes", _list(spec.nodes)
    yield "exclude", _list(spec.exclude)
    yield "array", "" if spec.array is None else _array(spec.array)
    yield "data", f"[{', '.join(map(_data, spec.data))}]" if spec.data else ""
    yield "shared", _list(spec.shared)
    yield "stage_in_ram", _list(spec.stage_in_ram)
    yield "hold", "true" if spec.hold else ""
    yield "begin", "" if spec.begin_at_s is None else _moment(spec.begin_at_s)
    yield "no_wake", "true" if spec.no_wake else ""
    yield "deadline", "" if spec.deadline_at_s is None else _moment(spec.deadline_at_s)
    yield "gang", str(spec.gang) if spec.gang != 1 else ""
    yield "preemptible", "true" if spec.preemptible else ""
    yield "grace", "" if spec.grace_s is None else exact_duration(spec.grace_s)
    yield "warn", quoted(f"{exact_duration(spec.warn_s)}:{spec.warn_signal}") if spec.warn_s else ""
    yield "slurm_env", "true" if spec.slurm_env else ""
    yield "every", "" if spec.every is None else _every(spec.every)
    yield "notify", _list(spec.notify)
    yield "resubmit_on", _list(map(str, spec.resubmit_on))
    yield "checkpoint", _list(spec.checkpoint)
    every_s = spec.checkpoint_every_s
    yield "checkpoint_every", "" if every_s == default.checkpoint_every_s else exact_duration(every_s)
    yield "interactive", "true" if spec.interactive else ""
    yield "submission", quoted(spec.submission) if spec.submission else ""


def _sweep(sweep: SweepSpec) -> str:
    from racksack_jobspecs.sweep.write import sweep_text  # here, because it needs the parser of values

    return sweep_text(sweep)


def _data(use: DataUse) -> str:
    parts = [("name", quoted(use.name))]
    parts += [("version", str(use.version))] if use.version is not None else []
    parts += [("from", quoted(use.content))] if use.content else []
    parts += [("digest", quoted(use.digest))] if use.digest else []
    parts += [("path", quoted(use.path))] if use.path else []
    return "{" + ", ".join(f"{key}: {value}" for key, value in parts) + "}"


def number(value: float) -> str:
    """A count without a trailing `.0`."""
    return str(int(value)) if value == int(value) else repr(value)


def _list(items: Iterable[str]) -> str:
    text = ", ".join(map(quoted, items))
    return f"[{text}]" if text else ""


def _every(every: Recurrence) -> str:
    zone = f", zone: {quoted(every.zone)}" if every.zone else ""
    return f'{{at: "{every.cron}"{zone}, overlap: {every.overlap}}}'


def _gpus(gpus: GpuRequest | None) -> str:
    if gpus is None:
        return ""
    parts = [f"count: {number(gpus.count)}"]
    if gpus.model is not None:
        parts.append(f"model: {quoted(gpus.model)}")
    if gpus.vram_bytes is not None:
        parts.append(f"vram: {exact_memory(gpus.vram_bytes)}")
    return number(gpus.count) if len(parts) == 1 else "{" + ", ".join(parts) + "}"


def _environment(environment: Environment) -> str:
    if environment == Environment():
        return ""
    if environment == Environment(environment.kind):
        return environment.kind
    parts = [f"kind: {environment.kind}"]
    if environment.file is not None:
        parts.append(f"file: {quoted(environment.file)}")
    if environment.python is not None:
        parts.append(f"python: {quoted(environment.python)}")
    parts += [f"{key}: {_list(names)}" for key in ("extras", "groups") if (names := getattr(environment, key))]
    parts += [f"index_url: {quoted(environment.index_url)}"] if environment.index_url else []
    parts += [f"extra_index_urls: {_list(environment.extra_index_urls)}"] if environment.extra_index_urls else []
    return "{" + ", ".join(parts) + "}"


def _array(array: ArraySpec) -> str:
    text = ",".join(f"{first}-{last}" if last > first else str(first) for first, last in _runs(array.indices))
    return f'"{text}%{array.max_running}"' if array.max_running else f'"{text}"'


def _runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    """The unbroken runs of sorted indices, as first and last."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def _moment(begin_at_s: float) -> str:
    if begin_at_s != int(begin_at_s):
        return f"{begin_at_s:.9f}"  # repr would write small ones with an exponent
    return f'"{datetime.fromtimestamp(begin_at_s, UTC).isoformat()}"'
