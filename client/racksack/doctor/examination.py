"""The order of what is looked at. What depends on something that failed is named and not looked at."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from racksack.client import Client
from racksack.doctor.programs import look_at_rsync, look_at_ssh
from racksack.doctor.settings import look_at_settings
from racksack.doctor.way import LOGIN_S, ask_controller, look_at_answer, look_at_login
from racksack.errors import NotAllowedError, NotFoundError, NotInstalledError, RacksackError, UnreachableError
from racksack.transport.target import Target
from racksack_jobspecs.findings import Finding, Verdict, failed, has_failed, not_looked_at, of_part, ok

_ASKED_OF_CONTROLLER = ("controller", "nodes", "jobs")
START_IT = "`systemctl status racksack` there says whether it runs, `journalctl -u racksack` why it ended"


def examine(option: str | None, nodes: Sequence[str]) -> Iterator[Finding]:
    """Findings as they are made. `option` is what `--controller` says; `nodes` are checked in full.

    Raises NotFoundError when there is no such node.
    """
    yield from of_part("client", [ok("version", f"racksack {version('racksack')}, Python {platform.python_version()}")])
    target, settings = look_at_settings(option)
    programs = [look_at_ssh(target is None or target.host is not None), look_at_rsync()]
    yield from of_part("client", [settings, *programs])
    if target is None:
        yield from _not_reached("it is not known which controller", "login", "connection")
    elif target.host is not None and programs[0].verdict is Verdict.FAILED:
        yield from _not_reached("there is no ssh to reach it with", "login", "connection")
    elif target.host is not None:
        login = look_at_login(target.host)
        yield from of_part("client", login)
        yield from _not_reached("the login failed", "connection") if has_failed(login[:1]) else _beyond(target, nodes)
    else:
        yield from _beyond(target, nodes)


def _not_reached(reason: str, *steps: str) -> Iterator[Finding]:
    yield from of_part("client", [not_looked_at(step, reason) for step in steps])
    yield from _unasked(_ASKED_OF_CONTROLLER, "cannot query the controller")


def _unasked(parts: Sequence[str], reason: str) -> Iterator[Finding]:
    for part in parts:
        yield from of_part(part, [not_looked_at("all", reason)])


def _beyond(target: Target, nodes: Sequence[str]) -> Iterator[Finding]:
    """From the connection on."""
    with Client(target) as client:
        client.limit_opening(LOGIN_S)
        try:
            answer = ask_controller(client)
        except RacksackError as error:
            yield from of_part("client", [_no_answer(target, error)])
            yield from _not_reached("")
            return
        yield from of_part("client", look_at_answer(*answer))
        yield from _asked(client, nodes)


def _no_answer(target: Target, error: RacksackError) -> Finding:
    if isinstance(error, NotAllowedError | NotInstalledError):
        return failed("connection", str(error))
    if not isinstance(error, UnreachableError):
        return failed("connection", f"{error}; is the controller a different version?")
    if target.home is None:
        return failed("connection", f"{error}; {START_IT}")
    log = str(target.home / "controller.log")
    return failed("connection", str(error) if log in str(error) else f"{error}; what it did last is in {log}")


def _asked(client: Client, nodes: Sequence[str]) -> Iterator[Finding]:
    """What the controller finds."""
    try:
        yield from client.doctor(nodes)
    except NotFoundError:
        raise
    except RacksackError as error:
        first, *others = _ASKED_OF_CONTROLLER
        yield from of_part(first, [failed("all", str(error))])
        yield from _unasked(others, "the controller did not answer")
