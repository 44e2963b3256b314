"""What options of the command line stand for in a job file; which of them are good, the parser of job files says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from racksack.errors import UsageError
from racksack.submission.draft import Value
from racksack_jobspecs.units import parse_duration

_PLAIN = ("name", "priority", "cpus", "ram", "disk", "python", "requirements", "submission")


def job_values(options: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Value | None]:
    """The keys that `submit` and `sweep run` both have options for; None where an option was not given.

    Raises UsageError.
    """
    values: dict[str, Value | None] = {key: options[key] for key in _PLAIN}
    return values | {
        "args": list(arguments) or None,
        "gpus": gpu_value(options["gpus"], options["vram"], options.get("gpu_share")),  # a share only of `submit`
        "env": environment(options["env"], options["env_file"]) or None,
        "environment": venv_value(options),
        "after": ",".join(options["after"]) or None,
        "labels": ",".join(options["labels"]) or None,
        "nodes": ",".join(options["nodes"]) or None,
        "exclude": ",".join(options["exclude_node"]) or None,
        "stage_in_ram": list(options["ramdisk"]) or None,
        "hold": True if options["hold"] else None,
        "no_wake": True if options["no_wake"] else None,
    }


def venv_value(options: Mapping[str, Any]) -> Value | None:
    """What stands under `environment` in a job file. Raises UsageError."""
    chosen: dict[str, Value] = {
        "extras": list(options.get("extra", ())),
        "groups": list(options.get("group", ())),
        "index_url": options.get("index_url") or "",
        "extra_index_urls": list(options.get("extra_index_url", ())),
    }
    if not any(chosen.values()):
        return "none" if options["no_venv"] else None
    if options["no_venv"]:
        given = next(key for key, value in chosen.items() if value)
        option = {"extras": "extra", "groups": "group", "extra_index_urls": "extra-index-url"}.get(given, "index-url")
        raise UsageError(f"--{option} says what comes into the venv; --no-venv means none")
    return {key: value for key, value in chosen.items() if value}


def gpu_value(gpus: str | None, vram: str | None, share: str | None) -> Value | None:
    """What stands under `gpus` in a job file."""
    if vram is None and share is None:
        return gpus
    value: dict[str, Value] = {}
    if gpus is not None:
        model, colon, count = gpus.rpartition(":")
        if not colon and not re.fullmatch(r"[0-9.-]+", gpus):
            model, count = gpus, ""
        value |= {key: word for key, word in (("model", model), ("count", count)) if word}
    return value | {key: word for key, word in (("vram", vram), ("share", share)) if word is not None}


def environment(pairs: Sequence[str], file: str | None) -> dict[str, str]:
    """Variables of --env-file and --env, the latter winning. Raises UsageError."""
    lines = [(line, str(file)) for line in _env_lines(file)] + [(pair, "--env") for pair in pairs]
    found: dict[str, str] = {}
    for line, source in lines:
        name, equals, value = line.partition("=")
        if not equals and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            hint = "; -e is --env, and stderr comes back as stderr.log" if source == "--env" else ""
            raise UsageError(f"{source}: {name!r} is not a variable's name; write NAME=VALUE{hint}")
        if not equals and name not in os.environ:
            raise UsageError(f"{source}: {name} has no value and is not set here; write {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def _env_lines(file: str | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = Path(file).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {file} cannot be read: {error}") from error
    return [_env_line(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _env_line(line: str) -> str:
    """As a shell would read it: without `export`, and without quotes around the whole value."""
    text = re.sub(r"^export\s+", "", line.strip())
    name, equals, value = text.partition("=")
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return f"{name.strip()}{equals}{value}"


def every_value(when: str | None, zone: str | None, overlap: str | None) -> Value | None:
    """The key `every`; None where it is not asked for. Raises UsageError."""
    if when is None:
        if zone is not None or overlap is not None:
            raise UsageError("--zone and --overlap are about --every, which is not there")
        return None
    found = {"at": when, "zone": zone or own_zone(), "overlap": overlap}
    return {key: value for key, value in found.items() if value}


def own_zone() -> str:
    """The name of this machine's time zone; empty where it has none."""
    named = os.environ.get("TZ", "").lstrip(":")
    place = os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    return named if "/" in named or named == "UTC" else place


def moment(text: str, now_s: float) -> str:
    """A time as a job file wants it: ISO 8601 with a zone. Local time, time of day and `+2h` are understood.

    now_s: by the controller's clock (Unix seconds).
    """
    now = datetime.fromtimestamp(now_s).astimezone()
    try:
        if text.startswith("+"):
            return (now + timedelta(seconds=parse_duration(text[1:]))).isoformat(timespec="seconds")
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", text):
            hour, minute = map(int, text.split(":"))
            then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return (then if then > now else then + timedelta(days=1)).isoformat(timespec="seconds")
        return datetime.fromisoformat(text).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        raise UsageError(f"--begin: {text!r} is not a time; write 20:00, 2026-08-01T20:00 or +2h") from None
