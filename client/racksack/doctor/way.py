"""The way to the controller: the login over ssh, what is found there, the answer, versions and clocks."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

from racksack.client import Client
from racksack.errors import RacksackError
from racksack.transport import ssh
from racksack_jobspecs.findings import Finding, clock, failed, ok, warning

LOGIN_S = 60.0
_MARK = "racksack-doctor "
_NEEDED = ("python3", "rsync")
_PROBE = f"for program in {' '.join(_NEEDED)}; do "
_PROBE += f'if command -v "$program" >/dev/null; then echo "{_MARK}$program"; fi; done; echo "{_MARK}end"'


def look_at_login(host: str) -> list[Finding]:
    """Log in on the controller's machine as every command does, and see what they need there."""
    began = time.monotonic()
    try:
        said = ssh.run(host, ["sh", "-c", _PROBE], timeout_s=LOGIN_S).decode(errors="replace")
    except RacksackError as error:
        return [failed("login", f"{error}; `ssh {host} true` must work")]
    took_s = time.monotonic() - began
    lines = said.splitlines()
    if f"{_MARK}end" not in lines:
        return [failed("login", f"the login on {host} runs no commands: it said {_short(said)}")]
    findings = [ok("login", f"ssh to {host} took {took_s:.2f} s")]
    missing = [program for program in _NEEDED if f"{_MARK}{program}" not in lines]
    if missing:
        names = " and ".join(missing)
        findings.append(failed("programs there", f"{host} has no {names} in the PATH of a login; install them there"))
    noise = [line for line in lines if line.strip() and not line.startswith(_MARK)]
    if noise:
        findings.append(
            warning(
                "shell there",
                f"its start files print {_short(noise[0])} for commands too, which rsync does not bear; let them do so "
                "only in an interactive shell",
            )
        )
    return findings


def _short(text: str) -> str:
    words = " ".join(text.split())
    return repr(words if len(words) <= 60 else f"{words[:60]}...") if words else "nothing"


def ask_controller(client: Client) -> tuple[dict[str, Any], float, float]:
    """What the controller says of itself, how long that took, and how far its clock is ahead, in seconds.

    Raises RacksackError. The time includes opening the connection; the clock is compared over an open one.
    """
    began = time.monotonic()
    client.controller()
    took_s = time.monotonic() - began
    before = time.time()
    facts = client.controller()
    there_s = facts.get("now_s")
    if not isinstance(there_s, int | float):
        raise RacksackError("the controller's answer lacks its time")
    return facts, took_s, there_s - (before + time.time()) / 2


def look_at_answer(facts: dict[str, Any], took_s: float, skew_s: float) -> list[Finding]:
    """How the controller answered, and whether it goes with this client."""
    return [
        ok("connection", f"the controller answered in {took_s:.2f} s"),
        _versions(str(facts.get("version"))),
        clock("clock", -skew_s, "the controller's"),
    ]


def _versions(theirs: str) -> Finding:
    ours = version("racksack")
    if ours == theirs:
        return ok("versions", f"the controller is {theirs} too")
    return warning("versions", f"this client is {ours}, the controller is {theirs}; install one version on both")
