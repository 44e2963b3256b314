"""A search that learns, in a sandbox process of its own, where it lasts from request to request."""

from __future__ import annotations

from typing import Any

import msgspec

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sandbox.refused import RefusedError
from racksack_jobspecs.sweep.spec import Params

_encode = msgspec.msgpack.Encoder().encode
_search: Any = None  # the one Drawer of this process


class Begin(msgspec.Struct, frozen=True):
    """A sweep, what was drawn of it and what came of that, and what an earlier sweep has found."""

    sweep: Sweep
    drawn: list[Params]
    outcomes: list[tuple[int, float | None]]
    known: list[tuple[Params, float]]


class Go(msgspec.Struct, frozen=True):
    """What came of points since the last request, and how many points are wanted."""

    outcomes: list[tuple[int, float | None]]
    count: int


def begin(data: bytes) -> bytes:
    """Begin -> nothing."""
    global _search  # noqa: PLW0603 - it is what this process is for
    from racksack_controller.sweeps.search.optuna_search import make_drawer
    from racksack_controller.sweeps.search.samplers import SearchError

    wanted = msgspec.msgpack.decode(data, type=Begin)
    try:
        _search = make_drawer(wanted.sweep, wanted.drawn, wanted.outcomes, wanted.known)
    except SearchError as error:
        raise RefusedError(str(error)) from None
    return b""


def draw(data: bytes) -> bytes:
    """Go -> the parameters of the next points."""
    from racksack_controller.sweeps.search.samplers import SearchError

    wanted = msgspec.msgpack.decode(data, type=Go)
    try:
        _search.tell(wanted.outcomes)
        return _encode(_search.draw(wanted.count) if wanted.count > 0 else [])
    except SearchError as error:
        raise RefusedError(str(error)) from None
