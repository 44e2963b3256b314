"""`racksack node check NODE --rehearse`: an empty node is switched off and on again by the running controller.

The controller does the switching, so its own ladder is what is tried, and it remembers what it measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from racksack_jobspecs.findings import Finding, ok
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.units import format_duration

LOOK_EVERY_S = 0.5
REASON = "a test of its power control"
Say = Callable[[str], None]


class RehearsalError(Exception):
    """The rehearsal could not be held, or failed; one sentence."""


class RefusedError(RehearsalError):
    """The node is not in a state in which one may be held; nothing was done."""


class _Controller:
    """The API of the controller on this machine."""

    def __init__(self, socket: Path, node: str) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)))
        self._node = node

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def node(self) -> dict[str, Any]:
        """The node as it is."""
        return await self._answer(self._session.get(self._url("")))

    async def tell(self, what: str, **body: object) -> None:
        """Have something done with the node."""
        await self._answer(self._session.post(self._url(f"/{what}"), json=body))

    def _url(self, rest: str) -> str:
        return f"http://controller/api/v1/nodes/{self._node}{rest}"

    async def _answer(self, asked: Any) -> dict[str, Any]:  # noqa: ANN401 - aiohttp's context manager
        try:
            async with asked as response:
                found: dict[str, Any] = await response.json()
        except (aiohttp.ClientError, OSError) as error:
            raise RehearsalError(
                f"the controller does not answer ({error}); start it: the controller switches the node"
            ) from error
        if response.status >= 400:
            raise RefusedError(str(found.get("error", response.reason)))
        return found


async def rehearse(spool: Path, node: str, say: Say) -> list[Finding]:
    """Drain, switch off, switch on, resume; how long both took. Raises RehearsalError."""
    async with _Controller(Spool(spool).socket, node) as controller:
        before = await controller.node()
        _check(before)
        was_drained = before["draining_reason"] is not None
        if not was_drained:
            await controller.tell("drain", reason=REASON)
        try:
            return await _off_and_on(controller, before, say)
        finally:
            if not was_drained:
                await asyncio.shield(controller.tell("resume"))


def _check(node: dict[str, Any]) -> None:
    power, name = node["power"], node["name"]
    if power is None:
        raise RefusedError(f"{name} has no power block, so there is nothing to test")
    if not power["switches_off"]:
        raise RefusedError(f"{name} is never switched off: its power block has no `off`")
    if power["on_behind"]:
        other = power["on_behind"][0]
        raise RefusedError(f"{other} is on and is reached through {name}; switch it off first")
    if node["jobs"]:
        jobs = ", ".join(map(str, node["jobs"]))
        raise RefusedError(f"{name} is busy with job {jobs}; this test needs an empty node")
    if power["logins"]:
        raise RefusedError(f"a user is logged in on {name}")
    if power["phase"] not in ("on", "off"):
        raise RefusedError(f"{name} is {node['state'].replace('_', ' ')}: {power['why']}; wait until it is on or off")


async def _off_and_on(controller: _Controller, before: dict[str, Any], say: Say) -> list[Finding]:
    name = before["name"]
    if before["power"]["phase"] == "off":
        say(f"{name} is off; it is switched on first")
        await _switch(controller, "on", _is_on)
    say(f"{name} is being switched off")
    off_s = await _switch(controller, "off", lambda node: node["power"]["phase"] == "off")
    say(f"{name} was off after {format_duration(off_s)}, and is being switched on")
    boot_s = await _switch(controller, "on", _is_on)
    say(f"{name} took jobs after {format_duration(boot_s)}")
    return [
        ok("rehearsal", f"off after {format_duration(off_s)}, on and connected after {format_duration(boot_s)}"),
        ok("rehearsal", "both times are stored; the controller plans with them from now on"),
    ]


def _is_on(node: dict[str, Any]) -> bool:
    return node["power"]["phase"] == "on" and node["connected_at_s"] is not None


async def _switch(controller: _Controller, act: str, done: Callable[[dict[str, Any]], bool]) -> float:
    """Ask for it and wait; how long it took in seconds. Raises RehearsalError when the controller gave it up."""
    failures = (await controller.node())["power"]["failures"]
    began_s = time.monotonic()
    await controller.tell("power", act=act)
    while True:
        node = await controller.node()
        if done(node):
            return time.monotonic() - began_s
        if node["power"]["failures"] > failures:
            raise RehearsalError(f"{node['name']} {node['power']['why']}")
        await asyncio.sleep(LOOK_EVERY_S)
