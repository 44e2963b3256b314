"""Names of users by their ids, kept for a few minutes.

A directory service may take seconds to answer: the event loop asks for names that were learnt in a thread before. They
are asked for again in time, since an account may be renamed, or its id given to somebody else.
"""

from __future__ import annotations

import asyncio
import pwd
import time

KEPT_S = 300.0
KEPT_MAX = 10_000

_names: dict[int, tuple[float, str]] = {}


def name_of(uid: int) -> str:
    """The name of a user id, or the number as text where it has none. May block where it was not learnt."""
    known = _names.get(uid)
    if known is None:
        return _look_up(uid)
    return known[1]


async def learn(uid: int) -> None:
    """Have `name_of` answer at once, from what is not older than a few minutes."""
    known = _names.get(uid)
    if known is None or time.monotonic() - known[0] > KEPT_S:
        await asyncio.to_thread(_look_up, uid)


def learn_here(uid: int) -> str:
    """The name, looked up in this thread where it is older than a few minutes."""
    known = _names.get(uid)
    return known[1] if known is not None and time.monotonic() - known[0] <= KEPT_S else _look_up(uid)


def _look_up(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    if len(_names) >= KEPT_MAX:
        _names.clear()
    _names[uid] = (time.monotonic(), name)
    return name
