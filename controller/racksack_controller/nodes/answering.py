"""Whether a machine answers at all, without logging in: what tells a booted server from a dark one.

A closed port answers as well as an open one, since only a running system refuses. Through a jump host the machine's
silence counts only while the jump host itself answers: a broken way is no news of what lies behind it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from racksack_controller.nodes.errors import NodeError
from racksack_controller.nodes.settings import SshSettings

if TYPE_CHECKING:
    import asyncssh

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 2.0
_REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)

Answers = Callable[[], Awaitable[bool | None]]
"""True: it answers. False: it is silent. None: nothing can be said, since the way to it is broken."""


async def answers(settings: SshSettings, timeout_s: float = ANSWER_TIMEOUT_S) -> bool | None:
    """Whether the host of these settings answers on its SSH port within `timeout_s`."""
    if settings.jump is None:
        return await _answers_here(settings, timeout_s)
    return await _answers_behind(settings, settings.jump, timeout_s)


async def _answers_here(settings: SshSettings, timeout_s: float) -> bool | None:
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(settings.host, settings.port)
    except TimeoutError:
        return False
    except OSError as error:
        if error.errno == errno.ENETUNREACH:
            return None  # it is this machine that has no network
        return error.errno in _REFUSED
    writer.close()
    return True


async def _answers_behind(settings: SshSettings, jump: SshSettings, timeout_s: float) -> bool | None:
    from racksack_controller.nodes.openssh import hops
    from racksack_controller.nodes.ssh import connect

    way: list[asyncssh.SSHClientConnection] = []
    try:
        for alias, hop in hops(jump):
            way.append(await connect(alias, hop, way[-1] if way else None))
        return await _answers_from(way[-1], settings, timeout_s)
    except NodeError as error:
        log.debug("the way to %s is broken: %s", settings.address, error)
        return None
    finally:
        for connection in reversed(way):
            connection.abort()


async def _answers_from(jump: asyncssh.SSHClientConnection, settings: SshSettings, timeout_s: float) -> bool | None:
    import asyncssh

    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await jump.open_connection(settings.host, settings.port, encoding=None)
    except TimeoutError:
        return False
    except asyncssh.ChannelOpenError as error:
        return "refused" in str(error).lower()  # sshd hands on the words of its own connect()
    except (OSError, asyncssh.Error):
        return None
    writer.close()
    return True
