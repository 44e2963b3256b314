"""Options that take a duration, such as `2h`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    from racksack_jobspecs.units import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def duration_option(*names: str, help: str, default: str | None = None) -> Callable[[F], F]:  # noqa: A002 - as click's
    """An option whose value is a duration; the function gets seconds, or None."""
    return click.option(
        *names, metavar="TIME", callback=_seconds, default=default, show_default=default is not None, help=help
    )
