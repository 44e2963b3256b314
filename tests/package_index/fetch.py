"""Asks an address once."""

from __future__ import annotations

import aiohttp


async def status_of(url: str) -> int | None:
    """The status of the answer; None when nobody answers."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status
    except aiohttp.ClientError:
        return None
