"""Checks of what a request holds, each with its sentence."""

from __future__ import annotations

import re
from typing import Any, Dict, Tuple, Type, Union

from racksack_agent.problems import RefusedError
from racksack_agent.supervisor import signals

_ATTEMPT = re.compile(r"[A-Za-z0-9_-]{1,64}\.[0-9]{1,9}(@[0-9]{1,9})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_REQUIRED = object()


Kind = Union[Type[Any], Tuple[Type[Any], ...]]


def field(request: Dict[str, Any], name: str, kind: Kind, default: Any = _REQUIRED) -> Any:  # noqa: ANN401 - any JSON
    """A field of the right type. Raises RefusedError when it is missing (and has no default) or of another type."""
    value = request.get(name, default)
    if value is _REQUIRED:
        raise RefusedError("bad_request", f"{name} is missing")
    if value is default:
        return value
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = kind.__name__ if isinstance(kind, type) else " or ".join(one.__name__ for one in kind)
        raise RefusedError("bad_request", f"{name} is {type(value).__name__}, not {wanted}")
    return value


def names(request: Dict[str, Any], name: str) -> list[str]:
    """A list of text. Raises RefusedError."""
    values = field(request, name, list)
    if not all(isinstance(value, str) for value in values):
        raise RefusedError("bad_request", f"{name} must be a list of text")
    return list(values)


def attempt_name(value: object) -> str:
    """A name that is safe as a folder's and as a session's. Raises RefusedError."""
    if not isinstance(value, str) or not _ATTEMPT.fullmatch(value):
        raise RefusedError("bad_request", f"{value!r} is not the name of an attempt, like 42.1")
    return value


def signal_name(request: Dict[str, Any], name: str, default: str) -> str:
    """The name of a signal, such as TERM. Raises RefusedError for one that does not exist."""
    value = str(field(request, name, str, default))
    try:
        signals.number_of(value)
    except ValueError as problem:
        raise RefusedError("bad_request", f"{name}: {problem}") from problem
    return value


def digest(value: object) -> str:
    """64 hexadecimal digits. Raises RefusedError."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise RefusedError("bad_request", f"{value!r} is not a digest of 64 hexadecimal digits")
    return value
